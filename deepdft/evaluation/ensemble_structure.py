"""One structure with K densities on one grid, read plane by plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ase
import numpy as np
from numpy.typing import NDArray

__all__ = ["EnsembleStructure", "on_one_grid"]

SAME_LENGTH = 1e-3
"""Å by which cells and atoms of one structure may differ between files; a CHGCAR has six decimals."""


@dataclass(frozen=True, eq=False)
class EnsembleStructure:
    """One structure with K densities that are read plane by plane."""

    name: str
    """Name of the structure."""
    atoms: ase.Atoms
    """The structure, in the box of the grid."""
    origin: NDArray[np.float64]
    """(3,) Å, position of the first grid point."""
    shape: tuple[int, int, int]
    """Number of grid points along the edges of the box."""
    planes: dict[str, Callable[[slice], NDArray[np.floating]]]
    """Label → function that reads planes (n_planes, ny, nz) in e/Å³ along the first axis."""


def on_one_grid(name: str, found: Mapping[str, EnsembleStructure]) -> EnsembleStructure:
    """Combine the densities of one structure.

    Raises:
        ValueError: if atoms or grids differ.
    """
    labels = list(found)
    first = found[labels[0]]
    for label in labels[1:]:
        difference = _difference(first, found[label])
        if difference:
            raise ValueError(
                f"{name}: {labels[0]} and {label} differ in their {difference}; "
                "the densities of an ensemble are of one structure on one grid"
            )
    planes = {label: found[label].planes[label] for label in labels}
    return EnsembleStructure(name, first.atoms, first.origin, first.shape, planes)


def _difference(a: EnsembleStructure, b: EnsembleStructure) -> str | None:
    """Description of what makes two densities incomparable point by point; empty if nothing does."""
    if a.atoms.get_chemical_formula() != b.atoms.get_chemical_formula():
        return f"atoms ({a.atoms.get_chemical_formula()} and {b.atoms.get_chemical_formula()})"
    if a.shape != b.shape:
        return f"grids ({' × '.join(map(str, a.shape))} and {' × '.join(map(str, b.shape))} points)"
    if (a.atoms.numbers != b.atoms.numbers).any():
        return "order of the atoms"
    lengths = {
        "cells": a.atoms.cell.array - b.atoms.cell.array,
        "origins": a.origin - b.origin,
        "positions of the atoms": a.atoms.positions - b.atoms.positions,
    }
    far = {what: float(np.abs(difference).max(initial=0.0)) for what, difference in lengths.items()}
    return next((f"{what} (by {length:.3g} Å)" for what, length in far.items() if length > SAME_LENGTH), None)
