"""Numbers as text such as " -1.23456E-07" or " -.123456E-06", many at once: digits are looked up three at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

__all__ = ["format_fortran", "format_values"]

_SMALLEST, _LARGEST = 1e-99, np.float64(1e99)  # as a float32, a plain 1e99 would overflow
_ONE = 120  # index of the character 1 in …
_POWERS = np.array([float(f"1e{k}") for k in range(-_ONE, _ONE)])  # exponents have two digits, mantissas up to 15
_CHUNK = 1 << 15  # numbers that stay in a core's cache


def _table(n_digits: int) -> NDArray[np.uint8]:
    """(10**n_digits, n_digits) the digits of all numbers below."""
    text = "".join(f"{number:0{n_digits}d}" for number in range(10**n_digits))
    return np.frombuffer(text.encode(), np.uint8).reshape(-1, n_digits)


_TWO, _THREE = _table(2), _table(3)


def format_values(values: NDArray[np.floating], n_decimals: int, per_line: int, per_run: int = 0) -> str:
    """Numbers as `" %{n_decimals + 7}.{n_decimals}E"` writes them, `per_line` in a line.

    Args:
        values: (n,) numbers below 1e99 in size. Those below 1e-99 are written as zero: their exponent would have three
            digits, which many readers misread.
        n_decimals: digits behind the point, 1 to 11; the last is rounded to within 0.501 of its unit.
        per_line: numbers in a line; the last line may be shorter.
        per_run: begin a new line after so many numbers, a divisor of n; 0 never does.

    Raises:
        ValueError: if a number is too large or none.
    """
    words = _words(values, n_decimals + 8, partial(_format, n_decimals=n_decimals))
    if per_run:
        return _lines(words.reshape(-1, per_run, words.shape[1]), per_line)
    return _all_lines(words, per_line)


def format_fortran(values: NDArray[np.floating], n_digits: int, per_line: int) -> str:
    """Numbers as Fortran's `1X,E{n_digits + 6}.{n_digits}` writes them: " 0.12345E+01", " -.12345E+01".

    Args:
        values: (n,) numbers below 1e98 in size; those below 1e-99 are written as zero.
        n_digits: 2 to 12; the last is rounded to within 0.501 of its unit.
        per_line: numbers in a line; the last line may be shorter.

    Raises:
        ValueError: if a number is too large or none.
    """
    return _all_lines(_words(values, n_digits + 7, partial(_format_fortran, n_digits=n_digits)), per_line)


def _words(
    values: NDArray[np.floating], width: int, write: Callable[[NDArray[np.float64], NDArray[np.uint8]], None]
) -> NDArray[np.uint8]:
    """The characters (n, width) of numbers (n,), put there by `write` for some of them at a time."""
    if not (np.abs(values) < _LARGEST).all():
        raise ValueError(f"a number is not finite or not below {_LARGEST:g}")
    words = np.empty((len(values), width), np.uint8)
    for start in range(0, len(values), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        write(np.asarray(values[chunk], np.float64), words[chunk])
    return words


def _all_lines(words: NDArray[np.uint8], per_line: int) -> str:
    """The text of words (n, width); the last line may be shorter."""
    full = len(words) // per_line * per_line
    rest = words[full:]
    return _lines(words[:full].reshape(-1, per_line, words.shape[1]), per_line) + _lines(rest[None], per_line)


def _lines(words: NDArray[np.uint8], per_line: int) -> str:
    """The text of runs of words (n_runs, per_run, width)."""
    n_runs, per_run, width = words.shape
    n_lines = -(-per_run // per_line)
    text = np.full((n_runs, per_run * width + n_lines), ord("\n"), np.uint8)
    for line in range(n_lines):
        part = words[:, line * per_line : (line + 1) * per_line]
        part = part.reshape(n_runs, part.shape[1] * width)
        start = line * (per_line * width + 1)
        text[:, start : start + part.shape[1]] = part
    return text.tobytes().decode("ascii")


def _format(values: NDArray[np.float64], words: NDArray[np.uint8], *, n_decimals: int) -> None:
    """Put the characters of numbers (n,) into words (n, n_decimals + 8)."""
    negative, digits, exponent = _decompose(values, n_decimals + 1)
    words[:, 0] = ord(" ")
    words[:, 1] = np.where(negative, ord("-"), ord(" "))
    words[:, 2] = digits[:, 0]
    words[:, 3] = ord(".")
    words[:, 4:-4] = digits[:, 1:]
    _put_exponent(words, exponent)


def _format_fortran(values: NDArray[np.float64], words: NDArray[np.uint8], *, n_digits: int) -> None:
    """Put the characters of numbers (n,) with mantissas below one into words (n, n_digits + 7)."""
    negative, digits, exponent = _decompose(values, n_digits)
    words[:, 0] = ord(" ")
    words[:, 1] = np.where(negative, ord("-"), ord("0"))
    words[:, 2] = ord(".")
    words[:, 3:-4] = digits
    _put_exponent(words, np.where(digits[:, 0] == ord("0"), 0, exponent + 1))  # only zero begins with 0


def _put_exponent(words: NDArray[np.uint8], exponent: NDArray[np.intp]) -> None:
    """Put "E-07" at the end of words."""
    words[:, -4] = ord("E")
    words[:, -3] = np.where(exponent < 0, ord("-"), ord("+"))
    words[:, -2:] = _TWO[np.abs(exponent)]


def _decompose(
    values: NDArray[np.float64], n_digits: int
) -> tuple[NDArray[np.bool_], NDArray[np.uint8], NDArray[np.intp]]:
    """Whether numbers (n,) are negative, their digits as characters (n, n_digits), and the exponent of the first."""
    n_decimals = n_digits - 1
    size = np.abs(values)
    size[size < _SMALLEST] = 0.0
    exponent = np.floor(np.log10(size, out=np.zeros_like(size), where=size > 0)).astype(np.intp)
    mantissa = np.rint(size * _POWERS[_ONE + n_decimals - exponent])  # all digits without the point
    up = mantissa >= _POWERS[_ONE + n_decimals + 1]  # 9.99… became 10.0
    down = (mantissa < _POWERS[_ONE + n_decimals]) & (size > 0)  # the logarithm was rounded up
    wrong = np.flatnonzero(up | down)
    exponent[wrong] += np.where(up[wrong], 1, -1)
    mantissa[wrong] = np.rint(size[wrong] * _POWERS[_ONE + n_decimals - exponent[wrong]])
    end = n_digits
    digits = np.empty((len(values), end), np.uint8)
    while end > 0:
        upper = np.floor(mantissa / 1000)
        found = _THREE.take((mantissa - 1000 * upper).astype(np.intp), axis=0)
        digits[:, max(0, end - 3) : end] = found[:, max(0, 3 - end) :]
        mantissa, end = upper, end - 3
    return (values < 0) & (size > 0), digits, exponent
