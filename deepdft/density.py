"""`Grid`, the points of a regular grid, and `DensityGrid`, a density on one: the types that all parts exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import ase
import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepdft.vectors import matmul_single_threaded

if TYPE_CHECKING:
    import xarray
    from pymatgen.io.vasp.outputs import Chgcar

__all__ = [
    "INITIAL_MOMENTS",
    "OCCUPANCIES",
    "TOTAL",
    "DensityGrid",
    "Grid",
    "Order",
    "collinear_moments",
    "grid_points",
    "occupancies_of",
    "volume",
]


Order = Literal["C", "F"]
"""Order in which the points of a grid are counted: z fastest (as in a cube), or x fastest (as in a CHGCAR)."""

TOTAL = "total"
"""Name of the channel that every density has: the number of electrons per volume."""

OCCUPANCIES = "occupancies"
"""Name of the PAW augmentation occupancies of the total density in `DensityGrid.atom_arrays`."""


INITIAL_MOMENTS = "initial_moments"
"""Name of the moments (n_atoms, 1) in μ_B that a calculation started from in `DensityGrid.atom_arrays`."""


def collinear_moments(atoms: ase.Atoms) -> NDArray[np.float64]:
    """Initial magnetic moments (n_atoms,) of a structure in μ_B, zero where it has none.

    Raises:
        ValueError: if they are vectors, of a non-collinear calculation.
    """
    moments = np.asarray(atoms.get_initial_magnetic_moments(), dtype=np.float64)
    if moments.ndim != 1:
        raise ValueError(
            f"{atoms.get_chemical_formula()} has non-collinear initial moments; expected one number in μ_B per atom"
        )
    return moments


def occupancies_of(channel: str) -> str:
    """Name of the PAW augmentation occupancies of a channel in `DensityGrid.atom_arrays`."""
    return OCCUPANCIES if channel == TOTAL else f"{OCCUPANCIES}_{channel}"


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
    return matmul_single_threaded(fractional, cell) + origin


@dataclass(frozen=True, eq=False)
class Grid:
    """The points of a regular grid that spans `atoms.cell`, without values.

    Raises:
        ValueError: if the shape is not three positive integers, the origin is not three finite numbers, or the cell
            has no volume.
    """

    atoms: ase.Atoms
    """The structure; `atoms.cell` is the box that the grid spans and `atoms.pbc` says where it repeats."""

    shape: tuple[int, int, int]
    """(nx, ny, nz) number of points along the three edges of the box."""

    origin: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    """(3,) Å, position of the grid point (0, 0, 0)."""

    def __post_init__(self) -> None:
        shape = tuple(self.shape)
        origin = np.asarray(self.origin, dtype=np.float64)
        if len(shape) != 3 or not all(isinstance(n, int | np.integer) and n > 0 for n in shape):
            raise ValueError(f"a grid is (nx, ny, nz) with at least one point along each edge, got shape {shape}")
        if origin.shape != (3,) or not np.isfinite(origin).all():
            raise ValueError(f"the origin of a grid is three finite numbers in Å, got {origin}")
        with np.errstate(invalid="ignore", over="ignore"):
            box_volume = volume(self.atoms.cell.array)
        if not (np.isfinite(box_volume) and box_volume > 0):
            raise ValueError(
                "the atoms of a grid need a cell with a volume (finite and not zero): it is the box of the grid"
            )
        object.__setattr__(self, "shape", tuple(int(n) for n in shape))
        object.__setattr__(self, "origin", origin)

    @property
    def cell(self) -> NDArray[np.float64]:
        """(3, 3) Å, edge vectors of the box as rows."""
        return np.asarray(self.atoms.cell.array, dtype=np.float64)

    @property
    def n_points(self) -> int:
        """Number of grid points."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def volume(self) -> float:
        """Volume of the box in Å³."""
        return volume(self.cell)

    @property
    def voxel_volume(self) -> float:
        """Volume per grid point in Å³."""
        return self.volume / self.n_points

    @property
    def steps(self) -> NDArray[np.float64]:
        """(3, 3) Å, the vectors from a point to its neighbours along the three edges, as rows."""
        return self.cell / np.array(self.shape)[:, None]

    @property
    def spacing(self) -> NDArray[np.float64]:
        """(3,) Å, distance between neighbouring points along the three edges."""
        return np.asarray(np.linalg.norm(self.steps, axis=1))

    def points(
        self, flat_indices: NDArray[np.integer] | slice | None = None, *, order: Order = "C"
    ) -> NDArray[np.float64]:
        """Positions (n, 3) of grid points in Å.

        Args:
            flat_indices: which points: indices, a slice, or None for all.
            order: how they are counted, "C" for z fastest (like `values.ravel()`), "F" for x fastest.
        """
        return grid_points(self.cell, self.shape, self.origin, flat_indices, order=order)


