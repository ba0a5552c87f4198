"""Every command and every Python block in the documentation works; what is not run says why."""

import glob
import importlib
import os
import re
import shlex
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deepdft.errors import InputWarning
from deepdft.runs.compose import compose
from tests.cli.processes import running, wait_until
from tests.docs.snippets import PAGES, ROOT, Block, blocks, cheap, cheap_python, commands, first_of_sweep, is_run_here

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
NEEDED_FIRST = ROOT / "docs" / "tutorials" / "your-chgcars.md"
"""The page whose commands make data/mine and runs/mine, which other pages use."""
BLOCKS = {page: blocks(page) for page in PAGES}
WITH_BLOCKS = [NEEDED_FIRST, *(page for page in PAGES if BLOCKS[page] and page != NEEDED_FIRST)]


@pytest.fixture(scope="module")
def server(sandbox: Path) -> Iterator[str]:
    """A server of `deepdft-view` on a free port: its host and port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "deepdft.cli.view", f"port={port}"]
    with running(command, sandbox, os.environ | {"PYTHONPATH": str(ROOT)}) as process:

        def answers() -> bool:
            with socket.socket() as connection:
                return connection.connect_ex(("127.0.0.1", port)) == 0

        wait_until(answers, process)
        yield f"localhost:{port}"


@pytest.fixture(scope="module")
def done() -> set[tuple[str, ...]]:
    """Commands that have been run: the same command on another page need not run again."""
    return set()


def run_command(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command of this package in this process."""
    name, *arguments = cheap(command)
    words = [word for argument in arguments for word in (sorted(glob.glob(argument)) or [argument])]
    main = importlib.import_module(f"deepdft.cli.{name.removeprefix('deepdft-')}").main
    monkeypatch.setattr(sys, "argv", [name, *words])
    try:
        main()
    except SystemExit as end:
        if end.code:
            pytest.fail(f"{command}: exit status {end.code}")


def check_options(command: str) -> None:
    """Compose what a command that is not run asks for, so that its options exist."""
    name, *arguments = shlex.split(command)
    options = [first_of_sweep(one) for one in arguments if not one.startswith(("-", "hydra")) and "=" in one]
    if name != "deepdft-report" and not any(one.startswith("resume=") for one in options):
        compose(name.removeprefix("deepdft-"), options)


def run_shell(block: Block, folder: Path) -> None:
    """Run a whole block in bash."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    script = "set -euo pipefail\n" + block.body
    result = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{block.name}: {result.stderr}"


def run_python(block: Block, folder: Path, names: dict[str, object], server: str) -> None:
    """Run a block of Python with the names of those before it on the page, or save it under the name it begins with."""
    source = cheap_python(at_server(block, server).body if server else block.body)
    if saved := re.match(r"# (\w+\.py)\n", source):
        (folder / saved[1]).write_text(source)
        return
    code = compile("\n" * block.line + source, str(block.page), "exec")
    if not block.not_run:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)  # models that were trained for four steps
            exec(code, names)


def at_server(block: Block, server: str) -> Block:
    """A block that asks the server of the test."""
    return replace(block, body=block.body.replace("localhost:8050", server))


def run_block(block: Block, folder: Path, done: set[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    listed = commands(block.body)
    made = [command for command in listed if command.startswith("make ")]
    for command in made:
        assert command.split()[1] in TARGETS, f"{block.name}: {command}: there is no such target"
    ours = [command for command in listed if is_run_here(command)]
    if block.not_run:
        for command in ours:
            check_options(command)
    elif len(ours) + len(made) < len(listed):
        run_shell(block, folder)
    else:
        for command in ours:
            if (key := tuple(cheap(command))) not in done:
                run_command(command, monkeypatch)
                done.add(key)


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_works(
    page: Path,
    in_sandbox: Path,
    done: set[tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    server = request.getfixturevalue("server") if any(block.needs_server for block in BLOCKS[page]) else ""
    if page != NEEDED_FIRST:
        for block in BLOCKS[NEEDED_FIRST]:
            if block.language != "python":
                run_block(block, in_sandbox, done, monkeypatch)  # nothing where the page has been run
    names: dict[str, object] = {}
    for block in BLOCKS[page]:
        if block.language == "python":
            run_python(block, in_sandbox, names, server if block.needs_server else "")
        else:
            run_block(at_server(block, server) if block.needs_server else block, in_sandbox, done, monkeypatch)
