"""Whether the electrons of densities can be those of their atoms."""

from __future__ import annotations

import warnings
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
    "warn_of_implausible_electron_counts",
]

MAX_ELECTRONS_PER_PROTON = 1.05
"""Anions have a few more electrons than protons; a cube in e/Å³ instead of e/bohr³ has 6.7 times too many."""

MAX_NAMES_SHOWN = 3


def implausible_electron_counts(store: Store) -> NDArray[np.intp]:
    """Indices of structures whose density has no electrons or more than `MAX_ELECTRONS_PER_PROTON` per proton."""
    charges = np.array([nuclear_charge(formula) for formula in store.formulas])
    return np.flatnonzero(~((store.n_electrons > 0) & (store.n_electrons <= MAX_ELECTRONS_PER_PROTON * charges)))


def warn_of_implausible_electron_counts(store: Store) -> None:
    """Warn in one line of the densities that cannot be those of their atoms, if there are any."""
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


@lru_cache(maxsize=4096)
def nuclear_charge(formula: str) -> int:
    """Sum of the atomic numbers of a chemical formula."""
    return sum(atomic_numbers[symbol] * count for symbol, count in Formula(formula).count().items())