@dataclass(frozen=True, eq=False)
class DensityGrid:
    """An electron density on a regular grid that spans `atoms.cell`.

    Raises:
        ValueError: if the grid is not three-dimensional, the cell has no volume, or a channel or an array of the atoms
            has another shape than its like.
    """

    values: NDArray[np.floating]
    """(nx, ny, nz) total density in e/Å³; [i, j, k] belongs to the point origin + i/nx a + j/ny b + k/nz c."""

    atoms: ase.Atoms
    """The structure; `atoms.cell` is the box that the grid spans and `atoms.pbc` says where it repeats."""

    origin: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    """(3,) Å, position of the grid point [0, 0, 0]."""

    channels: dict[str, NDArray[np.floating]] = field(default_factory=dict)
    """Further fields on the same grid by name, e.g. "difference": spin up minus spin down in e/Å³."""

    info: dict[str, str] = field(default_factory=dict)
    """Text that belongs to the density, e.g. "comment"."""

    atom_arrays: dict[str, NDArray[np.floating]] = field(default_factory=dict)
    """Numbers of the atoms by name, each (n_atoms, n_max), rows with fewer padded with NaN at the end.

    "occupancies" are the PAW augmentation occupancies of a CHGCAR, "occupancies_difference" those of its spin block.
    """

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        if values.ndim != 3 or 0 in values.shape:
            raise ValueError(f"a density grid is (nx, ny, nz) with at least one point, got shape {values.shape}")
        if not np.issubdtype(values.dtype, np.floating):
            raise ValueError(f"a density grid holds floating-point numbers in e/Å³, got {values.dtype}")
        origin = Grid(self.atoms, values.shape, self.origin).origin
        channels = {name: np.asarray(channel) for name, channel in self.channels.items()}
        for name, channel in channels.items():
            if name == TOTAL:
                raise ValueError(f"the channel {TOTAL!r} is `values`: give further channels another name")
            if channel.shape != values.shape:
                raise ValueError(f"channel {name!r} has shape {channel.shape}, the density {values.shape}")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "channels", channels)
        object.__setattr__(self, "origin", origin)
        object.__setattr__(
            self, "atom_arrays", {name: self._per_atom(name, array) for name, array in self.atom_arrays.items()}
        )

    def _per_atom(self, name: str, array: ArrayLike) -> NDArray[np.floating]:
        """Check an array of the atoms and convert it to floating-point numbers."""
        rows = np.asarray(array)
        rows = rows if np.issubdtype(rows.dtype, np.floating) else rows.astype(np.float64)
        if rows.ndim != 2 or len(rows) != len(self.atoms):
            raise ValueError(f"array {name!r} of {len(self.atoms)} atoms is (n_atoms, n_max), got shape {rows.shape}")
        return rows

    def __repr__(self) -> str:
        """One line: formula, grid, electrons and channels."""
        grid = " × ".join(map(str, self.shape))
        channels = f", channels {', '.join(self.channels)}" if self.channels else ""
        formula = self.atoms.get_chemical_formula()
        return f"DensityGrid({formula}, {grid} points, {self.n_electrons:.4f} electrons{channels})"

    @property
    def grid(self) -> Grid:
        """The points that the values belong to."""
        return Grid(self.atoms, self.shape, self.origin)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of points along the three edges of the box."""
        return self.values.shape

    @property
    def voxel_volume(self) -> float:
        """Volume of one grid cell in Å³."""
        return self.grid.voxel_volume

    @property
    def n_electrons(self) -> float:
        """Integral of the density over the box, summed in float64."""
        return float(self.values.sum(dtype=np.float64)) * self.voxel_volume

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of all channels, "total" first."""
        return (TOTAL, *self.channels)

    def channel(self, name: str) -> NDArray[np.floating]:
        """The (nx, ny, nz) values of a channel.

        Raises:
            ValueError: if there is none of this name.
        """
        if name != TOTAL and name not in self.channels:
            raise ValueError(f"the density has no channel {name!r}, only {', '.join(self.channel_names)}")
        return self.values if name == TOTAL else self.channels[name]

    def stacked(self, names: Sequence[str] | None = None) -> NDArray[np.floating]:
        """The values of several channels side by side, (nx, ny, nz, n_channels); None stacks all of them."""
        return np.stack([self.channel(name) for name in names or self.channel_names], axis=-1)

    def points(
        self, flat_indices: NDArray[np.integer] | slice | None = None, *, order: Order = "C"
    ) -> NDArray[np.float64]:
        """Positions (n, 3) in Å of grid points, counted in C order (z fastest) like `values.ravel()`."""
        return self.grid.points(flat_indices, order=order)

    def to_pymatgen(self) -> Chgcar:
        """This density as a pymatgen Chgcar (extra `pymatgen`), with its spin channels and PAW occupancies.

        Raises:
            ModuleNotFoundError: if pymatgen is not installed.
            ValueError: if the grid does not begin at zero, or there is a channel that a CHGCAR does not hold.
        """
        from deepdft.interop import to_pymatgen

        return to_pymatgen(self)

    @classmethod
    def from_pymatgen(cls, chgcar: Chgcar) -> DensityGrid:
        """A density from a pymatgen Chgcar, such as those of the Materials Project.

        Raises:
            ValueError: if the structure has partial occupancies.
        """
        from deepdft.interop import from_pymatgen

        return from_pymatgen(chgcar)

    def to_xarray(self) -> xarray.Dataset:
        """This density as an xarray Dataset (extra `xarray`): a variable in e/Å³ for each channel over a, b and c.

        Raises:
            ModuleNotFoundError: if xarray is not installed.
        """
        from deepdft.interop import to_xarray

        return to_xarray(self)
