"""Pairs of points within a cutoff on the CPU: all distances if they are few, k-d trees otherwise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from deepdft import chunks
from deepdft.compiled import compiled

__all__ = ["pairs_in_blocks", "pairs_within"]

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Pairs = tuple[Indices, Indices]


def pairs_within(points: Array, others: Array, cutoff: float) -> Pairs:
    """All pairs (i, j) whose distance is strictly below the cutoff: i and j (n_pairs,), sorted by i, then j.

    Where a distance is the cutoff but for rounding, the two ways may differ.

    Args:
        points: (n, 3) Å, any number of them.
        others: (n_others, 3) Å.
        cutoff: Å.
    """
    few = len(others) <= chunks.CPU.images_without_tree or len(points) * len(others) <= chunks.CPU.distances
    return (_by_distances if few else _by_trees)(points, others, cutoff)


def pairs_in_blocks(points: Array, others: Array, cutoff: float, first_point: Indices, first_other: Indices) -> Pairs:
    """Pairs of points and others of the same block within the cutoff, from all distances in a block.

    Args:
        points: (n, 3) Å, block after block.
        others: (n_others, 3) Å, block after block.
        cutoff: Å.
        first_point: (n_blocks + 1,) where each block starts.
        first_other: (n_blocks + 1,) where its others do.
    """
    along = np.ascontiguousarray(others.T)
    count = _count(points, along, cutoff**2, first_point, first_other)
    found = np.empty((2, count + 1), np.int64)
    _collect(points, along, cutoff**2, first_point, first_other, found)
    return found[0, :-1], found[1, :-1]


def _by_distances(points: Array, others: Array, cutoff: float) -> Pairs:
    return pairs_in_blocks(points, others, cutoff, np.array([0, len(points)]), np.array([0, len(others)]))


@compiled
def _count(points: Array, others: Array, squared_cutoff: float, first_point: Indices, first_other: Indices) -> int:
    """Number of pairs of points (n, 3) and others (3, n_others) of the same block within the cutoff."""
    count = 0
    for block in range(len(first_point) - 1):
        x, y, z = others[:, first_other[block] : first_other[block + 1]]
        for i in range(first_point[block], first_point[block + 1]):
            own_x, own_y, own_z = points[i]
            for j in range(len(x)):
                dx, dy, dz = x[j] - own_x, y[j] - own_y, z[j] - own_z
                count += dx * dx + dy * dy + dz * dz < squared_cutoff
    return count


@compiled
def _collect(
    points: Array,
    others: Array,
    squared_cutoff: float,
    first_point: Indices,
    first_other: Indices,
    found: Indices,
) -> None:
    """Fill in the pairs; needs room for one more, as a pair is written before its distance is tested."""
    within, count = np.empty(others.shape[1], np.bool_), 0
    for block in range(len(first_point) - 1):
        first = first_other[block]
        x, y, z = others[:, first : first_other[block + 1]]
        for i in range(first_point[block], first_point[block + 1]):
            own_x, own_y, own_z = points[i]
            for j in range(len(x)):
                dx, dy, dz = x[j] - own_x, y[j] - own_y, z[j] - own_z
                within[j] = dx * dx + dy * dy + dz * dz < squared_cutoff
            for j in range(len(x)):
                found[0, count], found[1, count] = i, first + j
                count += within[j]


def _by_trees(points: Array, others: Array, cutoff: float) -> Pairs:
    tree = cKDTree(others)
    found_i, found_j = [], []
    size = chunks.CPU.points_per_tree
    for start in range(0, len(points), size):
        chunk = cKDTree(points[start : start + size])
        pairs = chunk.sparse_distance_matrix(tree, cutoff, output_type="ndarray")
        pairs = pairs[pairs["v"] < cutoff]
        found_i.append(pairs["i"] + start)
        found_j.append(pairs["j"])
    i, j = (np.concatenate([[], *found]).astype(np.int64) for found in (found_i, found_j))
    order = np.lexsort((j, i))
    return i[order], j[order]
