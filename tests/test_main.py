"""`python -m deepdft` lists the commands."""

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
