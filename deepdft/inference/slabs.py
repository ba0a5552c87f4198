"""A grid cut into slabs that are predicted one by one, in any order, and kept in files until they are joined.

A slab is a box of grid points within one domain of the structure. Each finished slab is one file, which appears whole
or not at all; whoever finds it there does not predict it again. So a prediction that was killed continues, and several
processes share one. What comes out does not depend on who predicted which slab.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepdft.density import Grid, Order
from deepdft.files import atomic_write
from deepdft.inference.domains import Domain

__all__ = ["Slab", "SlabFiles", "cut_into_slabs", "grid_of_slab"]

POINTS_JOINED = 4_000_000
"""Points of a grid that are read from the files of slabs at a time."""

Index = tuple[int, int, int]
Values = NDArray[np.float32]


@dataclass(frozen=True)
class Slab:
    """A box of grid points whose densities are predicted together."""

    number: int
    """Of the slab, from 0."""
    domain: int
    """The number of the domain that it belongs to."""
    start: Index
    """The first grid point along each edge."""
    stop: Index
    """The grid point after the last one along each edge."""

    @property
    def shape(self) -> Index:
        """Points along each edge."""
        i, j, k = (stop - start for start, stop in zip(self.start, self.stop, strict=True))
        return i, j, k

    @property
    def n_points(self) -> int:
        """Points of the slab."""
        i, j, k = self.shape
        return i * j * k


def cut_into_slabs(domains: Sequence[Domain], largest: int, order: Order) -> list[Slab]:
    """Slabs of whole planes of the domains, along the edge that a file counts slowest.

    Args:
        domains: of a grid.
        largest: points of a slab, unless one plane has more.
        order: of the file: "C" if z is fastest, "F" if x is.
    """
    axis = _slowest(order)
    slabs: list[Slab] = []
    for number, domain in enumerate(domains):
        shape = np.subtract(domain.stop, domain.start)
        n_planes = max(1, int(largest // (shape.prod() // shape[axis])))
        for first in range(domain.start[axis], domain.stop[axis], n_planes):
            start, stop = list(domain.start), list(domain.stop)
            start[axis], stop[axis] = first, min(first + n_planes, domain.stop[axis])
            slabs.append(Slab(len(slabs), number, (start[0], start[1], start[2]), (stop[0], stop[1], stop[2])))
    return slabs


def grid_of_slab(grid: Grid, slab: Slab) -> Grid:
    """The points of a slab as a grid of their own."""
    atoms = grid.atoms[:0]
    atoms.set_cell(grid.steps * np.array(slab.shape)[:, None])
    return Grid(atoms, slab.shape, grid.origin + np.array(slab.start) @ grid.steps)


class SlabFiles:
    """The files of the slabs of a grid, in a folder.

    Args:
        folder: where they lie.
        slabs: all of the grid.
        grid: the points.
        n_columns: numbers at each point.
    """

    def __init__(self, folder: Path, slabs: Sequence[Slab], grid: Grid, n_columns: int) -> None:
        self.folder, self.slabs, self.grid, self.n_columns = folder, slabs, grid, n_columns

    def path(self, slab: Slab) -> Path:
        """The file of a slab."""
        return self.folder / f"{slab.number:06d}.npy"

    def missing(self) -> list[Slab]:
        """The slabs that have no file yet."""
        return [slab for slab in self.slabs if not self.path(slab).exists()]

    def write(self, slab: Slab, values: NDArray[np.floating]) -> None:
        """Keep the values (n_points, n_columns) of a slab, counted with z fastest."""
        with atomic_write(self.path(slab)) as beside, beside.open("wb") as file:
            np.save(file, values.astype(np.float32, copy=False).reshape(*slab.shape, self.n_columns))

    def read(self, slab: Slab) -> Values:
        """The values (nx, ny, nz, n_columns) of a slab, read from the disk where they are used.

        Raises:
            ValueError: if the file is not that of the slab.
        """
        path = self.path(slab)
        try:
            values: Values = np.load(path, mmap_mode="r")
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"{path}: damaged: {error}; delete the file, and its points are predicted again"
            ) from error
        if values.shape != (*slab.shape, self.n_columns) or values.dtype != np.float32:
            raise ValueError(
                f"{path}: damaged, {values.dtype} {values.shape}; delete it, and its points are predicted again"
            )
        return values

    def chunks(self, order: Order) -> Iterator[Values]:
        """All points of the grid (n, n_columns), chunk after chunk in an order; every slab must be there."""
        axis = _slowest(order)
        edges = sorted({slab.start[axis] for slab in self.slabs} | {self.grid.shape[axis]})
        n_planes = max(1, POINTS_JOINED * self.grid.shape[axis] // self.grid.n_points)
        for first, last in pairwise(edges):
            here = [(slab, self.read(slab)) for slab in self.slabs if slab.start[axis] <= first < slab.stop[axis]]
            for low in range(first, last, n_planes):
                yield self._planes(here, axis, low, min(low + n_planes, last), order)

    def _planes(self, here: Sequence[tuple[Slab, Values]], axis: int, low: int, high: int, order: Order) -> Values:
        """Consecutive planes (n, n_columns) of the grid, from the slabs that they run through."""
        shape = [*self.grid.shape, self.n_columns]
        shape[axis] = high - low
        planes = np.empty(shape, dtype=np.float32)
        for slab, values in here:
            of_grid, of_slab = (
                tuple(slice(a - b, c - b) for a, b, c in zip(first, base, last, strict=True))
                for first, last, base in (
                    (_at(slab.start, axis, low), _at(slab.stop, axis, high), _at((0, 0, 0), axis, low)),
                    (_at(slab.start, axis, low), _at(slab.stop, axis, high), slab.start),
                )
            )
            planes[of_grid] = values[of_slab]
        points = planes if order == "C" else planes.transpose(2, 1, 0, 3)
        return points.reshape(-1, self.n_columns)


def _slowest(order: Order) -> int:
    """The edge along which a file counts slowest."""
    return 0 if order == "C" else 2


def _at(index: Sequence[int], axis: int, value: int) -> list[int]:
    """The index with another value along an axis."""
    return [value if own == axis else old for own, old in enumerate(index)]
