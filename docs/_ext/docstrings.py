"""Docstrings of this package are text with `names` in backticks: what reStructuredText reads into |ρ| is escaped."""

import re
from typing import Any

from sphinx.application import Sphinx

CODE = re.compile(r"(`[^`]+`)")


def escaped(line: str) -> str:
    """A line of a docstring as reStructuredText: bars and stars outside `code` stand for themselves."""
    return "".join(piece if piece.startswith("`") else re.sub(r"([|*])", r"\\\1", piece) for piece in CODE.split(line))


def _escape(_app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    indented_code = False
    for i, line in enumerate(lines):
        indented_code = line.startswith("    ") and (indented_code or (i > 1 and lines[i - 2].rstrip().endswith("::")))
        lines[i] = line if indented_code else escaped(line)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", _escape, priority=100)  # before napoleon makes markup of it
    return {"parallel_read_safe": True, "parallel_write_safe": True}
