"""Plane cuts through a density: the plane that shows a structure best, and the values on it.

A plane is given in Cartesian coordinates, so oblique cells are cut and drawn undistorted. Values on a plane
come from a grid through a local cubic interpolation whose stencil is explicit: a predicted and a reference
density are interpolated alike, and a model need only be asked for the few grid points that a picture needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

import ase
import numpy as np
from numpy.typing import NDArray

from deepdft.density import DensityGrid

__all__ = ["IN_PLANE", "Plane", "PlaneStencil", "cell_outline", "choose_plane", "plane_values"]

IN_PLANE = 0.35
"""Å: atoms closer to the plane than this count as lying in it."""
MARGIN = 2.5
"""Å drawn around the outermost atoms."""
SMALLEST = 6.0
"""Å: smallest width and height of a picture of a periodic structure."""
CANDIDATE_ATOMS = 24
"""Number of atoms nearest to the centre whose triples define candidate planes: 2024 planes."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A rectangle in space with a raster of points on it."""

    origin: NDArray[np.float64]
    """(3,) Å, lower left corner."""
    u: NDArray[np.float64]
    """(3,) unit vector to the right."""
    v: NDArray[np.float64]
    """(3,) unit vector upwards, perpendicular to `u`."""
    size: tuple[float, float]
    """Å, width and height."""
    pixels: int = 280
    """Points of the raster along the longer side."""

    @property
    def normal(self) -> NDArray[np.float64]:
        """(3,) unit vector perpendicular to the plane."""
        return np.cross(self.u, self.v)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the raster."""
        width, height = self.size
        pixel = max(width, height) / self.pixels
        return int(np.ceil(height / pixel)) + 1, int(np.ceil(width / pixel)) + 1

    def points(self) -> NDArray[np.float64]:
        """(rows * columns, 3) Å, row by row from the bottom."""
        rows, columns = self.shape
        along_v, along_u = np.linspace(0, self.size[1], rows), np.linspace(0, self.size[0], columns)
        grid = along_v[:, None, None] * self.v + along_u[None, :, None] * self.u + self.origin
        return grid.reshape(-1, 3)

    def project(self, positions: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n, 3) Å: coordinates along u and v from the lower left corner, and height above the plane."""
        return (np.asarray(positions) - self.origin) @ np.stack([self.u, self.v, self.normal], axis=1)


def choose_plane(atoms: ase.Atoms, origin: NDArray[np.floating] | None = None) -> Plane:
    """The plane that shows most of a structure: through three atoms, and as many more as possible.

    Atoms count by the square root of their number, so that a molecule's backbone wins over its hydrogens. The
    plane covers the atoms with a margin, within the cell where there is one.

    Args:
        atoms: the structure; along periodic axes atoms are taken into the cell.
        origin: (3,) Å, corner of the cell; None is zero.

    Raises:
        ValueError: if there are no atoms.
    """
    if len(atoms) == 0:
        raise ValueError("a structure without atoms has no plane to draw")
    corner = np.zeros(3) if origin is None else np.asarray(origin, dtype=np.float64)
    positions = _wrapped(atoms, corner)
    weights = np.sqrt(atoms.numbers.astype(np.float64))
    centre = np.average(positions, axis=0, weights=atoms.numbers.clip(1))
    point, normal = _best_normal(positions, weights, centre)
    normal *= np.sign(normal[np.argmax(np.abs(normal))])
    point = centre - ((centre - point) @ normal) * normal
    near = np.abs((positions - point) @ normal) < 2 * IN_PLANE
    u = _longest_direction(positions[near] - point, normal)
    u *= np.sign(u[np.argmax(np.abs(u))])
    v = np.cross(normal, u)
    low, high = _extent(positions, atoms.cell.array, corner, point, (u, v, normal))
    if atoms.pbc.any():
        short = (SMALLEST - (high - low)).clip(0.0)
        low, high = low - short / 2, high + short / 2
    start = point + low[0] * u + low[1] * v
    return Plane(start, u, v, (float(high[0] - low[0]), float(high[1] - low[1])))


