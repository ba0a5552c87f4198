"""Points of one structure in compact blocks, each with the atom images that can reach it: no search per point.

Where many points lie close together, as on a fine grid, nearly the same atoms are near all points of a block, and a
model may evaluate every atom of the block at every point of it. Where they do not, blocks are wider, and it may join
each point to those that reach it. Blocks come in groups, for what is done faster for many.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepdft import chunks
from deepdft.graph.batch import Structures
from deepdft.graph.images import Array, Images, complete_cell, periodic_images, wrap_shifts
from deepdft.graph.pairs import pairs_in_blocks

__all__ = ["Block", "Blocks", "compact_blocks", "cut_into_cubes"]

LARGEST_WIDTH = 1.5
"""Å, largest width; in wider blocks more atoms reach only some points, and sums about the middle lose digits."""
SPARSE_WIDTH = 3.0
"""Å, width of blocks whose points are joined to atoms one by one (measured: 1.5 is a third slower for few points)."""
SMALLEST_EXTENT = 0.5
"""Å, smallest extent of points along an axis when their density in space is estimated."""


@dataclass(frozen=True, eq=False)
class Block:
    """The points and the atom images of one block, as slices of the arrays of `Blocks`."""

    points: slice
    images: slice


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks of points of one structure, on a CPU or a GPU, with the atom images that may reach each block."""

    index: Tensor
    """(n_points,) int64, the index of each point in the list from which the blocks were made."""
    points: Tensor
    """(n_points, 3) Å, relative to the middle of the point's block."""
    point_offsets: Tensor
    """(n_blocks + 1,) int64, where the points of each block start."""
    atom: Tensor
    """(n_images,) int64, the atom that an image repeats."""
    atom_positions: Tensor
    """(n_images, 3) Å, positions of the images relative to the middle of the block."""
    image_offsets: Tensor
    """(n_blocks + 1,) int64, where the images of each block start."""
    distance: Tensor | None = None
    """(n_images,) Å, from an image to the box around the block's points, ascending in a block; None on a GPU."""
    dense: bool = True
    """Whether blocks hold, on average, at least as many points as requested."""

    def __iter__(self) -> Iterator[Block]:
        offsets = self.point_offsets.tolist(), self.image_offsets.tolist()
        for points, images in zip(*map(pairwise, offsets), strict=True):
            yield Block(slice(*points), slice(*images))

    def pairs_within(self, reach: float) -> tuple[Tensor, Tensor]:
        """Pairs of an image and a point closer than `reach` (Å), on a CPU: both (n_pairs,) int64, sorted by point."""
        points, others = self.points.detach().double().numpy(), self.atom_positions.double().numpy()
        point, image = pairs_in_blocks(points, others, reach, self.point_offsets.numpy(), self.image_offsets.numpy())
        return torch.from_numpy(image), torch.from_numpy(point)

    def counts_within(self, reach: float) -> NDArray[np.int64]:
        """Number of images (n_blocks,), the first ones of each block, closer than `reach` (Å) to its points' box."""
        if self.distance is None:
            raise ValueError("blocks made on a GPU have no distances of their images; make them with compact_blocks")
        before = np.concatenate([[0], np.cumsum(self.distance.numpy() < reach)])
        return np.diff(before[self.image_offsets.numpy()])


