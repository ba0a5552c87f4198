"""Whether a structure can exist: the impossible is refused, the doubtful is warned about, naming atoms."""

from __future__ import annotations

import warnings

import ase
import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.formula import Formula
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from deepdft.errors import InputWarning
from deepdft.graph.images import complete_cell, periodic_images, wrap_shifts

__all__ = ["StructureError", "check_structure", "formula_of"]

MAX_COORDINATE = 1e9
"""Å, largest coordinate; further out double precision no longer resolves distances between atoms to 10⁻⁶ Å."""
MIN_HEIGHT = 0.1
"""Å, smallest distance between opposite faces of a cell; a thinner one has too many images within a cutoff."""
MIN_VOLUME_PER_ATOM = 1.2
"""Å³, smallest volume per atom in a crystal; metallic hydrogen (r_s = 1.3 bohr) has 1.4, diamond 5.7."""
IMPOSSIBLE_CONTACT, DOUBTFUL_CONTACT = 0.5, 0.6
"""Smallest distance over the sum of covalent radii (Cordero 2008); N₂ has 0.77, Cr₂, the shortest bond, 0.60."""
MAX_RADIUS = covalent_radii[1:97].max()
"""Å, largest radius, that of caesium; ASE gives a small number for unknown radii."""


class StructureError(ValueError):
    """A structure that is not one arrangement of atoms of known elements."""


def check_structure(atoms: ase.Atoms) -> None:
    """Refuse a structure that cannot exist, and warn about one that is unlikely to.

    Raises:
        ValueError: without atoms; with numbers that are no elements, coordinates or lattice vectors that are not
            finite, a cell that does not suit the periodicity, or atoms that are unphysically close.
    """
    if len(atoms) == 0:
        raise ValueError("a structure needs at least one atom")
    _check_numbers(atoms)
    name = formula_of(atoms)
    if not np.isfinite(atoms.positions).all():
        raise ValueError(f"{name}: some positions are not finite numbers")
    if (largest := np.abs(atoms.positions).max()) > MAX_COORDINATE:
        raise ValueError(f"{name}: a coordinate is {largest:.3g} Å; expected less than {MAX_COORDINATE:g} Å")
    _check_cell(atoms, name)
    _check_contacts(atoms, name)


def formula_of(atoms: ase.Atoms) -> str:
    """Chemical formula in Hill order, shortened if it would fill the line."""
    formula = str(Formula.from_list([chemical_symbols[number] for number in atoms.numbers]).format("hill"))
    return formula if len(formula) <= 40 else f"{formula[:37]}…"


def _check_numbers(atoms: ase.Atoms) -> None:
    wrong = sorted({int(number) for number in atoms.numbers if not 0 <= number < len(chemical_symbols)})
    if wrong:
        raise ValueError(f"atomic numbers {', '.join(map(str, wrong))}: expected 1 to {len(chemical_symbols) - 1}")
    if ghosts := np.flatnonzero(atoms.numbers == 0).tolist():
        which = f"atom {ghosts[0]}" if len(ghosts) == 1 else f"{len(ghosts)} atoms"
        raise ValueError(f"{which} of {formula_of(atoms)} is not an element (X, atomic number 0): remove ghost atoms")


def _check_cell(atoms: ase.Atoms, name: str) -> None:
    cell, pbc = atoms.cell.array, np.asarray(atoms.pbc)
    if not np.isfinite(cell).all():
        raise ValueError(f"{name}: some lattice vectors are not finite numbers: {cell.tolist()}")
    if np.abs(cell).max() > MAX_COORDINATE:
        raise ValueError(f"{name}: a lattice vector is longer than {MAX_COORDINATE:g} Å: {cell.tolist()}")
    if not pbc.any():
        return
    if np.linalg.matrix_rank(cell[pbc]) < pbc.sum():
        axes = "".join(axis for axis, repeats in zip("abc", pbc, strict=True) if repeats)
        raise ValueError(
            f"{name} is periodic along {axes} but its cell has no such lattice vectors: give them, or make it a "
            "molecule (pbc=false)"
        )
    heights = 1.0 / np.linalg.norm(np.linalg.inv(complete_cell(cell, pbc)), axis=0)
    if thin := [axis for axis in range(3) if pbc[axis] and heights[axis] < MIN_HEIGHT]:
        raise ValueError(
            f"{name}: the cell is {heights[thin[0]]:.3g} Å thick along {'abc'[thin[0]]}, along which it repeats; "
            f"expected at least {MIN_HEIGHT} Å (lengths are in Å; of a skewed cell, take the reduced one)"
        )
    per_atom = abs(np.linalg.det(cell)) / len(atoms)
    if pbc.all() and per_atom < MIN_VOLUME_PER_ATOM:
        raise ValueError(
            f"{name}: the cell has {per_atom:.3g} Å³ for each atom, less than any crystal; a placeholder for a cell "
            "is left out by pbc=false"
        )


def _check_contacts(atoms: ase.Atoms, name: str) -> None:
    receiver, sender, length, ratio = _contacts(atoms)
    if len(ratio) == 0:
        return
    closest = int(np.argmin(ratio))
    first, second = (
        f"atom {index} ({chemical_symbols[atoms.numbers[index]]})" for index in (receiver[closest], sender[closest])
    )
    second = "its own periodic image" if receiver[closest] == sender[closest] else second
    pairs = "" if len(ratio) < 3 else f", and {len(ratio) // 2 - 1} more pairs are as close"
    radii = covalent_radii[atoms.numbers]
    text = (
        f"{name}: {first} and {second} are {length[closest]:.3g} Å apart, {ratio[closest]:.2f} of the sum of their "
        f"covalent radii ({radii[receiver[closest]] + radii[sender[closest]]:.2f} Å){pairs}"
    )
    if ratio[closest] < IMPOSSIBLE_CONTACT:
        raise ValueError(f"{text}; no structure has atoms that close: check its units and its cell")
    warnings.warn(f"{text}; the density between them is a guess", InputWarning, stacklevel=4)


def _contacts(
    atoms: ase.Atoms,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Pairs of atoms (in both directions) that are doubtfully close: indices, distance in Å, and over radii."""
    radii = np.minimum(covalent_radii[atoms.numbers], MAX_RADIUS)
    reach = DOUBTFUL_CONTACT * 2 * radii.max()
    pbc = np.asarray(atoms.pbc)
    complete = complete_cell(atoms.cell.array, pbc)
    images = periodic_images(atoms.positions, complete, pbc, reach)
    wrapped = atoms.positions + wrap_shifts(atoms.positions, complete, pbc)
    pairs = cKDTree(wrapped).sparse_distance_matrix(cKDTree(images.positions), reach, output_type="ndarray")
    receiver, sender, length = pairs["i"], images.atom[pairs["j"]], pairs["v"]
    is_itself = (receiver == sender) & (
        np.abs(images.positions[pairs["j"]] - wrapped[receiver]).max(axis=1, initial=0.0) < 1e-6
    )
    ratio = length / (radii[receiver] + radii[sender])
    doubtful = ~is_itself & (ratio < DOUBTFUL_CONTACT)
    return receiver[doubtful].astype(np.int64), sender[doubtful], length[doubtful], ratio[doubtful]