def _wrapped(atoms: ase.Atoms, corner: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions with atoms brought into the cell at `corner` along periodic axes."""
    shifted = atoms.copy()
    if not shifted.pbc.any() or shifted.cell.rank < 3:
        return shifted.positions
    shifted.positions -= corner
    shifted.wrap(eps=1e-3)
    return shifted.positions + corner


def _best_normal(
    positions: NDArray[np.float64], weights: NDArray[np.float64], centre: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A point on the plane that contains most atoms, and its unit normal."""
    nearest = np.argsort(np.linalg.norm(positions - centre, axis=1), kind="stable")[:CANDIDATE_ATOMS]
    heavy = nearest[weights[nearest] > 1.0]
    chosen = heavy if len(heavy) >= 3 else nearest
    triples = np.array(list(combinations(chosen, 3)), dtype=np.int64).reshape(-1, 3)
    a, b, c = (positions[triples[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)  # (n_triples, 3)
    lengths = np.linalg.norm(normals, axis=1)
    usable = lengths > 0.2  # Å²: three atoms on a line have no plane
    if not usable.any():
        return centre, _any_normal(positions - centre)
    a, normals = a[usable], normals[usable] / lengths[usable, None]
    heights = normals @ positions.T - np.einsum("ij,ij->i", normals, a)[:, None]  # (n_planes, n_atoms)
    scores = (weights * np.exp(-((heights / IN_PLANE) ** 2))).sum(axis=1)
    best = int(np.argmax(scores.round(6)))
    return a[best], normals[best]


def _any_normal(offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """A unit vector perpendicular to the line on which atoms lie; z if possible."""
    axis = np.linalg.svd(offsets, full_matrices=True)[2][0] if np.abs(offsets).max() > 0.1 else np.eye(3)[0]
    normal = np.eye(3)[2] - axis[2] * axis
    if np.linalg.norm(normal) < 0.1:
        normal = np.eye(3)[1] - axis[1] * axis
    return normal / np.linalg.norm(normal)


def _longest_direction(offsets: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vector in the plane along which the atoms spread most."""
    flat = offsets - (offsets @ normal)[:, None] * normal
    if len(flat) < 2 or np.abs(flat - flat.mean(axis=0)).max() < 0.1:
        axis = np.eye(3)[np.argmin(np.abs(normal))]
        axis = axis - (axis @ normal) * normal
    else:
        axis = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)[2][0]
    return axis / np.linalg.norm(axis)


def _extent(
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    corner: NDArray[np.float64],
    point: NDArray[np.float64],
    axes: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest coordinates along u and v: the atoms with a margin, cut to the cell's outline."""
    flat = (positions - point) @ np.stack(axes[:2], axis=1)
    low, high = flat.min(axis=0) - MARGIN, flat.max(axis=0) + MARGIN
    outline = cell_outline(cell, corner, point, axes[2])
    if len(outline) >= 3:
        corners = (outline - point) @ np.stack(axes[:2], axis=1)
        low, high = np.maximum(low, corners.min(axis=0)), np.minimum(high, corners.max(axis=0))
    return low, high


def cell_outline(
    cell: NDArray[np.floating],
    corner: NDArray[np.floating],
    point: NDArray[np.floating],
    normal: NDArray[np.floating],
) -> NDArray[np.float64]:
    """(n, 3) Å: the corners, in order, of the polygon that a plane cuts out of a cell; empty if it misses it.

    Args:
        cell: (3, 3) Å, rows are the edge vectors.
        corner: (3,) Å, where the cell begins.
        point: (3,) Å, a point on the plane.
        normal: (3,) unit vector.
    """
    found = []
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        for steps in product((0, 1), repeat=2):
            start = corner + steps[0] * cell[others[0]] + steps[1] * cell[others[1]]
            slope = cell[axis] @ normal
            if abs(slope) > 1e-9:
                t = ((point - start) @ normal) / slope
                if -1e-6 <= t <= 1 + 1e-6:
                    found.append(start + t * cell[axis])
    if len(found) < 3:
        return np.empty((0, 3))
    corners = np.array(found)
    middle = corners.mean(axis=0)
    u = corners[np.argmax(np.linalg.norm(corners - middle, axis=1))] - middle
    v = np.cross(normal, u)
    return corners[np.argsort(np.arctan2((corners - middle) @ v, (corners - middle) @ u))]


class PlaneStencil:
    """The grid points, with weights, from which the values on a plane are interpolated.

    The interpolation is Keys' cubic convolution over 4 × 4 × 4 points; it wraps round along periodic axes;
    points outside the box along the others become NaN.

    Args:
        plane: where values are wanted.
        shape: (nx, ny, nz) of the grid.
        cell: (3, 3) Å, rows are the edge vectors of the grid's box.
        origin: (3,) Å, of grid point (0, 0, 0).
        pbc: (3,) bool, where the grid repeats.

    Source: R. G. Keys, IEEE Trans. Acoust. 29, 1153 (1981), a = -1/2.
    """

    def __init__(
        self,
        plane: Plane,
        *,
        shape: tuple[int, int, int],
        cell: NDArray[np.floating],
        origin: NDArray[np.floating],
        pbc: NDArray[np.bool_],
    ) -> None:
        self.plane = plane
        fractional = (plane.points() - origin) @ np.linalg.inv(cell)  # (n, 3)
        index = np.zeros((len(fractional), 1), dtype=np.int64)
        weight = np.ones((len(fractional), 1))
        self._outside = np.zeros(len(fractional), dtype=bool)
        for axis in range(3):
            length = shape[axis]
            at = fractional[:, axis] * length
            first = np.floor(at).astype(np.int64)
            neighbours = first[:, None] + np.arange(-1, 3)  # (n, 4)
            if pbc[axis]:
                neighbours %= length
            else:
                self._outside |= (at < -1e-6) | (at > length - 1 + 1e-6)
                neighbours = neighbours.clip(0, length - 1)
            index = (index[:, :, None] * length + neighbours[:, None, :]).reshape(len(at), -1)
            weight = (weight[:, :, None] * _keys(at - first)[:, None, :]).reshape(len(at), -1)
        self._weight = weight  # (n, 64)
        self.indices, inverse = np.unique(index, return_inverse=True)
        """(n_needed,) flat indices, in C order, of the required grid points, ascending."""
        self._inverse = inverse.reshape(index.shape)

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Values (rows, columns) on the plane from the values (n_needed,) at the grid points `indices`."""
        result = np.einsum("nk,nk->n", self._weight, np.asarray(values, dtype=np.float64)[self._inverse])
        result[self._outside] = np.nan
        return result.reshape(self.plane.shape)


def _keys(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (n, 4) of the points at -1, 0, 1, 2 for a position t in [0, 1)."""
    return np.stack(
        [
            ((-t + 2) * t - 1) * t / 2,
            ((3 * t - 5) * t * t + 2) / 2,
            ((-3 * t + 4) * t + 1) * t / 2,
            (t - 1) * t * t / 2,
        ],
        axis=1,
    )


def plane_values(density: DensityGrid, plane: Plane) -> NDArray[np.float64]:
    """Density (rows, columns) in e/Å³ on a plane; NaN outside a box that does not repeat."""
    stencil = PlaneStencil(
        plane,
        shape=density.shape,
        cell=density.atoms.cell.array,
        origin=density.origin,
        pbc=density.atoms.pbc,
    )
    return stencil(density.values.ravel()[stencil.indices])
