"""Surfaces and slices of fields on a regular grid, with the faces of repeating cells closed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from deepdft.density import Grid

__all__ = [
    "Mesh",
    "SlicePlane",
    "isosurface",
    "sample",
    "slice_plane",
    "stl",
]

Array = NDArray[np.float64]
MAX_REFINED = 4_000_000
"""Points up to which a grid is refined before a surface is drawn."""


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
    """The surface where a field has a value, by marching cubes, in oblique cells too.

    Grids that are not large are refined twofold by cubic interpolation first, so that small features look smooth.

    Args:
        values: (nx, ny, nz) field.
        grid: the points of the field.
        level: the value; a surface of a negative value encloses what is below it.
        repeats: cells along each axis that repeats; others have one.

    Returns:
        The mesh, empty where the field does not reach the value.
    """
    from skimage.measure import marching_cubes

    field, steps = np.asarray(values, dtype=np.float32), grid.steps
    if 8 * field.size * np.prod(repeats) <= MAX_REFINED and min(field.shape) >= 2:
        for axis in range(3):
            field = _refined(field, axis, periodic=bool(grid.atoms.pbc[axis]))
        steps = steps / 2
    field = np.ascontiguousarray(_repeated(field, grid, repeats))
    if min(field.shape) < 2 or not field.min() < level < field.max():
        return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint32))
    index, faces, gradient, _ = marching_cubes(field, level=level)
    vertices = index @ steps + grid.origin
    # a gradient transforms with the inverse of the steps, a position with the steps
    normals = gradient @ np.linalg.inv(steps).T
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12) * np.sign(level or 1.0)
    if (np.linalg.det(grid.steps) > 0) == (level >= 0):
        faces = faces[:, ::-1]
    return Mesh(vertices.astype(np.float32), normals.astype(np.float32), faces.astype(np.uint32))


def stl(mesh: Mesh) -> bytes:
    """A surface as a binary STL file in millimetres, 10 for each Å, for 3D printing."""
    corners = 10 * mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    records = np.zeros(len(corners), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")])
    records["normal"], records["corners"] = normals, corners
    header = b"deepdft: surface of a field, mm, 10 mm per angstrom".ljust(80) + np.uint32(len(records)).tobytes()
    return header + records.tobytes()


def _refined(values: NDArray[np.float32], axis: int, *, periodic: bool) -> NDArray[np.float32]:
    """Values on twice as many points along an axis, by the cubic through the four neighbours of each midpoint."""
    along = np.moveaxis(values, axis, 0)
    n = len(along)
    index = np.arange(-1, n + 2)
    before, left, right, after = (
        along[(index % n if periodic else index.clip(0, n - 1))[start : start + n]] for start in range(4)
    )
    middle = (np.float32(9 / 16) * (left + right)) - (np.float32(1 / 16) * (before + after))
    both = np.stack([along, middle], axis=1).reshape(2 * n, *along.shape[1:])
    return np.moveaxis(both if periodic else both[:-1], 0, axis)


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
