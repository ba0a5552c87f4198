"""Periodic images of atoms near a cell, as explicit atoms: the basis of all neighbour searches for probes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepdft.vectors import matmul_single_threaded

__all__ = ["Images", "complete_cell", "periodic_images", "wrap_shifts"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Images:
    """Atoms, and those of their periodic images that can lie within the cutoff of a point in the cell."""

    positions: Array
    """(n_images, 3) Å."""
    atom: NDArray[np.int64]
    """(n_images,) the atom of which each is an image."""
    shift: Array
    """(n_images, 3) Å, lattice vector from the atom to its image."""

    def around(self, points: Array, cutoff: float) -> Images:
        """Those that can lie within the cutoff (Å) of any of some points (n, 3): few of a large structure's."""
        if len(points) == 0:
            return self
        low, high = points.min(axis=0) - cutoff, points.max(axis=0) + cutoff
        near = ((self.positions >= low) & (self.positions <= high)).all(axis=1)
        return Images(self.positions[near], self.atom[near], self.shift[near])


def complete_cell(cell: Array, pbc: NDArray[np.bool_]) -> Array:
    """The cell with unit vectors, normal to the periodic ones, in place of non-periodic vectors.

    Args:
        cell: (3, 3) Å, rows are lattice vectors.
        pbc: (3,) along which of them the structure repeats.

    Raises:
        ValueError: if the periodic vectors are zero or lie in one line or plane.
    """
    if np.linalg.matrix_rank(cell[pbc]) < pbc.sum():
        axes = ", ".join("abc"[axis] for axis in np.flatnonzero(pbc))
        raise ValueError(
            f"the structure repeats along {axes}, but these lattice vectors span no such lattice: "
            f"{cell[pbc].tolist()}; give a cell or switch the periodicity off"
        )
    complete = np.zeros((3, 3))
    complete[pbc] = cell[pbc]
    # the null space of the periodic vectors: orthonormal, normal to all of them
    normals = np.linalg.svd(cell[pbc])[2][pbc.sum() :] if pbc.any() else np.eye(3)
    complete[~pbc] = normals
    return complete


def wrap_shifts(points: Array, complete: Array, pbc: NDArray[np.bool_]) -> Array:
    """Lattice vectors (n, 3) in Å that take points (n, 3) into the cell, zero along axes that do not repeat."""
    return -matmul_single_threaded(np.floor(matmul_single_threaded(points, np.linalg.inv(complete))) * pbc, complete)


def periodic_images(positions: Array, complete: Array, pbc: NDArray[np.bool_], cutoff: float) -> Images:
    """All images of atoms that lie within the cutoff of any point in the cell.

    Args:
        positions: (n_atoms, 3) Å, also outside the cell.
        complete: (3, 3) Å from `complete_cell`.
        pbc: (3,) along which vectors the structure repeats.
        cutoff: Å.
    """
    inverse = np.linalg.inv(complete)
    wrap = wrap_shifts(positions, complete, pbc)
    reach = cutoff * np.linalg.norm(inverse, axis=0)  # cutoff in units of the cell's heights
    ranges = [np.arange(-n, n + 1) for n in np.where(pbc, np.ceil(reach), 0).astype(int)]
    cells = matmul_single_threaded(np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3), complete)

    shift = (wrap[:, None, :] + cells[None, :, :]).reshape(-1, 3)
    atom = np.repeat(np.arange(len(positions)), len(cells))
    images = positions[atom] + shift
    fractional = matmul_single_threaded(images, inverse)
    # rounding of a wrapped coordinate must not lose an image exactly at the border
    near = ((fractional > -reach - 1e-9) & (fractional < 1 + reach + 1e-9) | ~pbc).all(axis=1)
    return Images(images[near], atom[near], shift[near])
