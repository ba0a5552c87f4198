"""Whether the electrons of densities can be those of their atoms."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from ase.data import atomic_numbers
from ase.formula import Formula
from numpy.typing import NDArray

from deepdft.data.store import DensityStore

__all__ = ["MAX_ELECTRONS_PER_PROTON", "implausible_electron_counts", "nuclear_charge"]

MAX_ELECTRONS_PER_PROTON = 1.05
"""Electrons per proton. Anions have a few more than one; a cube in e/Å³ instead of e/bohr³ has 6.7 times too many."""


def implausible_electron_counts(store: DensityStore) -> NDArray[np.intp]:
    """Indices of structures whose density has no electrons or more than `MAX_ELECTRONS_PER_PROTON` per proton."""
    charges = np.array([nuclear_charge(formula) for formula in store.formulas])
    return np.flatnonzero(~((store.n_electrons > 0) & (store.n_electrons <= MAX_ELECTRONS_PER_PROTON * charges)))


@lru_cache(maxsize=4096)
def nuclear_charge(formula: str) -> int:
    """Sum of the atomic numbers of a chemical formula."""
    return sum(atomic_numbers[symbol] * count for symbol, count in Formula(formula).count().items())
