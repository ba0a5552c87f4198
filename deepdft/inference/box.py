"""The grid of a prediction: in the cell of a crystal, or in a box with vacuum around a molecule."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
from numpy.typing import NDArray

from deepdft.density import Grid
from deepdft.errors import InputWarning
from deepdft.io.plausibility import check_structure

__all__ = [
    "DEFAULT_SPACING",
    "DEFAULT_VACUUM",
    "MARGIN",
    "Box",
    "Region",
    "fft_size",
    "make_box",
    "make_region",
    "room",
]

DEFAULT_SPACING = 0.1
"""Å between grid points."""
DEFAULT_VACUUM = 4.0
"""Å on each side of a molecule; a vacuum of 1 Å would cut off the tail of the density."""
MARGIN = 2.0
"""Å: a molecule keeps its own cell if all atoms are at least this far from its faces."""


@dataclass(frozen=True, eq=False)
class Box(Grid):
    """A grid in the cell of a structure or in a box around it; the atoms keep their own positions."""

    repeats: bool = True
    """Whether the box is the structure's own cell, which may be periodic; a box made for a molecule is not."""

    def structure(self) -> ase.Atoms:
        """The structure as the model sees it: without a cell if the box was made only for the grid."""
        atoms = self.atoms.copy()
        if not self.repeats:
            atoms.cell = np.zeros((3, 3))
        return atoms


@dataclass(frozen=True, eq=False)
class Region(Box):
    """A grid in an upright box, anywhere in or around a structure."""

    whole: ase.Atoms | None = None
    """The structure; `atoms` are the same, with the box as cell."""

    def structure(self) -> ase.Atoms:
        """The structure with its own cell."""
        return self.atoms.copy() if self.whole is None else self.whole.copy()


def make_region(
    atoms: ase.Atoms,
    bounds: Sequence[Sequence[float]],
    *,
    spacing: float | None = None,
    shape: Sequence[int] | None = None,
) -> Region:
    """A grid in an upright box, or on a plane, of a structure.

    Args:
        atoms: the structure.
        bounds: ((x_min, x_max), (y_min, y_max), (z_min, z_max)) Å of the points; two equal numbers make a plane.
        spacing: Å, largest distance between grid points; None is 0.1 without a shape.
        shape: (nx, ny, nz) points, instead of a spacing.

    Raises:
        ValueError: if the bounds are no box, or a number makes no sense.
    """
    try:
        low, high = np.array(bounds, dtype=np.float64).reshape(3, 2).T
    except (TypeError, ValueError):
        raise ValueError(f"region={bounds}: expected [[x_min,x_max],[y_min,y_max],[z_min,z_max]] in Å") from None
    flat = high == low
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (high >= low).all()) or flat.sum() > 1:
        raise ValueError(f"region={bounds}: expected a box, or a plane with one pair of equal numbers, in Å")
    step = DEFAULT_SPACING if spacing is None else spacing
    edges = np.where(flat, step, high - low)
    n_points = list(_shape(edges, spacing, shape))
    for axis in np.flatnonzero(flat):
        n_points[axis] = 1
    boxed = atoms.copy()
    boxed.cell, boxed.pbc = np.diag(edges), False
    return Region(boxed, (n_points[0], n_points[1], n_points[2]), low, repeats=False, whole=atoms.copy())


def make_box(
    atoms: ase.Atoms,
    *,
    spacing: float | None = None,
    shape: Sequence[int] | None = None,
    vacuum: float | None = None,
) -> Box:
    """Make the grid for a structure.

    A structure that repeats along any axis keeps its cell. Where a slab or wire is not at least 2 Å from the faces
    along an axis that does not repeat, the grid begins where the atoms are in its middle along that axis.
    A molecule keeps a cell that holds all atoms at least 2 Å from its faces; else, or where `vacuum` is given, it gets
    an upright box with that vacuum on each side, and the origin of the grid moves instead of the atoms.

    Args:
        atoms: the structure.
        spacing: Å, largest distance between grid points along the edges; the numbers of points are rounded up
            to even numbers with prime factors up to 7, which Fourier transforms like. None is 0.1, without a
            shape.
        shape: (nx, ny, nz) points, instead of a spacing.
        vacuum: Å on each side of a molecule; None is 4 where a box is needed.

    Raises:
        ValueError: if a number makes no sense, a periodic structure has no cell or is given vacuum, or a slab or wire
            is thicker than its cell.
    """
    with warnings.catch_warnings(action="ignore", category=InputWarning):  # the predictor warns
        check_structure(atoms)
    _check_vacuum(atoms, vacuum)
    boxed = atoms.copy()
    if atoms.pbc.any() or (vacuum is None and _fits(atoms)):
        return Box(boxed, _shape(boxed.cell.lengths(), spacing, shape), _origin(atoms))
    margin = DEFAULT_VACUUM if vacuum is None else vacuum
    low, high = atoms.positions.min(axis=0) - margin, atoms.positions.max(axis=0) + margin
    if (high - low <= 0).any():
        raise ValueError(f"vacuum={vacuum}: the box round {atoms.get_chemical_formula()} is flat; take more vacuum")
    boxed.cell = np.diag(high - low)
    return Box(boxed, _shape(boxed.cell.lengths(), spacing, shape), low, repeats=False)


