"""`python -m deepdft` lists the commands."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deepdft.__main__ import main
from deepdft.runs.compose import config_directory


def test_every_command_is_listed_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    shown = capsys.readouterr().out
    project = tomllib.loads((config_directory().parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for command in project["scripts"]:
        (line,) = [line for line in shown.splitlines() if line.split()[:1] == [command]]
        assert len(line.split()) > 3
    assert f"deepdft {project['version']}" in shown


def test_types_are_for_users_too() -> None:
    assert (Path(__file__).parents[1] / "deepdft" / "py.typed").is_file()


def test_a_reader_that_stops_ends_it_without_a_word() -> None:
    """As `python -m deepdft | true` does."""
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run([sys.executable, "-m", "deepdft"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert result.stderr == b""
    assert result.returncode != 0
