"""Numbers in columns of fixed width, decoded with one matrix product instead of one by one.

The first line shows where digits, signs, points and exponents stand. Every byte of all other lines is checked against
it, so that text of any other form is noticed and left to the reader of free text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepdft import chunks

__all__ = ["parse_columns"]

_NUMBER = re.compile(rb" *[ +-](\d*)\.(\d+)E([+-])(\d\d)(?!\d)")
_DIGITS = 7  # with so many digits a float32 sum is exact
_LARGEST = 120  # powers of ten that are needed: two digits of exponent, and those of the mantissa
_POWERS = np.array([float(f"1e{k}") for k in range(_LARGEST)])


@dataclass(frozen=True)
class _Layout:
    line: NDArray[np.uint8]
    """(length,) the first line with its end."""
    digit: NDArray[np.bool_]
    """(length,) where digits stand."""
    free: NDArray[np.bool_]
    """(length,) where digits and signs stand: what may change from line to line."""
    weights: NDArray[np.float32]
    """(length, n_columns × 3) value of a digit in the upper and lower part of its mantissa, and in its exponent."""
    signs: NDArray[np.intp]
    """(n_columns,) where the sign of each number stands."""
    exponent_signs: NDArray[np.intp]
    """(n_columns,) where the sign of each exponent stands."""
    n_decimals: int
    """Digits after the decimal point."""

    @property
    def n_columns(self) -> int:
        """Numbers in a line."""
        return len(self.signs)


def parse_columns(block: bytes, n_values: int) -> tuple[NDArray[np.float64], int] | None:
    """Read all full lines of a block in which numbers stand in columns.

    Args:
        block: text that begins with a line of numbers.
        n_values: how many numbers there should be at least.

    Returns:
        The numbers of the full lines (n_values // columns × columns,) and the position behind them; None if the text
        is not in columns of one form, such as " 0.12345678901E+02".
    """
    layout = _layout(block[: block.find(b"\n") + 1])
    if layout is None:
        return None
    length, n_lines = len(layout.line), n_values // layout.n_columns
    if n_lines == 0 or len(block) < n_lines * length:
        return None
    lines = np.frombuffer(block, np.uint8, n_lines * length).reshape(n_lines, length)
    values = np.empty((n_lines, layout.n_columns))
    step = max(1, chunks.CPU.bytes_in_columns // length)
    for first in range(0, n_lines, step):
        if not _decode(lines[first : first + step], layout, values[first : first + step]):
            return None
    return values.ravel(), n_lines * length


def _layout(line: bytes) -> _Layout | None:
    """The layout of a line, or None if its numbers are not all of one form."""
    matches = list(_NUMBER.finditer(line))
    if not matches or b"".join(match[0] for match in matches) != line.rstrip():
        return None
    n_decimals = len(matches[0][2])
    if any(len(match[2]) != n_decimals for match in matches):
        return None
    if max(len(match[1]) for match in matches) + n_decimals > 2 * _DIGITS:
        return None
    weights = np.zeros((len(line), 3 * len(matches)), dtype=np.float32)
    for column, match in enumerate(matches):
        places = [*range(*match.span(1)), *range(*match.span(2))]  # of the digits of the mantissa, first to last
        for power, place in enumerate(reversed(places)):
            part, power_of_part = divmod(power, _DIGITS)
            weights[place, 3 * column + 1 - part] = 10.0**power_of_part
        for power, place in enumerate(reversed(range(*match.span(4)))):
            weights[place, 3 * column + 2] = 10.0**power
    digit: NDArray[np.bool_] = np.asarray(weights.any(axis=1))
    signs = np.array([match.start(1) - 1 for match in matches])
    exponent_signs = np.array([match.start(3) for match in matches])
    free: NDArray[np.bool_] = digit.copy()
    free[signs] = free[exponent_signs] = True
    return _Layout(np.frombuffer(line, np.uint8), digit, free, weights, signs, exponent_signs, n_decimals)


def _decode(lines: NDArray[np.uint8], layout: _Layout, values: NDArray[np.float64]) -> bool:
    """Decode some lines (n, length) into values (n, n_columns); False if a byte is out of place."""
    digits = lines - np.uint8(ord("0"))  # whatever is not a digit is 10 or more
    is_digit = digits <= 9
    signs, exponent_signs = lines[:, layout.signs], lines[:, layout.exponent_signs]
    minus, exponent_minus = signs == ord("-"), exponent_signs == ord("-")
    if not (
        (is_digit == layout.digit).all()
        and ((lines == layout.line) | layout.free).all()
        and (minus | (signs == ord(" ")) | (signs == ord("+"))).all()
        and (exponent_minus | (exponent_signs == ord("+"))).all()
    ):
        return False
    parts = (digits.astype(np.float32) @ layout.weights).reshape(len(lines), -1, 3)  # (n, n_columns, 3)
    mantissa = parts[..., 0].astype(np.float64) * 10.0**_DIGITS + parts[..., 1]
    exponent = np.where(exponent_minus, -parts[..., 2], parts[..., 2]).astype(np.intp) - layout.n_decimals
    # products with, and quotients by, exact powers of ten are rounded once, as by any reader of text
    power = _POWERS[np.abs(exponent)]
    np.copyto(values, np.where(exponent < 0, mantissa / power, mantissa * power))
    np.negative(values, out=values, where=minus)
    return True