def _check_vacuum(atoms: ase.Atoms, vacuum: float | None) -> None:
    """Refuse senseless vacuum, vacuum for a periodic structure, and a periodic structure without a cell."""
    if vacuum is not None and not (np.isfinite(vacuum) and vacuum >= 0):
        raise ValueError(f"vacuum is a distance in Å, zero or more, got {vacuum}")
    if atoms.pbc.any():
        if vacuum is not None:
            raise ValueError(
                f"vacuum={vacuum} is for molecules, but {atoms.get_chemical_formula()} is periodic: leave "
                "vacuum out to use its cell, or make it a molecule (pbc=false, in Python atoms.pbc = False)"
            )
        if atoms.cell.rank < 3:
            raise ValueError(
                f"{atoms.get_chemical_formula()} is periodic but its cell has no volume: give three lattice "
                "vectors (for a slab: atoms.center(vacuum=5, axis=2)), or make it a molecule (pbc=false)"
            )


def _origin(atoms: ase.Atoms) -> NDArray[np.float64]:
    """The origin of the grid: zero, except along non-periodic axes whose faces atoms cross or come close to."""
    fractional = atoms.positions @ np.linalg.inv(atoms.cell.array)
    low, high = fractional.min(axis=0), fractional.max(axis=0)
    shift = np.where(~atoms.pbc & (room(atoms) < MARGIN), (low + high) / 2 - 0.5, 0.0)
    if thick := [axis for axis in np.flatnonzero(~atoms.pbc) if high[axis] - low[axis] >= 1.0]:
        raise ValueError(
            f"{atoms.get_chemical_formula()} does not fit into its cell along {'abc'[thick[0]]}, which does not "
            f"repeat: make this lattice vector longer (atoms.center(vacuum=5, axis={thick[0]})), or let it repeat"
        )
    return shift @ atoms.cell.array


def _fits(atoms: ase.Atoms) -> bool:
    """Whether all atoms lie in the cell, far enough from its faces."""
    return atoms.cell.rank == 3 and bool((room(atoms) >= MARGIN).all())


def room(atoms: ase.Atoms) -> NDArray[np.float64]:
    """Distance (3,) in Å between the two faces across each axis of the cell and the atom nearest to them.

    Negative where an atom is outside.
    """
    inverse = np.linalg.inv(atoms.cell.array)
    heights = 1.0 / np.linalg.norm(inverse, axis=0)  # (3,) distance between opposite faces
    fractional = atoms.positions @ inverse
    return (np.minimum(fractional, 1.0 - fractional) * heights).min(axis=0)


def _shape(lengths: NDArray[np.floating], spacing: float | None, shape: Sequence[int] | None) -> tuple[int, int, int]:
    if shape is not None:
        if spacing is not None:
            raise ValueError(f"give a spacing or a shape, not both (spacing={spacing}, shape={list(shape)})")
        if len(shape) != 3 or not all(isinstance(n, int | np.integer) and n >= 1 for n in shape):
            raise ValueError(f"shape is three numbers of points, each at least 1, got {list(shape)}")
        return int(shape[0]), int(shape[1]), int(shape[2])
    spacing = DEFAULT_SPACING if spacing is None else spacing
    if not (np.isfinite(spacing) and spacing > 0):
        raise ValueError(f"spacing is a distance in Å above zero, got {spacing}")
    nx, ny, nz = (fft_size(int(np.ceil(length / spacing - 1e-9))) for length in lengths)
    return nx, ny, nz


def fft_size(n: int) -> int:
    """The smallest even number of at least n whose prime factors are 2, 3, 5 and 7."""
    size = max(2, n + n % 2)
    while not _is_smooth(size):
        size += 2
    return size


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5, 7):
        while n % prime == 0:
            n //= prime
    return n == 1
