"""Checks of whether densities have as many electrons as their atoms can."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from ase.data import atomic_numbers
from ase.formula import Formula
from numpy.typing import NDArray

from deepdft.data.store import Store
from deepdft.errors import InputWarning

__all__ = [
    "MAX_ELECTRONS_PER_PROTON",
    "implausible_electron_counts",
    "nuclear_charge",
    "valences",
    "warn_of_implausible_electron_counts",
]

MAX_ELECTRONS_PER_PROTON = 1.05
"""Anions have slightly more electrons than protons; a cube in e/Å³ instead of e/bohr³ has 6.7 times too many."""

MAX_NAMES_SHOWN = 3

MAX_UNEXPLAINED = 0.005
"""Largest residual when electrons are fitted by numbers per element, relative to the largest structure's."""


def implausible_electron_counts(store: Store) -> NDArray[np.intp]:
    """Indices of structures whose density has no electrons or more than `MAX_ELECTRONS_PER_PROTON` per proton."""
    charges = np.array([nuclear_charge(formula) for formula in store.formulas])
    return np.flatnonzero(~((store.n_electrons > 0) & (store.n_electrons <= MAX_ELECTRONS_PER_PROTON * charges)))


def warn_of_implausible_electron_counts(store: Store) -> None:
    """Warn in one line about densities that cannot belong to their atoms, if there are any."""
    indices = implausible_electron_counts(store)
    if not indices.size:
        return
    shown = [
        f"{store.names[i]} ({store.n_electrons[i]:.2f} of {nuclear_charge(store.formulas[i])})"
        for i in indices[:MAX_NAMES_SHOWN]
    ]
    more = ", …" if indices.size > MAX_NAMES_SHOWN else ""
    warnings.warn(
        f"{indices.size} of {len(store)} densities have no electrons, or more than {MAX_ELECTRONS_PER_PROTON:g} × the "
        f"sum of atomic numbers: {', '.join(shown)}{more}; they are in the store, but their units may be wrong (a "
        "cube is in e/bohr³, a CHGCAR in e times the volume of the cell)",
        InputWarning,
        stacklevel=2,
    )


def valences(store: Store, indices: Sequence[int], label: str | None = None) -> dict[int, float]:
    """Electrons by atomic number in the densities of some structures, by least squares.

    Args:
        store: the store.
        indices: of the structures.
        label: which density of an ensemble store; None for its first.

    Returns:
        Nothing where the formulas do not tell the elements apart, as in NaCl alone, or do not explain the electrons.
    """
    electrons = store.electrons(label)[list(indices)]
    counts = [Formula(store.formulas[index]).count() for index in indices]
    symbols = sorted({symbol for count in counts for symbol in count}, key=lambda symbol: atomic_numbers[symbol])
    matrix = np.array([[count.get(symbol, 0) for symbol in symbols] for count in counts], dtype=np.float64)
    if np.linalg.matrix_rank(matrix) < len(symbols):
        return {}
    found = np.linalg.lstsq(matrix, electrons)[0]
    if np.abs(matrix @ found - electrons).max() > MAX_UNEXPLAINED * electrons.max():
        return {}
    return {atomic_numbers[symbol]: round(float(valence), 3) for symbol, valence in zip(symbols, found, strict=True)}


@lru_cache(maxsize=4096)
def nuclear_charge(formula: str) -> int:
    """Sum of the atomic numbers of a chemical formula."""
    return sum(atomic_numbers[symbol] * count for symbol, count in Formula(formula).count().items())
