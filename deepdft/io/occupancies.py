"""PAW augmentation occupancies of a CHGCAR: text in sets of one atom each, and numbers (n_atoms, n_max)."""

from __future__ import annotations

import re
import warnings

import numpy as np
from numpy.typing import NDArray

from deepdft.errors import InputWarning
from deepdft.io.numbers import repair

__all__ = ["format_occupancies", "parse_occupancies", "split_occupancies"]

_SET = re.compile(
    rb"augmentation occupancies(?P<imaginary> *\(imaginary part\))?"
    rb"(?: *(?P<atom>\d+) +(?P<count>\d+)|(?P<atom4>[ \d]{4})(?P<count4>\d{4}))[ \t\r]*\n"
)
"""The atom's index and the number of its values, four columns each: they touch if the latter has four digits."""


def split_occupancies(text: bytes) -> int:
    """Position where the sets of occupancies at the beginning of a text end.

    Raises:
        ValueError: if a set has fewer or more numbers than it says.
    """
    position = 0
    while (match := _SET.match(text, position)) is not None:
        position, n_expected = match.end(), int(match["count"] or match["count4"])
        left = n_expected
        while left > 0:
            end = text.find(b"\n", position)
            end = len(text) if end < 0 else end
            n_values = len(text[position:end].split())
            if n_values == 0 or n_values > left:
                raise ValueError(f"augmentation occupancies: expected {n_expected} numbers in a set, found others")
            left -= n_values
            position = end + 1
    return position


def parse_occupancies(text: bytes, n_atoms: int) -> NDArray[np.float64] | None:
    """Numbers (n_atoms, n_max) of all sets, shorter rows padded with NaN; None for a noncollinear calculation.

    An atom without a set (one of a pseudopotential without partial waves) has a row of NaN; a warning says so.

    Raises:
        ValueError: if the sets are not in the order of the atoms, or something in them is no number.
    """
    sets = list(_SET.finditer(text))
    if any(match["imaginary"] for match in sets):
        return None
    atoms = [int(match["atom"] or match["atom4"]) for match in sets]
    if atoms != sorted(set(atoms)) or not 1 <= min(atoms) <= max(atoms) <= n_atoms:
        raise ValueError(f"augmentation occupancies: the sets are not those of {n_atoms} atoms in their order")
    if len(atoms) < n_atoms:
        warnings.warn(
            f"augmentation occupancies of {len(atoms)} of {n_atoms} atoms: those of the others are missing",
            InputWarning,
            stacklevel=2,
        )
    ends = [*(match.start() for match in sets[1:]), len(text)]
    rows = [_numbers(text[match.end() : end]) for match, end in zip(sets, ends, strict=True)]
    found = np.full((n_atoms, max(map(len, rows))), np.nan)
    for atom, numbers in zip(atoms, rows, strict=True):
        found[atom - 1, : len(numbers)] = numbers
    return found


def _numbers(text: bytes) -> list[float]:
    """Finite numbers as Fortran writes them."""
    try:
        numbers = [float(word) for word in repair(text).split()]
    except ValueError:
        numbers = [np.nan]
    if not np.isfinite(numbers).all():
        raise ValueError("augmentation occupancies: something in them is not a finite number")
    return numbers


def format_occupancies(rows: NDArray[np.floating]) -> str:
    """Text of all sets as VASP writes it: five numbers per line, seven significant digits, 0.1234567E+00."""
    lines = []
    for index, row in enumerate(rows, start=1):
        words = [_fortran(value) for value in row[~np.isnan(row)]]
        if not words:
            continue
        lines.append(f"augmentation occupancies{index:4d}{len(words):4d}")
        lines += ["".join(words[start : start + 5]) for start in range(0, len(words), 5)]
    return "\n".join(lines) + "\n"


def _fortran(value: float) -> str:
    """A number as Fortran's E15.7 writes it: mantissa below one; a third digit of the exponent replaces the E."""
    if value == 0.0:
        return "  0.0000000E+00"
    mantissa, exponent = f"{abs(value):.6e}".split("e")
    power = int(exponent) + 1
    letter = "E" if abs(power) < 100 else ""
    sign = "-" if value < 0 else " "
    return f" {sign}0.{mantissa.replace('.', '')}{letter}{power:+0{3 if letter else 4}d}"
