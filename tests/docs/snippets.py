"""The commands and Python blocks of the documentation, and how they are made cheap enough to run as a test.

A block is run unless a comment directly above it says why not:

    <!-- not run: needs VASP -->

The options of deepdft commands in such a block are still composed, so a renamed option fails. `<!-- server -->` runs
the block beside a server of `deepdft-view`, whose address replaces localhost:8050. A Python block that begins with the
name of a file, `# my_model.py`, is saved under it instead.

What is run differs from the page only in cost: `cheap` replaces or appends the settings in `SETTINGS`, and
`cheap_python` the patterns in `PYTHON`.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PAGES", "ROOT", "Block", "blocks", "cheap", "cheap_python", "commands", "first_of_sweep", "is_run_here"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(page for page in DOCS.rglob("*.md") if not {"generated", "_build"} & set(page.relative_to(DOCS).parts)),
]

BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*?) -->\n+)?"
    r"(?P<indent> *)```(?P<language>sh|bash|console|python)[^\n]*\n(?P<body>.*?)^ *```",
    re.MULTILINE | re.DOTALL,
)

SETTINGS = {
    "deepdft-train": {
        "trainer.max_steps": "4",
        "trainer.val_check_interval": "2",
        "trainer.log_every_n_steps": "2",
        "trainer.enable_progress_bar": "false",
        "callbacks.picture": "null",
        "data.num_workers": "0",
        "data.probes_per_structure": "50",
        "data.validation_probes": "50",
    },
    "deepdft-evaluate": {"limit": "2", "pictures": "0"},
    "deepdft-predict": {"spacing": "0.5", "picture": "false"},
    "deepdft-convert": {"workers": "1"},
}
"""What a command is given, in place of what the page gives."""

PYTHON = [
    (r'"max_steps": \d+', '"max_steps": 4, "val_check_interval": 2, "enable_progress_bar": False'),
    (r"trainer\.max_steps=\d+", "trainer.max_steps=4"),
    (r'"data": \{', '"data": {"num_workers": 0, "probes_per_structure": 50, "validation_probes": 50, '),
    (r"spacing=0\.\d+", "spacing=0.5"),
]
"""Pattern and replacement in Python blocks."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    body: str
    not_run: str
    """The reason why it is not run; "" if it is."""
    needs_server: bool
    """Whether `deepdft-view` has to be running."""

    @property
    def name(self) -> str:
        """Page and line."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The blocks of shell commands and of Python in a page."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        kind, _, reason = (match["note"] or "").partition(": ")
        assert kind in ("", "not run", "server"), f"{page}: <!-- {match['note']} -->: expected not run: the reason"
        assert kind != "not run" or reason, f"{page}: <!-- not run --> gives no reason"
        indent = len(match["indent"])
        body = "\n".join(line[indent:] for line in match["body"].splitlines())
        line = text.count("\n", 0, match.start("language")) + 1
        found.append(Block(page, line, match["language"], body, reason, kind == "server"))
    return found


def commands(body: str) -> list[str]:
    """The commands of a shell block, without comments, and with continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", body)
    lines = [re.sub(r"(^|\s)#\s.*$", "", line).strip() for line in joined.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line]


def is_run_here(command: str) -> bool:
    """Whether a command is one of this package, alone in its line, that can run in the process of the test."""
    return bool(re.match(r"deepdft-\w+( |$)", command)) and not re.search(r"[|;&><]|\$\(", command)


def cheap(command: str) -> list[str]:
    """The words of a command of this package, with settings that take a second or two."""
    name, *arguments = shlex.split(command)
    settings = dict(SETTINGS.get(name, {}))
    keys = {argument.partition("=")[0] for argument in arguments}
    if name == "deepdft-predict" and ("shape" in keys or "structure" not in keys):
        del settings["spacing"]
    if name == "deepdft-convert" and "verify" in keys:
        settings = {}
    if name == "deepdft-train" and "resume" in keys and "resume=auto" not in arguments:
        settings = {"trainer.max_steps": "6"} if "trainer.max_steps" in keys else {}
    if {"--help", "--version", "--cfg"} & keys:
        settings = {}
    if "-m" in arguments:
        arguments = [first_of_sweep(argument) for argument in arguments]
    kept = [argument for argument in arguments if argument.partition("=")[0] not in settings]
    return [name, *kept, *(f"{key}={value}" for key, value in settings.items())]


def first_of_sweep(argument: str) -> str:
    """A swept option with its first value only; of a sweep over seeds, which are an ensemble, all are kept."""
    key, equals, value = argument.partition("=")
    return f"{key}{equals}{value.split(',')[0]}" if key != "seed" and value[:1] not in ("[", "{") else argument


def cheap_python(code: str) -> str:
    """A block of Python with settings that take a second or two."""
    for pattern, replacement in PYTHON:
        code = re.sub(pattern, replacement, code)
    return code
