"""The atoms, bonds and cells to draw, and where the viewer stands."""

from __future__ import annotations

import ase
import numpy as np
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from deepdft.density import Grid
from deepdft.plotting.formulas import NONMETALS

__all__ = ["atoms_shown", "bonds", "cell_edges", "extent", "orientation", "plane_of_atoms"]

Array = NDArray[np.float64]

ON_FACE = 0.15
"""Å from a face of a repeating cell up to which an atom lies on it."""
BOND = 1.2
"""Distance up to which atoms are bonded, over the sum of their covalent radii."""


def atoms_shown(grid: Grid, repeats: tuple[int, int, int] = (1, 1, 1)) -> tuple[NDArray[np.intp], Array]:
    """Which atoms are drawn and where: in the cell along axes that repeat, those on a face on both faces.

    Returns:
        Indices (n,) of atoms and positions (n, 3) in Å.
    """
    atoms: ase.Atoms = grid.atoms
    index, shifts = [], []
    fractional = (atoms.positions - grid.origin) @ np.linalg.inv(grid.cell)
    on_face = ON_FACE / np.linalg.norm(grid.cell, axis=1)
    for atom, position in enumerate(fractional):
        choices = []
        for axis in range(3):
            if not atoms.pbc[axis]:
                choices.append([0.0])
                continue
            base = -np.floor(position[axis] + on_face[axis])
            first = position[axis] + base
            choices.append([base + n for n in range(repeats[axis] + 1) if first + n <= repeats[axis] + on_face[axis]])
        for shift in np.stack(np.meshgrid(*choices, indexing="ij"), axis=-1).reshape(-1, 3):
            index.append(atom)
            shifts.append(shift)
    which = np.array(index, dtype=np.intp)
    return which, atoms.positions[which] + np.array(shifts) @ grid.cell


def bonds(numbers: NDArray[np.integer], positions: Array) -> NDArray[np.intp]:
    """Pairs (n, 2) of atoms that are bonded, by their covalent radii; metals bond to metals only among themselves.

    Args:
        numbers: (n_atoms,) atomic numbers.
        positions: (n_atoms, 3) Å.
    """
    if len(numbers) < 2:
        return np.zeros((0, 2), dtype=np.intp)
    radii = covalent_radii[numbers]
    pairs = cKDTree(positions).query_pairs(2 * BOND * radii.max(), output_type="ndarray")
    first, second = pairs.T
    near = np.linalg.norm(positions[first] - positions[second], axis=1) < BOND * (radii[first] + radii[second])
    is_metal = np.array([chemical_symbols[number] not in NONMETALS for number in numbers])
    if not is_metal.all():
        near &= ~(is_metal[first] & is_metal[second])
    return np.asarray(pairs[near], dtype=np.intp)


def orientation(positions: Array, *, periodic: bool) -> Array:
    """The quaternion (x, y, z, w) that turns positions (n, 3) towards the viewer.

    Molecules lie flat with their longest axis to the right; crystals stand on their xy plane, seen from a little above.
    """
    if periodic:
        turned = Rotation.from_euler("xyz", [-90, 0, 0], degrees=True)
        return np.asarray((Rotation.from_euler("yx", [-28, 14], degrees=True) * turned).as_quat())
    axes = _principal_axes(positions)
    flat = Rotation.from_matrix(np.stack([axes[2], axes[1], np.cross(axes[2], axes[1])]))
    return np.asarray((Rotation.from_euler("xy", [-12, 12], degrees=True) * flat).as_quat())


def plane_of_atoms(positions: Array, *, periodic: bool) -> tuple[float, float]:
    """Tilt and turn in degrees of the plane that lies closest to positions (n, 3); crystals are cut across z."""
    if periodic or len(positions) < 2:
        return 0.0, 0.0
    normal = _principal_axes(positions)[0]
    normal = normal if normal[2] >= 0 else -normal
    tilt = np.degrees(np.arccos(normal[2].clip(-1, 1)))
    turn = np.degrees(np.arctan2(normal[1], normal[0])) if tilt > 0.5 else 0.0
    return float(np.round(tilt)), float(np.round(turn))


def _principal_axes(positions: Array) -> Array:
    """Axes (3, 3) as rows, from the direction of least to that of most spread."""
    centred = positions - positions.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1].T
    largest = np.abs(axes).argmax(axis=1)
    return np.asarray(axes * np.sign(axes[np.arange(3), largest])[:, None])


def extent(positions: Array, grid: Grid) -> float:
    """Å, side of a square that holds a slice through the atoms: the cell where it repeats, else 2.5 Å about them."""
    if grid.atoms.pbc.any():
        return float(np.linalg.norm(grid.cell, axis=1).max())
    return float(2 * np.linalg.norm(positions - positions.mean(axis=0), axis=1).max() + 5.0)


def cell_edges(grid: Grid, repeats: tuple[int, int, int] = (1, 1, 1)) -> Array:
    """The edges (n, 2, 3) in Å of the cells that are drawn; none where nothing repeats."""
    if not grid.atoms.pbc.any():
        return np.zeros((0, 2, 3))
    edges = set()
    counts = [repeats[axis] if grid.atoms.pbc[axis] else 1 for axis in range(3)]
    for corner in np.ndindex(*(n + 1 for n in counts)):
        for axis in range(3):
            if corner[axis] < counts[axis]:
                end = tuple(c + (a == axis) for a, c in enumerate(corner))
                edges.add((corner, end))
    return np.array(sorted(edges), dtype=np.float64).reshape(-1, 2, 3) @ grid.cell + grid.origin
