"""What is taken from a CHGCAR of the same atoms: their order, and PAW augmentation occupancies."""

from __future__ import annotations

import warnings
from dataclasses import replace

import ase
import numpy as np
from numpy.typing import NDArray

from deepdft.density import OCCUPANCIES, DensityGrid
from deepdft.errors import InputWarning
from deepdft.io.formats.chgcar import AFTER_BLOCKS

__all__ = ["difference_of", "with_occupancies"]

SAME = 1e-3
"""Å; atoms of a template nearer than this are the same atoms."""


def with_occupancies(density: DensityGrid, template: DensityGrid, names: str) -> DensityGrid:
    """A density with the augmentation occupancies of a template that has its atoms; else without, with a warning.

    Args:
        density: what will be written; occupancies of its own are dropped.
        template: what was read from a CHGCAR.
        names: of both files, for the warning.
    """
    info = {key: text for key, text in density.info.items() if not key.startswith(AFTER_BLOCKS)}
    arrays = {key: rows for key, rows in density.atom_arrays.items() if not key.startswith(OCCUPANCIES)}
    texts = {key: text for key, text in template.info.items() if key.startswith(AFTER_BLOCKS)}
    found = {key: rows for key, rows in template.atom_arrays.items() if key.startswith(OCCUPANCIES)}
    problem = "" if found or "augmentation" in texts else "the template has none"
    problem = _difference(template, density) or problem
    if problem:
        warnings.warn(
            f"{names}: no augmentation occupancies are written, because {problem}; VASP, where it starts from the file "
            "(ICHARG=1), takes those of free atoms",
            InputWarning,
            stacklevel=3,
        )
        return replace(density, info=info, atom_arrays=arrays)
    return replace(density, info=info | texts, atom_arrays=arrays | found)


def _difference(one: DensityGrid, other: DensityGrid) -> str:
    """How two structures differ, "" if they do not; the order of the atoms counts."""
    if one.atoms.get_chemical_symbols() != other.atoms.get_chemical_symbols():
        return f"the atoms differ ({one.atoms.symbols} and {other.atoms.symbols})"
    cell = other.atoms.cell.array
    if np.abs(one.atoms.cell.array - cell).max() > SAME:
        return "the cells differ"
    distances = _distances(one.atoms.positions - one.origin, other.atoms.positions - other.origin, cell)
    if distances.max(initial=0.0) > SAME:
        return f"an atom lies {distances.max():.3f} Å from its place in the template"
    return ""


def difference_of(atoms: ase.Atoms, template: ase.Atoms) -> str:
    """How a structure differs from a template whose atoms may stand in another order; "" if it does not."""
    if sorted(atoms.numbers) != sorted(template.numbers):
        return f"{template.get_chemical_formula()} there, {atoms.get_chemical_formula()} in the structure"
    cell = template.cell.array
    if np.abs(atoms.cell.array - cell).max() > SAME:
        return "the cells differ"
    taken = np.zeros(len(template), dtype=bool)
    for index, atom in enumerate(atoms, start=1):
        distances = _distances(template.positions, atom.position, cell)
        distances[taken | (template.numbers != atom.number)] = np.inf
        nearest = int(distances.argmin())
        if distances[nearest] > SAME:
            return f"atom {index} of the structure, {atom.symbol}, is {distances[nearest]:.3f} Å from the nearest there"
        taken[nearest] = True
    return ""


def _distances(
    positions: NDArray[np.floating], others: NDArray[np.floating], cell: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Distances (n,) in Å between positions (n, 3), or one of them (3,), up to lattice vectors."""
    steps = (positions - others) @ np.linalg.inv(cell)
    return np.asarray(np.linalg.norm((steps - np.round(steps)) @ cell, axis=1))
