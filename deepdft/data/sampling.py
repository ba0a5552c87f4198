"""Which structures and grid points a training step sees: a function of (seed, epoch, sample) and nothing else.

Neither workers, ranks nor the number of devices enter, so the same seed gives the same run anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

__all__ = [
    "CANDIDATES_PER_POINT",
    "Draw",
    "StepSampler",
    "draw_points",
    "epoch_order",
    "importance_sample",
    "validation_points",
]

# The first key makes the random streams independent of each other.
_ORDER, _POINTS, _VALIDATION, _PREFERENCE = 0, 1, 2, 3

CANDIDATES_PER_POINT = 8
"""Number of uniform points drawn for each one that `importance_sample` keeps."""


class Draw(NamedTuple):
    """One structure in one epoch: all that a worker needs to make a sample."""

    epoch: int
    sample: int


def epoch_order(seed: int, epoch: int, n_samples: int) -> NDArray[np.int64]:
    """The order (n_samples,) in which an epoch visits all samples."""
    return np.random.default_rng([_ORDER, seed, epoch]).permutation(n_samples)


def draw_points(seed: int, draw: Draw, n_points: int, n_draws: int) -> NDArray[np.int64]:
    """Grid points (n_draws,) of a structure, uniform with replacement, as flat indices below n_points."""
    return np.random.default_rng([_POINTS, seed, draw.epoch, draw.sample]).integers(n_points, size=n_draws)


def importance_sample(
    seed: int, draw: Draw, candidates: NDArray[np.floating], n_draws: int, share: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Choose among uniform points, partly with a probability that grows with the density.

    Args:
        seed: of the run.
        draw: which structure in which epoch.
        candidates: (n_candidates,) e/Å³, densities at uniform points.
        n_draws: points to choose, with replacement.
        share: of the points that are chosen in proportion to √|ρ|; the others are uniform.

    Returns:
        Which candidates (n_draws,), and weights (n_draws,) that make a weighted mean over them an unbiased estimate
        of the mean over the grid.
    """
    roots = np.sqrt(np.abs(candidates.astype(np.float64)))
    if not roots.any():
        roots = np.ones(len(candidates))
    probability = (1.0 - share) / len(candidates) + share * roots / roots.sum()
    chosen = np.random.default_rng([_PREFERENCE, seed, draw.epoch, draw.sample]).choice(
        len(candidates), size=n_draws, p=probability
    )
    return chosen, (1.0 / (len(candidates) * probability[chosen])).astype(np.float32)


def validation_points(sample: int, n_points: int, n_draws: int) -> NDArray[np.int64]:
    """The fixed grid points of a validation structure, ascending; the whole grid if it has no more points.

    They do not depend on the run's seed, so that runs compare.
    """
    if n_points <= n_draws:
        return np.arange(n_points)
    return np.sort(np.random.default_rng([_VALIDATION, sample]).choice(n_points, size=n_draws, replace=False))


class StepSampler(Sampler[list[Draw]]):
    """An endless stream of steps; each names the structures of one process.

    All structures are visited once per epoch in an order of their own; an epoch's end may fall inside a step.
    The stream is cut into global steps of `structures_per_step * world_size` structures, of which rank r takes
    the r-th part: training on several devices sees what one device with a larger step would see.

    Args:
        n_samples: number of training structures.
        structures_per_step: structures per step and process.
        seed: of the run.
        first_step: where the stream begins, for a run that is resumed.
        rank: index of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        n_samples: int,
        *,
        structures_per_step: int,
        seed: int,
        first_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.n_samples = n_samples
        self.structures_per_step = structures_per_step
        self.seed = seed
        self.first_step = first_step
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[list[Draw]]:
        """Steps from `first_step` on, without end."""
        per_step = self.structures_per_step * self.world_size
        position = self.first_step * per_step + self.rank * self.structures_per_step
        epoch, order = -1, np.empty(0, dtype=np.int64)
        while True:
            step = []
            for place in range(position, position + self.structures_per_step):
                if place // self.n_samples != epoch:
                    epoch = place // self.n_samples
                    order = epoch_order(self.seed, epoch, self.n_samples)
                step.append(Draw(epoch, int(order[place % self.n_samples])))
            yield step
            position += per_step
