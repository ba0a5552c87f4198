"""Points of one structure in compact blocks, each with the atom images that can reach it: no search per point.

Where many points lie close together, as on a grid, nearly the same atoms are near all points of a block, and a model
may evaluate every atom of the block at every point of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepdft.graph.batch import Structures
from deepdft.graph.images import Array, complete_cell, periodic_images, wrap_shifts

__all__ = ["Block", "compact_blocks"]

BLOCK_WIDTH = 2.0
"""Å; wider blocks have more atoms that reach only some of their points."""


@dataclass(frozen=True, eq=False)
class Block:
    """Points close together and the atom images that may be within the cutoff of some of them."""

    index: Tensor
    """(n_points,) int64, which points these are."""
    points: Tensor
    """(n_points, 3) Å from the middle of the block."""
    atom: Tensor
    """(n_near,) int64, the atom that an image repeats."""
    atom_positions: Tensor
    """(n_near, 3) Å of the images, from the middle of the block."""


def compact_blocks(structures: Structures, points: Tensor, cutoff: float, *, largest: int) -> Iterator[Block]:
    """Cut points into blocks.

    Args:
        structures: one structure, on the CPU.
        points: (n_points, 3) Å, also outside the cell.
        cutoff: Å.
        largest: points in a block.
    """
    positions, cell = structures.positions.double().numpy(), structures.cells[0].double().numpy()
    pbc = structures.pbc[0].numpy()
    complete = complete_cell(cell, pbc)
    images = periodic_images(positions, complete, pbc, cutoff)
    inside = points.double().numpy()
    if pbc.any():
        inside = inside + wrap_shifts(inside, complete, pbc)
    for index in _together(inside, largest):
        own = inside[index]
        low, high = own.min(axis=0), own.max(axis=0)
        outside = np.maximum(low - images.positions, images.positions - high).clip(min=0.0)  # Å from the block's box
        near = np.flatnonzero((outside**2).sum(axis=1) < cutoff**2)
        middle = (low + high) / 2
        yield Block(
            torch.from_numpy(index),
            torch.from_numpy(own - middle).to(points.dtype),
            torch.from_numpy(images.atom[near]),
            torch.from_numpy(images.positions[near] - middle).to(points.dtype),
        )


def _together(points: Array, largest: int) -> Iterator[NDArray[np.int64]]:
    """Indices of the points in each cube of the block's width, at most `largest` at a time."""
    if len(points) == 0:
        return
    cubes = ((points - points.min(axis=0)) / BLOCK_WIDTH).astype(np.int64)
    shape = cubes.max(axis=0) + 1
    keys = np.ravel_multi_index(tuple(cubes.T), tuple(shape))
    order = np.argsort(keys.astype(np.int16) if shape.prod() < 2**15 else keys, kind="stable")  # radix sort of int16
    ends = np.flatnonzero(np.diff(keys[order])) + 1
    for start, end in zip([0, *ends], [*ends, len(order)], strict=True):
        for first in range(start, end, largest):
            yield order[first : min(first + largest, end)]
