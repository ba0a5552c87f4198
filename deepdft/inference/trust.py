"""Signs that a prediction is wrong: unknown elements, missing electrons, negative densities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from deepdft import bundled

__all__ = ["COARSE", "Tally", "expected_electrons", "symbols", "unknown_elements"]

COUNT_TOLERANCE = 0.01
"""Relative error in the number of electrons above which it is reported."""
NEGATIVE = -0.05
"""e/Å³; a learned density may dip a little below zero (the bundled model: to -0.001 in 13 molecules)."""
COARSE = 0.2
"""Å between grid points. On wider grids the sum over peaks at nuclei is off, by up to a tenth at 0.3 Å (water).

On this one it is right to 0.02 % for models of densities that deepdft-generate convolves (the bundled one), not for
models of sharper densities such as those of VASP.
"""


def unknown_elements(numbers: Iterable[int], info: Mapping[str, Any]) -> list[int]:
    """Atomic numbers in a structure that a model has not been trained on; empty if its training set is not recorded.

    Args:
        numbers: of the structure's atoms.
        info: of the model's checkpoint; "elements" are the atomic numbers in its training set.
    """
    known = info.get("elements")
    return sorted(set(map(int, numbers)) - set(known)) if known else []


def symbols(numbers: Iterable[int]) -> str:
    """Atomic numbers as a list of symbols: "Na, Cl"."""
    return ", ".join(chemical_symbols[number] for number in numbers)


def expected_electrons(numbers: Sequence[int] | NDArray[np.integer], info: Mapping[str, Any]) -> float | None:
    """Electrons that densities like the model's data have for these atoms; None if that is not known.

    Args:
        numbers: (n_atoms,) atomic numbers.
        info: of the model's checkpoint; "valences" are electrons by atomic number. Of the bundled model, of the sum of
            free atoms, and for elements that a model does not know, they are those of GPAW's usual PAW sets.
    """
    valences = info.get("valences")
    if not valences:
        if not _has_gpaw_densities(info):
            return None
        valences = {}
    table = _gpaw_valences()
    total = 0.0
    for number in map(int, numbers):
        valence = valences.get(number, table.get(number))
        if valence is None:
            return None
        total += float(valence)
    return total


def _has_gpaw_densities(info: Mapping[str, Any]) -> bool:
    return info.get("path") == "free_atoms" or info.get("data") == bundled.MODEL_DATA


@cache
def _gpaw_valences() -> dict[int, int]:
    with np.load(bundled.FREE_ATOMS) as stored:
        return dict(zip(stored["numbers"].tolist(), stored["n_valence"].tolist(), strict=True))


@dataclass
class Tally:
    """The electrons and the lowest value of a density that is predicted chunk by chunk."""

    voxel_volume: float
    """Å³ per grid point."""
    expected: float | None
    """Electrons that the structure should have, if known."""
    electrons: float = 0.0
    """Integral of what has been added, e."""
    lowest: float = np.inf
    """Lowest density so far, e/Å³."""

    def add(self, values: NDArray[np.floating]) -> None:
        """Add the total density (n,) of some grid points in e/Å³."""
        self.electrons += float(values.sum(dtype=np.float64)) * self.voxel_volume
        self.lowest = min(self.lowest, float(values.min(initial=np.inf)))

    @property
    def is_off(self) -> bool:
        """Whether the number of electrons is known to be wrong."""
        return self.expected is not None and not (
            abs(self.electrons - self.expected) <= COUNT_TOLERANCE * self.expected
        )

    def count(self) -> str:
        """The number of electrons in words, with the expected number if it is known: "13.8 of 56 expected"."""
        count = f"{self.electrons:.4f} electrons"
        if self.expected is None:
            return count
        share = f"{self.electrons:.1f} of {self.expected:g}" if self.is_off else f"{self.expected:g}"
        return f"{count} ({share} expected)"

    def doubts(self, spacing: float) -> list[str]:
        """Problems of the density, one clause each; grids wider than `COARSE` miscount electrons by themselves.

        Args:
            spacing: Å, largest distance between grid points.
        """
        found = []
        if self.is_off and spacing <= COARSE + 1e-6:
            found.append(f"{self.electrons:.1f} of {self.expected:g} expected electrons")
        if self.lowest < NEGATIVE:
            found.append(f"the density goes down to {self.lowest:.3g} e/Å³, but a density cannot be negative")
        return found
