"""Warnings about data that do not suit the model, given once before anything is computed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from ase.formula import Formula
from numpy.typing import NDArray
from torch import nn

from deepdft import bundled
from deepdft.data.splits import Split
from deepdft.data.store import DensityStore
from deepdft.errors import InputWarning

__all__ = ["warn_of_free_atom_valences", "warn_of_new_elements"]

MIN_ELECTRON_DIFFERENCE = 0.3
"""Electrons per structure; less is the error of a sum over grid points."""
MAX_ELEMENTS_SHOWN = 5


def warn_of_new_elements(store: DensityStore, split: Split) -> None:
    """Warn of elements that only validation or test structures contain."""
    known = set(store.elements(split.train))
    for part in ("validation", "test"):
        new = [number for number in store.elements(getattr(split, part)) if number not in known]
        if new:
            symbols = ", ".join(chemical_symbols[number] for number in new)
            _warn(f"{part} structures contain {symbols}, which no training structure contains: the model guesses there")


def warn_of_free_atom_valences(
    model: nn.Module, store: DensityStore, indices: Sequence[int], label: str | None = None
) -> None:
    """Warn if the model adds up free atoms with another number of valence electrons than the data have.

    Args:
        model: one that `deepdft.models.free_atoms.FreeAtoms` is, or is a part of, is looked at.
        store: the data.
        indices: structures of the store.
        label: density of an ensemble store.
    """
    if not any(type(part).__name__ == "FreeAtoms" for part in model.modules()):
        return
    with np.load(bundled.FREE_ATOMS) as table:
        valence = dict(zip(table["numbers"].tolist(), table["n_valence"].tolist(), strict=True))
    numbers = [n for n in store.elements(indices) if n in valence]
    counts = np.array([_composition(store.formulas[i], numbers) for i in indices], dtype=float)
    expected = counts @ np.array([valence[n] for n in numbers], dtype=float)
    found = store.electrons(label)[list(indices)]
    wrong = np.flatnonzero(np.abs(found - expected) > MIN_ELECTRON_DIFFERENCE)
    if not wrong.size:
        return
    first = int(wrong[0])
    _warn(
        f"free atoms have other valence electrons than {wrong.size} of {len(indices)} densities: "
        f"{_explained(numbers, valence, counts, found)}{store.names[indices[first]]} has {found[first]:.1f} electrons, "
        f"its free atoms {expected[first]:.0f}; atoms "
        "fitted to the data have the data's: model.baseline=fitted, or model=superposition"
    )


def _explained(
    numbers: Sequence[int], valence: dict[int, int], counts: NDArray[np.float64], found: NDArray[np.float64]
) -> str:
    """Elements whose valences differ, if the electron counts of the structures determine them; else empty."""
    fitted, _, rank, _ = np.linalg.lstsq(counts, found, rcond=None)
    if rank < len(numbers):
        return ""
    odd = [
        f"{chemical_symbols[number]} {value:.0f} for {valence[number]}"
        for number, value in zip(numbers, fitted, strict=True)
        if abs(value - valence[number]) > MIN_ELECTRON_DIFFERENCE
    ]
    return f"{', '.join(odd[:MAX_ELEMENTS_SHOWN])} per atom; " if odd else ""


def _composition(formula: str, numbers: Sequence[int]) -> list[int]:
    """Number of atoms of each element in a formula."""
    count = {atomic_numbers[symbol]: n for symbol, n in Formula(formula).count().items()}
    return [count.get(number, 0) for number in numbers]


def _warn(text: str) -> None:
    warnings.warn(text, InputWarning, stacklevel=3)
