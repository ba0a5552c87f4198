"""Lays one molecule over another, so that their densities can be compared point by point."""

from __future__ import annotations

import ase
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

__all__ = ["laid_over"]

Array = NDArray[np.float64]

N_TURNS = 24
"""Directions around the normal of the molecules' planes from which the search starts."""
N_STEPS = 12
"""Steps of the search from each direction."""
OTHER_ELEMENT = 1.0
"""Å² that a pair of atoms of different elements adds to the cost."""


def laid_over(moved: ase.Atoms, fixed: ase.Atoms) -> ase.Atoms:
    """A copy of a molecule, turned and shifted so that its atoms lie closest to like atoms of another one.

    The search begins with the principal axes of both on top of each other, in several directions, and pairs nearest
    atoms (iterative closest points). Mirror images are not taken.

    Args:
        moved: the molecule to lay over the other.
        fixed: the other.
    """
    own, other = moved.positions - moved.positions.mean(axis=0), fixed.positions - fixed.positions.mean(axis=0)
    penalty = OTHER_ELEMENT * (moved.numbers[:, None] != fixed.numbers[None, :])
    frames = _axes(other).T, _axes(own)
    best: tuple[float, Array] = (np.inf, own)
    for flip in (0.0, 180.0):
        for angle in np.arange(N_TURNS) * 360 / N_TURNS:
            turn = Rotation.from_euler("zx", [angle, flip], degrees=True).as_matrix()
            best = min(
                best, _settled(own @ (frames[0] @ turn @ frames[1]).T, other, penalty), key=lambda found: found[0]
            )
    if np.array_equal(moved.numbers, fixed.numbers):  # the atoms may be in the same order
        best = min(best, _settled(_superposed(own, own, other), other, penalty), key=_cost)
    copy: ase.Atoms = moved.copy()
    copy.positions = best[1] + fixed.positions.mean(axis=0)
    return copy


def _cost(found: tuple[float, Array]) -> float:
    return found[0]


def _settled(own: Array, other: Array, penalty: Array) -> tuple[float, Array]:
    """Cost and positions after pairing nearest atoms and superposing them several times."""
    fewer_own = len(own) <= len(other)
    for _ in range(N_STEPS):
        cost = cdist(own, other, "sqeuclidean") + penalty
        pairs = cost.argmin(axis=1 if fewer_own else 0)
        first, second = (own, other[pairs]) if fewer_own else (own[pairs], other)
        moved = _superposed(own, first, second)
        if np.allclose(moved, own, atol=1e-4):
            break
        own = moved
    cost = cdist(own, other, "sqeuclidean") + penalty
    return float(cost.min(axis=1).sum() + cost.min(axis=0).sum()), own


def _superposed(positions: Array, first: Array, second: Array) -> Array:
    """Positions, moved as `first` has to be to come closest to `second` (Kabsch)."""
    middle, towards = first.mean(axis=0), second.mean(axis=0)
    left, _, right = np.linalg.svd((second - towards).T @ (first - middle))
    proper = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    return np.asarray((positions - middle) @ (left @ proper @ right).T + towards)


def _axes(positions: Array) -> Array:
    """Principal axes (3, 3) as rows, a right-handed system; the last has the least spread."""
    axes = np.linalg.eigh(positions.T @ positions)[1].T[::-1]
    return np.stack([axes[0], axes[1], np.cross(axes[0], axes[1])])
