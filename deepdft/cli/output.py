"""Output in a terminal whose encoding lacks a character: the closest one that it has, never an error."""

from __future__ import annotations

import codecs
import io
import os
import sys

__all__ = ["degrade_output"]

NEAREST = str.maketrans(
    {"ε": "eps", "ρ": "rho", "Δ": "Delta", "√": "sqrt", "…": "...", "•": "-", "–": "-", "—": "-", "−": "-", "→": "->"}
    | {"←": "<-", "≤": "<=", "≥": ">=", "≪": "<<", "≫": ">>", "∫": "int ", "π": "pi", "σ": "sigma", "Å": "A", "×": "x"}
    | {
        "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
        "½": "1/2",
        "²": "^2",
        "³": "^3",
        "⁻": "^-",
        "₂": "2",
        "₆": "6",
        "₀": "0",
        "█": "#",
        "│": "|",
        "─": "-",
    }
    | {"━": "-", "╸": "-", "╺": "-", "’": "'", "“": '"', "”": '"', "\N{NO-BREAK SPACE}": " "}
)
"""ASCII replacements for characters of our messages."""


def degrade_output() -> None:
    """Make stdout and stderr replace characters that their encoding lacks by ASCII; child processes use UTF-8."""
    codecs.register_error("deepdft.nearest", _nearest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="deepdft.nearest")
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr.errors == "backslashreplace":
        sys.stderr.reconfigure(errors="deepdft.nearest")
    os.environ.setdefault("PYTHONUTF8", "1")


def _nearest(error: UnicodeError) -> tuple[str, int]:
    """Replacement for characters that cannot be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(NEAREST)
    return text.encode("ascii", "replace").decode(), error.end
