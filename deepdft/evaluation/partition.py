"""Analysis of a density by atoms: difference from the sum of free atoms, Hirshfeld charges, dipole moment.

The free atoms are those of the package (spherical, neutral, valence electrons only; deepdft/bundled/free_atoms.md), so
the results are those of valence densities with the same valences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from deepdft import bundled
from deepdft.density import DensityGrid, Grid

__all__ = ["FREE_ATOM_RADIUS", "dipole_moment", "hirshfeld_charges", "promolecule", "valence_electrons"]

FREE_ATOM_RADIUS = 6.0
"""Å at which densities of free atoms are cut off; the largest loses less than 1 % of an electron."""


@dataclass(frozen=True, eq=False)
class _Table:
    """Radial densities of free atoms."""

    numbers: NDArray[np.integer]
    n_valence: NDArray[np.integer]
    x: NDArray[np.float64]
    scale: float
    density: NDArray[np.float64]

    def row(self, number: int) -> int:
        """The row of an element.

        Raises:
            ValueError: if there is no free atom of it.
        """
        found = np.flatnonzero(self.numbers == number)
        if len(found) == 0:
            raise ValueError(f"no free atom of {chemical_symbols[number]}: GPAW has no PAW set of it")
        return int(found[0])


@cache
def _table() -> _Table:
    with np.load(bundled.FREE_ATOMS) as stored:
        scale = float(stored["scale"])
        x = np.arcsinh(stored["radii"] / scale)
        return _Table(stored["numbers"], stored["n_valence"], x, scale, stored["density"].astype(np.float64))


@cache
def _radial_density(number: int) -> CubicSpline:
    """The density in e/Å³ of a free atom as a function of arcsinh(r / scale)."""
    table = _table()
    return CubicSpline(table.x, table.density[table.row(number)], bc_type=("clamped", "natural"))


def valence_electrons(numbers: NDArray[np.integer]) -> NDArray[np.int64]:
    """Valence electrons (n_atoms,) of neutral atoms, as in GPAW's PAW sets.

    Raises:
        ValueError: if there is no free atom of an element.
    """
    table = _table()
    return np.array([table.n_valence[table.row(int(number))] for number in numbers], dtype=np.int64)


def _atoms_on_grid(grid: Grid) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """For each atom, the flat indices of the points that its free atom reaches, and the density there, with images.

    A point is listed once per image of the atom that reaches it. Index ranges of the box around an atom follow from the
    reciprocal vectors, so oblique cells and cells smaller than the atom need no special case.
    """
    table, shape = _table(), np.array(grid.shape)
    to_index = np.linalg.inv(grid.steps)  # Å → grid steps
    reach = FREE_ATOM_RADIUS * np.linalg.norm(to_index, axis=0)  # (3,) grid steps
    metric = grid.steps @ grid.steps.T
    for number, position in zip(grid.atoms.numbers, grid.atoms.positions, strict=True):
        centre = (position - grid.origin) @ to_index
        axes = []
        for axis in range(3):
            index = np.arange(int(np.ceil(centre[axis] - reach[axis])), int(np.floor(centre[axis] + reach[axis])) + 1)
            if not grid.atoms.pbc[axis]:
                index = index[(index >= 0) & (index < shape[axis])]
            axes.append(index)
        offsets = [index - centre[axis] for axis, index in enumerate(axes)]
        a, b, c = offsets[0][:, None, None], offsets[1][None, :, None], offsets[2][None, None, :]
        squares = metric[0, 0] * a * a + metric[1, 1] * b * b + metric[2, 2] * c * c
        squares = squares + 2 * (metric[0, 1] * a * b + metric[0, 2] * a * c + metric[1, 2] * b * c)
        inside = squares < FREE_ATOM_RADIUS**2
        wrapped = np.ix_(*(index % n for index, n in zip(axes, shape, strict=True)))
        flat = np.ravel_multi_index(np.broadcast_arrays(*wrapped), grid.shape)[inside]
        x = np.arcsinh(np.sqrt(squares[inside].clip(0.0)) / table.scale)
        yield flat, _radial_density(int(number))(x)


def promolecule(grid: Grid) -> NDArray[np.float64]:
    """The sum of free atoms (nx, ny, nz) in e/Å³ on a grid; a density minus this is its deformation density.

    Raises:
        ValueError: if there is no free atom of an element.
    """
    total = np.zeros(grid.n_points)
    for flat, density in _atoms_on_grid(grid):
        np.add.at(total, flat, density)
    return total.reshape(grid.shape)


def hirshfeld_charges(density: DensityGrid, free: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
    """Charges (n_atoms,) in e: each point's electrons are shared in proportion to the free atoms there.

    Only the difference from the sum of free atoms is integrated, Q_a = -∫ w_a (ρ - Σ_b ρ_b), so that errors of the grid
    near the nuclei cancel. Charges of a density that lacks electrons on its grid do not add up to zero.

    Source: Hirshfeld, Theor. Chim. Acta 44, 129 (1977).

    Args:
        density: the density.
        free: its `promolecule` (nx, ny, nz), where it is known already.

    Raises:
        ValueError: if there is no free atom of an element.
    """
    grid = density.grid
    free = (promolecule(grid) if free is None else free).ravel()
    share = np.divide(density.values.ravel() - free, free, out=np.zeros_like(free), where=free > 0)
    return -np.array([atom @ share[flat] for flat, atom in _atoms_on_grid(grid)]) * grid.voxel_volume


def dipole_moment(density: DensityGrid, free: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
    """Dipole moment (3,) in e Å of a molecule, from negative to positive charge.

    The moment of the difference from the sum of free atoms, which have none, is integrated, so that errors of the grid
    near the nuclei cancel.

    Args:
        density: the density.
        free: its `promolecule` (nx, ny, nz), where it is known already.

    Raises:
        ValueError: if the structure repeats (its dipole moment is not defined), or there is no free atom of an element.
    """
    if density.atoms.pbc.any():
        raise ValueError("the dipole moment of a repeating structure depends on the choice of the cell")
    grid = density.grid
    difference = (density.values - (promolecule(grid) if free is None else free)).ravel()
    points = grid.points() - density.atoms.positions.mean(axis=0)
    return -(difference @ points) * grid.voxel_volume
