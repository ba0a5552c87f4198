"""Blocks of numbers in text, read strictly: exactly the numbers that were written, or an error; never a shifted voxel.

Fortran leaves out the exponent letter when the exponent has three digits (`0.12345678901-100`), writes `D` for double
precision, stars for an overflow, and no blank before a minus sign when a column is too narrow. The first, second and
last are repaired where only one reading is possible; everything else is an error.
"""

from __future__ import annotations

import re
import warnings

import numpy as np
from numpy.typing import NDArray

from deepdft.io.columns import parse_columns
from deepdft.io.text import quoted

__all__ = ["parse_values", "repair"]

_LARGEST = 1e30  # a larger "density" must be a damaged exponent
_FORTRAN_D = re.compile(rb"(?<=[\d.])[Dd](?=[+-]?\d)")
_NO_LETTER = re.compile(rb"(\.\d+)([+-][1-9]\d\d)(?=[\s-]|\Z)")
_GLUED_MINUS = re.compile(rb"(?<=\d)([Ee][+-]\d{2,3})-(?=\d?\.\d)")
_TOKEN = re.compile(rb"[+-]?(\d*)\.(\d*)(?:[EeDd][+-](?:\d\d|[1-9]\d\d))?")


def parse_values(block: bytes, n_values: int, n_runs: int = 0) -> NDArray[np.float64]:
    """Read the numbers of a block of text.

    Args:
        block: text with numbers and nothing else.
        n_values: how many numbers it must hold.
        n_runs: number of equal runs of lines that the block consists of, 0 if lines are just filled one after
            another (cube files begin a new line after each run along z).

    Returns:
        (n_values,) float64.

    Raises:
        ValueError: if there are fewer or more numbers, one is not a finite number of sensible size, or one differs
            in form from all others (a digit was lost or added).
    """
    if n_runs == 0:
        # a minus sign without its blank, which made a line longer, stands where other numbers have a blank
        for text in (block, block.replace(b" -", b"-")):
            values = _parse_in_columns(text, n_values)
            if values is not None:
                return values
    return _parse_free(block, n_values, n_runs)


def _parse_in_columns(block: bytes, n_values: int) -> NDArray[np.float64] | None:
    """Read a block that stands in columns; None if it does not, or if anything is wrong with it."""
    columns = parse_columns(block, n_values)
    if columns is None or np.abs(columns[0]).max() > _LARGEST:
        return None
    values, end = columns
    first = block[: block.find(b"\n") + 1]
    n_first = values.size * len(first) // end  # numbers in a line
    if block[end + len(first) :].strip():
        return None
    if values.size == n_values and not block[end:].strip():
        return values
    # the last, shorter line; the line before it shows the form that its numbers must have
    try:
        last = _parse_free(first + block[end:], n_first + n_values - values.size, 0)
    except ValueError:
        return None
    return np.concatenate([values, last[n_first:]])


def _parse_free(block: bytes, n_values: int, n_runs: int) -> NDArray[np.float64]:
    """Like `parse_values`, for numbers separated by blanks."""
    values = _tokens(block)
    if values is None:
        block = repair(block)
        values = _tokens(block)
    if values is None:
        raise ValueError(f"{quoted(_first_bad_token(block), 40)} is not a number")
    if values.size != n_values:
        less = "fewer: it is truncated or a blank was lost" if values.size < n_values else "more"
        raise ValueError(f"expected {n_values} values, found {values.size}, {less}")
    if not np.isfinite(values).all() or np.abs(values).max(initial=0.0) > _LARGEST:
        index = int(np.flatnonzero(~(np.abs(values) <= _LARGEST))[0])
        raise ValueError(f"value {index + 1} is {values[index]:g}, expected finite numbers of sensible size")
    _check_form(block, n_values, n_runs)
    return values


def _tokens(block: bytes) -> NDArray[np.float64] | None:
    """All numbers of the text; None if some token is not a number."""
    if not block.strip():  # numpy returns [-1.] for blanks
        return np.empty(0)
    with warnings.catch_warnings():  # numpy before 2.4 warns and stops where later ones raise
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(block, sep=" ")
        except (ValueError, DeprecationWarning):
            return None


def repair(block: bytes) -> bytes:
    """Text with `D` exponents, missing exponent letters and columns joined at a minus sign rewritten properly."""
    block = _FORTRAN_D.sub(b"E", block)
    block = _NO_LETTER.sub(rb"\1E\2", block)
    return _GLUED_MINUS.sub(rb"\1 -", block)


def _first_bad_token(block: bytes) -> bytes:
    for token in block.split():
        try:
            float(token)
        except ValueError:
            return token
    return block  # pragma: no cover - numpy and Python agree on what a number is


def _check_form(block: bytes, n_values: int, n_runs: int) -> None:
    """Raise if nearly all numbers have the same form and one does not: it lost or gained a character.

    Programs write all numbers with the same count of significant digits, so a line of another length than its like
    (which costs little to find) is looked at number by number. Where many numbers differ, the file is free-format,
    and nothing can be said.
    """
    lines = _odd_lines(block.strip(b"\r\n"), n_runs)
    usual = _digits(lines[0])
    if usual is None:
        return
    last = lines[-1].split()[-1]
    exponents = lines[0].upper().count(b"E") == len(lines[0].split())
    if exponents and b"E" not in last.upper() and not block[-1:].isspace():
        raise ValueError(f"the last number {quoted(last)} has no exponent: the text is truncated")
    odd = [token for line in lines[1:] for token in line.split() if not _has_form(token, usual)]
    if odd and len(odd) <= max(1, n_values // 100):
        raise ValueError(
            f"{quoted(odd[0])} differs in form from the other numbers (with {usual} digits each): "
            "a character was lost or added"
        )


def _odd_lines(block: bytes, n_runs: int) -> list[bytes]:
    """A typical line, then all lines whose length differs from most lines at their place in a run, and the last."""
    ends = _line_ends(block)
    starts = np.concatenate([[0], ends[:-1] + 1])
    per_run = len(ends) // n_runs if n_runs and len(ends) % n_runs == 0 else 1
    different = _different(ends, per_run)
    if different.sum() > 1:  # perhaps only because a minus sign makes a line longer
        without_signs = _different(_line_ends(block.replace(b" -", b" ")), per_run)
        different = min(different, without_signs, key=np.sum)
    different[-1] = True
    usual = int(np.argmin(different)) if not different.all() else 0
    return [block[starts[line] : ends[line]] for line in (usual, *np.flatnonzero(different))]


def _line_ends(block: bytes) -> NDArray[np.intp]:
    """Positions of line ends; the end of the text counts as one."""
    return np.append(np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")), len(block))


def _different(ends: NDArray[np.intp], per_run: int) -> NDArray[np.bool_]:
    """Which lines differ in length from most lines at their place in a run of `per_run` lines."""
    lengths = np.diff(ends, prepend=-1).reshape(-1, per_run)  # (runs, lines of a run)
    common = np.array([np.bincount(column).argmax() for column in lengths.T])
    return np.asarray(lengths != common).ravel()


def _digits(line: bytes) -> int | None:
    """Number of significant digits that all numbers of a line have; None if they differ."""
    counts = set()
    for token in line.split():
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        counts.add(_significant(match))
    counts.discard(0)  # a zero has no significant digits
    return counts.pop() if len(counts) == 1 else None


def _significant(match: re.Match[bytes]) -> int:
    return len((match[1] + match[2]).lstrip(b"0"))


def _has_form(token: bytes, n_digits: int) -> bool:
    match = _TOKEN.fullmatch(token)
    return match is not None and _significant(match) in (0, n_digits)