def compact_blocks(
    structures: Structures, points: Tensor, cutoff: float, *, largest: int, dense: int = 0, min_groups: int = 1
) -> Iterator[Blocks]:
    """Cut points that may have atoms within the cutoff into blocks.

    Args:
        structures: one structure, on the CPU.
        points: (n_points, 3) Å, also outside the cell; gradients flow from the points of the blocks to these.
        cutoff: Å.
        largest: the largest number of points in a block.
        dense: the average number of points in a block below which blocks are made wider.
        min_groups: the smallest number of groups, where there are enough blocks.
    """
    positions, cell = structures.positions.double().numpy(), structures.cells[0].double().numpy()
    pbc = structures.pbc[0].numpy()
    complete = complete_cell(cell, pbc)
    images = periodic_images(positions, complete, pbc, cutoff)
    inside = points.double()
    if pbc.any():
        inside = inside + torch.from_numpy(wrap_shifts(inside.detach().numpy(), complete, pbc))
    places = inside.detach().numpy()
    low, high = images.positions.min(axis=0) - cutoff, images.positions.max(axis=0) + cutoff
    near = np.flatnonzero(((low < places) & (places < high)).all(axis=1))
    images = images.around(places[near], cutoff)
    order, first = cut_into_cubes(places[near], largest)
    is_dense = len(near) >= dense * (len(first) - 1)
    if not is_dense:
        order, first = cut_into_cubes(places[near], largest, width=SPARSE_WIDTH)
    index = near[order]
    n_blocks = len(first) - 1
    size = max(1, min(chunks.CPU.blocks_per_group, n_blocks // min_groups))
    if not is_dense:
        size = max(1, min(size, chunks.CPU.points_per_sparse_group * n_blocks // len(near)))
    for start in range(0, n_blocks, size):
        bounds = first[start : start + size + 1]
        own = torch.from_numpy(index[bounds[0] : bounds[-1]])
        group = _group(own, inside.index_select(0, own), bounds - bounds[0], images, cutoff, structures.dtype)
        yield replace(group, dense=is_dense)


def _group(
    index: Tensor,
    points: Tensor,
    first: NDArray[np.int64],
    images: Images,
    cutoff: float,
    dtype: torch.dtype,
) -> Blocks:
    places = points.detach().numpy()
    low, high = np.minimum.reduceat(places, first[:-1]), np.maximum.reduceat(places, first[:-1])
    middle = (low + high) / 2
    candidates = np.flatnonzero(_from_box(low.min(axis=0), high.max(axis=0), images.positions) < cutoff)
    distances = _from_box(low[:, None], high[:, None], images.positions[candidates])  # (n_blocks, n_candidates)
    block, candidate = np.nonzero(distances < cutoff)
    distance = distances[block, candidate]
    order = np.lexsort((distance, block))
    block, image = block[order], candidates[candidate[order]]
    return Blocks(
        index=index,
        points=(points - torch.from_numpy(np.repeat(middle, np.diff(first), axis=0))).to(dtype),
        atom=torch.from_numpy(images.atom[image]),
        atom_positions=torch.from_numpy(images.positions[image] - middle[block]).to(dtype),
        distance=torch.from_numpy(distance[order]),
        point_offsets=torch.from_numpy(first),
        image_offsets=torch.from_numpy(np.searchsorted(block, np.arange(len(first)))),
    )


def _from_box(low: Array, high: Array, positions: Array) -> Array:
    """Distances of positions from boxes, zero inside."""
    outside = np.maximum(low - positions, positions - high).clip(min=0.0)
    return np.sqrt((outside**2).sum(axis=-1))


def cut_into_cubes(
    points: Array, largest: int, *, width: float = LARGEST_WIDTH
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Order points by the cubes in which they lie.

    Args:
        points: (n_points, 3) Å.
        largest: the largest number of points in a block.
        width: the largest width of a cube in Å.

    Returns:
        Indices (n_points,) of the points, cube after cube, in blocks of at most `largest` points, and where each block
        starts (n_blocks + 1,).
    """
    if len(points) == 0:
        return np.empty(0, dtype=np.int64), np.zeros(1, dtype=np.int64)
    # column by column, which numpy does 20 times as fast as along axis 0
    low, high = (np.array([bound(column) for column in points.T]) for bound in (np.min, np.max))
    volume = (high - low).clip(SMALLEST_EXTENT, 1e100).prod()
    width = min(width, np.cbrt(0.8 * largest * volume / len(points)))  # so that most cubes are not too full

    def cube(offsets: Array) -> NDArray[np.int64]:
        return (offsets / width).clip(max=2**60).astype(np.int64)

    cubes, shape = cube(points - low), cube(high - low) + 1
    n_cubes = shape.prod(dtype=float)
    if n_cubes < 2**62:
        keys = np.ravel_multi_index(tuple(cubes.T), tuple(shape))
    else:  # points very far from others
        keys = np.unique(cubes, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(keys.astype(np.int16) if n_cubes < 2**15 else keys, kind="stable")  # radix sort of int16
    ends = np.flatnonzero(np.diff(keys[order])) + 1
    first = [np.arange(start, end, largest) for start, end in pairwise([0, *ends, len(order)])]
    return order, np.append(np.concatenate(first), len(order))
