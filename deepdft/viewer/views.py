"""Surfaces and slices of fields on a regular grid, with repeats and faces of cells closed as they should be."""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from deepdft.density import Grid

__all__ = [
    "Mesh",
    "SlicePlane",
    "atoms_shown",
    "cell_edges",
    "extent",
    "isosurface",
    "orientation",
    "plane_of_atoms",
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
