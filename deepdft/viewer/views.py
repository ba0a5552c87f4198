"""Surfaces and slices of fields on a regular grid, with repeats and faces of cells closed as they should be."""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from deepdft.density import Grid

__all__ = ["Mesh", "SlicePlane", "atoms_shown", "cell_edges", "isosurface", "sample", "slice_plane"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangulated surface."""

    vertices: NDArray[np.float32]
    """(n, 3) Å."""
    normals: NDArray[np.float32]
    """(n, 3) unit vectors, out of what the surface encloses."""
    faces: NDArray[np.uint32]
    """(m, 3) indices of vertices, counterclockwise as seen from outside."""


def _repeated(values: NDArray[np.floating], grid: Grid, repeats: tuple[int, int, int]) -> NDArray[np.floating]:
    """Values with the end plane that closes a repeating cell, and further cells: index n is index 0 again."""
    for axis in range(3):
        if grid.atoms.pbc[axis]:
            n = values.shape[axis]
            values = np.take(values, np.arange(repeats[axis] * n + 1) % n, axis=axis)
    return values


def isosurface(
    values: NDArray[np.floating], grid: Grid, level: float, repeats: tuple[int, int, int] = (1, 1, 1)
) -> Mesh:
    """The surface where a field has a value, by marching cubes with linear interpolation, in oblique cells too.

    Args:
        values: (nx, ny, nz) field.
        grid: the points of the field.
        level: the value; a surface of a negative value encloses what is below it.
        repeats: cells along each axis that repeats; others have one.

    Returns:
        The mesh, empty where the field does not reach the value.
    """
    from skimage.measure import marching_cubes

    field = np.ascontiguousarray(_repeated(values, grid, repeats), dtype=np.float32)
    if min(field.shape) < 2 or not field.min() < level < field.max():
        return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint32))
    index, faces, gradient, _ = marching_cubes(field, level=level)
    vertices = index @ grid.steps + grid.origin
    # a gradient transforms with the inverse of the steps, a position with the steps
    normals = gradient @ np.linalg.inv(grid.steps).T
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12) * np.sign(level or 1.0)
    if (np.linalg.det(grid.steps) > 0) == (level >= 0):
        faces = faces[:, ::-1]
    return Mesh(vertices.astype(np.float32), normals.astype(np.float32), faces.astype(np.uint32))


def sample(values: NDArray[np.floating], grid: Grid, points: NDArray[np.floating]) -> Array:
    """Trilinear interpolation (n,) at points (n, 3) in Å; NaN outside a box that does not repeat."""
    index = (points - grid.origin) @ np.linalg.inv(grid.steps)
    shape = np.array(grid.shape)
    outside = np.zeros(len(points), dtype=bool)
    for axis in range(3):
        if grid.atoms.pbc[axis]:
            index[:, axis] %= shape[axis]
        else:
            outside |= (index[:, axis] < 0) | (index[:, axis] > shape[axis] - 1)
    found = map_coordinates(_repeated(values, grid, (1, 1, 1)), index.T, order=1, mode="nearest", output=np.float64)
    found[outside] = np.nan
    return np.asarray(found)


@dataclass(frozen=True, eq=False)
class SlicePlane:
    """A square raster of points."""

    points: Array
    """(pixels², 3) Å, row by row."""
    right: Array
    """(3,) unit vector along rows."""
    up: Array
    """(3,) unit vector from row to row."""
    centre: Array
    """(3,) Å."""


def slice_plane(centre: Array, *, tilt: float, turn: float, offset: float, size: float, pixels: int) -> SlicePlane:
    """A square on a plane that turns about a point.

    Args:
        centre: (3,) Å, the point.
        tilt: degrees between the plane's normal and the z axis.
        turn: degrees by which the normal is turned about z.
        offset: Å from the point along the normal.
        size: Å, length of the sides.
        pixels: points along a side.
    """
    theta, phi = np.radians(tilt), np.radians(turn)
    normal = np.array([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
    right = np.array([-np.sin(phi), np.cos(phi), 0.0])
    up = np.cross(normal, right)
    middle = centre + offset * normal
    ticks = np.linspace(-size / 2, size / 2, pixels)
    raster = ticks[None, :, None] * right + ticks[:, None, None] * up + middle
    return SlicePlane(raster.reshape(-1, 3), right, up, middle)


def atoms_shown(grid: Grid, repeats: tuple[int, int, int] = (1, 1, 1)) -> tuple[NDArray[np.intp], Array]:
    """Which atoms are drawn and where: in the cell along axes that repeat, those on a face on both faces.

    Returns:
        Indices (n,) of atoms and positions (n, 3) in Å.
    """
    atoms: ase.Atoms = grid.atoms
    index, shifts = [], []
    fractional = (atoms.positions - grid.origin) @ np.linalg.inv(grid.cell)
    on_face = 0.15 / np.linalg.norm(grid.cell, axis=1)  # atoms within 0.15 Å of a face lie on it
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
