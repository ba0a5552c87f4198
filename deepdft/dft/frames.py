"""The cell of a calculation: boxes around molecules, cells of crystals, grids and k-points that fit them."""

from __future__ import annotations

import ase
import numpy as np

from deepdft.dft.calculation import CalculationError, ignored_charge
from deepdft.inference.box import fft_size

__all__ = ["grid_shape", "in_a_box", "in_its_cell", "kpoint_grid", "refuse_charge"]


def refuse_charge(atoms: ase.Atoms, charge: float) -> None:
    """Check that a structure has no charge beside the one that the engine is told of.

    Args:
        atoms: the structure.
        charge: of every calculation, e.

    Raises:
        CalculationError: if it has one, which would be ignored.
    """
    if ignored := ignored_charge(atoms, charge):
        raise CalculationError(
            f"{atoms.get_chemical_formula()} has the charge {ignored:+d}, which would be ignored; expected a "
            "neutral structure, such as one with its counterions"
        )


def in_a_box(atoms: ase.Atoms, vacuum: float, spacing: float) -> ase.Atoms:
    """A molecule in the middle of a periodic box whose edges are multiples of the grid spacing.

    Args:
        atoms: the molecule.
        vacuum: smallest distance between the outermost atoms and the faces of the box, Å.
        spacing: of grid points, Å.
    """
    extent = np.ptp(atoms.positions, axis=0) + 2 * vacuum
    lengths = np.array([fft_size(_at_least(length / spacing)) for length in extent]) * spacing
    framed = ase.Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=lengths, pbc=True)
    framed.positions += lengths / 2 - (atoms.positions.max(axis=0) + atoms.positions.min(axis=0)) / 2
    framed.set_initial_magnetic_moments(atoms.get_initial_magnetic_moments())
    return framed


def in_its_cell(atoms: ase.Atoms, advice: str) -> ase.Atoms:
    """A crystal or liquid in its own cell, with all atoms inside.

    Args:
        atoms: the structure.
        advice: what to do with a structure that has no such cell, for the message.

    Raises:
        CalculationError: if it is not periodic in three directions.
    """
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise CalculationError(
            f"periodic in {int(atoms.pbc.sum())} directions, cell of rank {atoms.cell.rank}; expected three: {advice}"
        )
    framed = ase.Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    framed.wrap()
    framed.set_initial_magnetic_moments(atoms.get_initial_magnetic_moments())
    return framed


def grid_shape(framed: ase.Atoms, spacing: float) -> tuple[int, int, int]:
    """Points of a grid along each edge of a cell, at most `spacing` (Å) apart.

    Distances are taken along the edges, not between faces: in a skew cell other planes of grid points lie further apart
    than those parallel to the faces.
    """
    nx, ny, nz = (fft_size(_at_least(length / spacing)) for length in framed.cell.lengths())
    return nx, ny, nz


def kpoint_grid(framed: ase.Atoms, density: float) -> list[int]:
    """Number of k-points along each reciprocal axis, at least one.

    Args:
        framed: structure in its cell.
        density: points per 1/Å of reciprocal length, Å: an edge of a Å gets 2π · density / a points.
    """
    lengths = 2 * np.pi * np.linalg.norm(framed.cell.reciprocal(), axis=1)
    return [max(1, int(np.ceil(density * length - 1e-9))) for length in lengths]


def _at_least(number: float) -> int:
    """The smallest whole number that is not below a number, up to rounding."""
    return int(np.ceil(number - 1e-9))
