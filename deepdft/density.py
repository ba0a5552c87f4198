"""`DensityGrid`: the one type for a density on a regular grid, used at every border of the package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import ase
import numpy as np
from numpy.typing import NDArray

from deepdft.vectors import rows_times

__all__ = ["DensityGrid", "Order", "grid_points", "volume"]


Order = Literal["C", "F"]
"""How points of a grid are counted: z fastest (as in a cube), or x fastest (as in a CHGCAR)."""


def volume(cell: NDArray[np.floating]) -> float:
    """Volume of a parallelepiped in Å³, positive for left-handed cells too.

    Args:
        cell: (3, 3) Å, rows are the edge vectors.
    """
    return float(abs(np.linalg.det(np.asarray(cell, dtype=np.float64))))


def grid_points(
    cell: NDArray[np.floating],
    shape: tuple[int, int, int],
    origin: NDArray[np.floating],
    flat_indices: NDArray[np.integer] | slice | None = None,
    *,
    order: Order = "C",
) -> NDArray[np.float64]:
    """Positions of the points of a regular grid; point (i, j, k) lies at origin + i/nx a + j/ny b + k/nz c.

    Args:
        cell: (3, 3) Å, rows are the edge vectors of the grid's box.
        shape: (nx, ny, nz).
        origin: (3,) Å, position of point (0, 0, 0).
        flat_indices: which points: indices, a slice, or None for all.
        order: how they are counted, "C" for z fastest, "F" for x fastest.

    Returns:
        (n, 3) Å, float64.
    """
    n_points = int(np.prod(shape))
    if flat_indices is None:
        flat_indices = slice(None)
    if isinstance(flat_indices, slice):
        flat_indices = np.arange(*flat_indices.indices(n_points))
    fractional = np.stack(np.unravel_index(flat_indices, shape, order=order), axis=-1) / np.asarray(shape)  # (n, 3)
    return rows_times(fractional, cell) + origin


@dataclass(frozen=True, eq=False)
class DensityGrid:
    """An electron density on a regular grid that spans `atoms.cell`.

    Raises:
        ValueError: if the grid is not three-dimensional, or the cell has no volume.
    """

    values: NDArray[np.floating]
    """(nx, ny, nz) density in e/Å³; the value at [i, j, k] belongs to the point origin + i/nx a + j/ny b + k/nz c."""

    atoms: ase.Atoms
    """The structure; `atoms.cell` is the box that the grid spans and `atoms.pbc` says where it repeats."""

    origin: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    """(3,) Å, position of the grid point [0, 0, 0]."""

    channels: dict[str, NDArray[np.floating]] = field(default_factory=dict)
    """Further fields on the same grid by name, e.g. "difference": spin up minus spin down in e/Å³."""

    info: dict[str, str] = field(default_factory=dict)
    """Text that belongs to the density: "comment", CHGCAR "augmentation" occupancies, …"""

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        origin = np.asarray(self.origin, dtype=np.float64)
        if values.ndim != 3 or 0 in values.shape:
            raise ValueError(f"a density grid is (nx, ny, nz) with at least one point, got shape {values.shape}")
        if not np.issubdtype(values.dtype, np.floating):
            raise ValueError(f"a density grid holds floating-point numbers in e/Å³, got {values.dtype}")
        if origin.shape != (3,):
            raise ValueError(f"the origin of a grid is (3,) Å, got shape {origin.shape}")
        if volume(self.atoms.cell) == 0.0:
            raise ValueError("the atoms of a density grid need a cell with a volume: it is the box of the grid")
        channels = {name: np.asarray(channel) for name, channel in self.channels.items()}
        for name, channel in channels.items():
            if channel.shape != values.shape:
                raise ValueError(f"channel {name!r} has shape {channel.shape}, the density {values.shape}")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "channels", channels)
        object.__setattr__(self, "origin", origin)

    def __repr__(self) -> str:
        """One line: what it is of, and how large."""
        grid = " × ".join(map(str, self.shape))
        channels = f", channels {', '.join(self.channels)}" if self.channels else ""
        formula = self.atoms.get_chemical_formula()
        return f"DensityGrid({formula}, {grid} points, {self.n_electrons:.4f} electrons{channels})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of points along the three edges of the box."""
        return self.values.shape

    @property
    def voxel_volume(self) -> float:
        """Volume of one grid cell in Å³."""
        return volume(self.atoms.cell) / self.values.size

    @property
    def n_electrons(self) -> float:
        """Integral of the density over the box, summed in float64."""
        return float(self.values.sum(dtype=np.float64)) * self.voxel_volume

    def points(self, flat_indices: NDArray[np.integer] | slice | None = None) -> NDArray[np.float64]:
        """Positions (n, 3) in Å of grid points, counted in C order (z fastest) like `values.ravel()`."""
        return grid_points(self.atoms.cell.array, self.shape, self.origin, flat_indices)
