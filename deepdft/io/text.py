"""Tools of the text formats: a cursor over the lines of a header, and the mark that keeps what a format cannot hold.

A CHGCAR has no origin and is always periodic, a cube has no periodicity and no names for its fields. The writers append
a mark such as `[deepdft origin=1,2,3 pbc=FFF]` to the comment line, and the readers undo it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["Lines", "is_text", "join_mark", "mark_floats", "mark_pbc", "pbc_mark", "quoted", "split_mark"]

_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_.+\-*'()]*")
_MARK = re.compile(r"\s*\[deepdft((?: \w+=[^\s\]]*)*)\]")


class Lines:
    """Reads a header line by line from bytes; `position` is where the next line begins."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.position = 0
        self.number = 0

    def next(self, expected: str) -> str:
        """The next line without its end.

        Raises:
            ValueError: at the end of the text, naming what was expected there.
        """
        if self.position >= len(self.text):
            raise ValueError(f"ends after line {self.number}, where {expected} should follow")
        end = self.text.find(b"\n", self.position)
        end = len(self.text) if end < 0 else end
        line = self.text[self.position : end].decode("utf-8", "replace").rstrip("\r")
        self.position = end + 1
        self.number += 1
        return line

    def floats(self, n: int, expected: str, *, words_after: bool = False) -> list[float]:
        """The n numbers of the next line; with `words_after`, labels such as T, Fe3+, O1 or Ni_pv may follow.

        Raises:
            ValueError: if there are fewer or more.
        """
        line = self.next(expected)
        fields = line.split()
        try:
            values = [_float(field) for field in fields[:n]]
        except ValueError:
            values = []
        rest = fields[n:]
        if len(values) < n or (rest and not (words_after and all(map(_LABEL.fullmatch, rest)))):
            raise ValueError(f"line {self.number}: expected {expected}, got {quoted(line)}")
        return values


def quoted(text: str | bytes, length: int = 60) -> str:
    """The beginning of a text in quotation marks, for messages; bytes that are not text are described as such."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    beginning = text.strip()[:length]
    return repr(beginning) if is_text(beginning) else "bytes that are no text"


def is_text(decoded: str) -> bool:
    """Whether all bytes could be decoded to printable text."""
    return "\ufffd" not in decoded and all(letter.isprintable() or letter in "\t\r\n" for letter in decoded)


def _float(text: str) -> float:
    """A finite number as Python or Fortran writes it."""
    value = float(text.replace("D", "E").replace("d", "e"))
    if not abs(value) < float("inf") or "_" in text:
        raise ValueError(text)
    return value


def join_mark(comment: str, mark: dict[str, str]) -> str:
    """A comment line followed by a mark; anything in the comment that looks like a mark of ours is removed."""
    comment = " ".join(_MARK.sub("", comment).split())
    if not mark:
        return comment
    return f"{comment} [deepdft {' '.join(f'{key}={value}' for key, value in mark.items())}]".lstrip()


def split_mark(line: str) -> tuple[str, dict[str, str]]:
    """The comment without its mark, and the mark."""
    match = _MARK.search(line)
    if match is None:
        return line.strip(), {}
    mark = dict(field.split("=", 1) for field in match[1].split())
    return (line[: match.start()] + line[match.end() :]).strip(), mark


def mark_floats(mark: dict[str, str], key: str) -> list[float] | None:
    """Three numbers of a mark, or None."""
    if key not in mark:
        return None
    fields = mark[key].split(",")
    try:
        values = [_float(field) for field in fields]
    except ValueError:
        values = []
    if len(values) != 3:
        raise ValueError(f"{key}={quoted(mark[key])} in the comment line should be three numbers")
    return values


def mark_pbc(mark: dict[str, str]) -> list[bool] | None:
    """Three flags of a mark, or None."""
    if "pbc" not in mark:
        return None
    if not re.fullmatch("[TF]{3}", mark["pbc"]):
        raise ValueError(f"pbc={quoted(mark['pbc'])} in the comment line should be three letters T or F")
    return [letter == "T" for letter in mark["pbc"]]


def pbc_mark(pbc: Iterable[bool]) -> str:
    """Three flags as letters."""
    return "".join("T" if flag else "F" for flag in pbc)
