"""A structure that is too large to be encoded at once, in overlapping domains that are encoded one after the other.

The density at a point depends only on the atoms within the model's receptive field. A domain is a set of query points
with all atoms and periodic images that they depend on, as a structure without a cell: encoded alone, it gives the same
densities as the whole structure, to rounding. Memory then depends on the domain instead of on the structure; the price
is that atoms near the border of several domains are encoded in each of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import ase
import numpy as np
from numpy.typing import NDArray

from deepdft.density import Grid, collinear_moments
from deepdft.graph.images import complete_cell
from deepdft.inference.encoded import periodicity
from deepdft.vectors import matmul_single_threaded

__all__ = ["Domain", "Domains"]

SMALLEST_EDGE = 0.25
"""Edge of a domain in units of the receptive field below which cutting it further saves hardly any atoms."""

Array = NDArray[np.float64]
Index = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class _Region:
    """A parallelepiped that contains the points of a domain."""

    origin: Array
    """(3,) Å, one of its corners."""
    edges: Array
    """(3, 3) Å, edge vectors as rows."""

    def corners(self) -> Array:
        """(8, 3) Å."""
        return self.origin + np.array(list(product((0.0, 1.0), repeat=3))) @ self.edges

    def within(self, positions: Array, reach: float) -> NDArray[np.bool_]:
        """Whether positions (n, 3) may be closer than `reach` (Å) to the region: no false negatives, (n,)."""
        inverse = np.linalg.inv(self.edges)
        beyond = reach * np.linalg.norm(inverse, axis=0) + 1e-9
        fractional = matmul_single_threaded(positions - self.origin, inverse)
        near: NDArray[np.bool_] = ((fractional > -beyond) & (fractional < 1 + beyond)).all(axis=1)
        corners = self.corners()
        candidates = positions[near]
        outside = np.maximum(corners.min(axis=0) - candidates, candidates - corners.max(axis=0)).clip(min=0.0)
        near[near] = (outside**2).sum(axis=1) < (reach + 1e-9) ** 2
        return near


@dataclass(frozen=True)
class Domain:
    """A box of grid points whose densities depend on a limited number of atoms."""

    start: Index
    """The first grid point along each edge."""
    stop: Index
    """The grid point after the last one along each edge."""
    n_atoms: int
    """Atoms and images of atoms within the receptive field of the points."""

    def region(self, grid: Grid) -> _Region:
        """The space around its points."""
        n = np.subtract(self.stop, self.start)
        return _Region(grid.origin + np.array(self.start) @ grid.steps, grid.steps * n[:, None])


class Surroundings:
    """Finds the atoms of a structure, and their periodic images, around any region.

    Args:
        atoms: the structure.
        pbc: of the model: None as the structure has it, True forced on, False ignored.

    Raises:
        ValueError: if the structure repeats without lattice vectors.
    """

    def __init__(self, atoms: ase.Atoms, *, pbc: bool | None = None) -> None:
        forced = periodicity(atoms, pbc)
        self.numbers, self.moments = atoms.numbers, collinear_moments(atoms)
        self.pbc = np.asarray(atoms.pbc) if forced is None else np.full(3, forced)
        self.complete = complete_cell(atoms.cell.array, self.pbc)
        self.inverse = np.linalg.inv(self.complete)
        fractional = matmul_single_threaded(atoms.positions, self.inverse)
        wrap = np.floor(fractional) * self.pbc
        self.fractional = fractional - wrap
        self.positions = atoms.positions - matmul_single_threaded(wrap, self.complete)

    def around(self, region: _Region, reach: float) -> ase.Atoms:
        """Atoms and images closer than `reach` (Å) to a region, without a cell; one far away if there are none."""
        corners = matmul_single_threaded(region.corners(), self.inverse)
        beyond = reach * np.linalg.norm(self.inverse, axis=0) + 1e-9
        low, high = corners.min(axis=0) - beyond, corners.max(axis=0) + beyond
        ranges = [
            range(math.floor(low[axis]), math.floor(high[axis]) + 1) if self.pbc[axis] else (0,) for axis in range(3)
        ]
        numbers, moments, positions = [], [], []
        for cells in product(*ranges):
            near = ((self.fractional > low - cells) & (self.fractional < high - cells)).all(axis=1)
            moved = self.positions[near] + np.array(cells) @ self.complete
            inside = region.within(moved, reach)
            numbers.append(self.numbers[near][inside])
            moments.append(self.moments[near][inside])
            positions.append(moved[inside])
        return _cluster(np.concatenate(numbers), np.concatenate(moments), np.concatenate(positions), region, reach)


def _cluster(numbers: NDArray[np.int64], moments: Array, positions: Array, region: _Region, reach: float) -> ase.Atoms:
    """A structure without a cell; models need at least one atom, which lies out of reach if there is none."""
    if len(numbers) == 0:
        return ase.Atoms("H", positions=[region.corners().max(axis=0) + 2.0 * reach])
    return ase.Atoms(numbers, positions=positions, magmoms=moments)


class Domains:
    """Cuts the points of a structure into domains with not more than so many atoms, all that they depend on included.

    Args:
        atoms: the structure.
        reach: the model's receptive field, Å.
        max_atoms: atoms of a domain.
        pbc: of the model: None as the structure has it, True forced on, False ignored.

    Raises:
        ValueError: if the structure repeats without lattice vectors; when cutting, if even small domains have more
            atoms.
    """

    def __init__(self, atoms: ase.Atoms, reach: float, max_atoms: int, *, pbc: bool | None = None) -> None:
        self.surroundings = Surroundings(atoms, pbc=pbc)
        self.reach, self.max_atoms = reach, max_atoms

    def of_grid(self, grid: Grid) -> list[Domain]:
        """Boxes of grid points, halved along their longest edge until their atoms are few enough."""
        return list(self._halved_boxes(grid, (0, 0, 0), grid.shape, None))

    def atoms_of(self, grid: Grid, domain: Domain) -> ase.Atoms:
        """All atoms, and images of atoms, that the densities of a domain depend on; without a cell."""
        return self.surroundings.around(domain.region(grid), self.reach)

    def of_points(self, points: Array) -> Iterator[tuple[NDArray[np.int64], ase.Atoms]]:
        """Parts of a list of points (n, 3) in Å, halved in the same way: which points, and the atoms around them."""
        if len(points):
            yield from self._halved_points(points, np.arange(len(points)), None)

    def _halved_boxes(self, grid: Grid, start: Index, stop: Index, parent: ase.Atoms | None) -> Iterator[Domain]:
        atoms = self._atoms(Domain(start, stop, 0).region(grid), parent)
        n = np.subtract(stop, start)
        lengths = np.where(n > 1, grid.spacing * n, 0.0)
        if self._suffices(atoms, lengths.max()):
            yield Domain(start, stop, len(atoms))
            return
        axis = int(lengths.argmax())
        middle = (start[axis] + stop[axis]) // 2
        yield from self._halved_boxes(grid, start, _with(stop, axis, middle), atoms)
        yield from self._halved_boxes(grid, _with(start, axis, middle), stop, atoms)

    def _halved_points(
        self, points: Array, index: NDArray[np.int64], parent: ase.Atoms | None
    ) -> Iterator[tuple[NDArray[np.int64], ase.Atoms]]:
        low, high = points[index].min(axis=0), points[index].max(axis=0)
        atoms = self._atoms(_Region(low, np.diag((high - low).clip(min=1e-3))), parent)
        if self._suffices(atoms, (high - low).max()):
            yield index, atoms
            return
        axis = int((high - low).argmax())
        is_low = points[index, axis] < (low[axis] + high[axis]) / 2
        for half in (index[is_low], index[~is_low]):
            yield from self._halved_points(points, half, atoms)

    def _atoms(self, region: _Region, parent: ase.Atoms | None) -> ase.Atoms:
        """Atoms around a region, sought among those around the larger region that it is part of."""
        if parent is None:
            return self.surroundings.around(region, self.reach)
        near = region.within(parent.positions, self.reach)
        moments = collinear_moments(parent)[near]
        return _cluster(parent.numbers[near], moments, parent.positions[near], region, self.reach)

    def _suffices(self, atoms: ase.Atoms, edge: float) -> bool:
        """Whether a domain with these atoms and this longest edge (Å) is small enough.

        Raises:
            ValueError: if it is not, and cutting it further would not help.
        """
        if len(atoms) <= self.max_atoms:
            return True
        if edge < SMALLEST_EDGE * self.reach:
            raise ValueError(
                f"the density at a point depends on {len(atoms)} atoms within {self.reach:.3g} Å, and the memory is "
                f"enough for {self.max_atoms}: allow more (memory=)"
            )
        return False


def _with(index: Index, axis: int, value: int) -> Index:
    """The same index with another value along an axis."""
    i, j, k = (value if axis == own else old for own, old in enumerate(index))
    return i, j, k
