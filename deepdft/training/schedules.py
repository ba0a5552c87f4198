"""Learning rate schedules by step, as functions of an optimizer."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

__all__ = ["constant", "exponential", "warmup_cosine"]


def constant(optimizer: Optimizer) -> LambdaLR:
    """The optimizer's own learning rate throughout."""
    return LambdaLR(optimizer, lambda step: 1.0)


def exponential(optimizer: Optimizer, *, factor: float = 0.96, every: int = 100_000) -> LambdaLR:
    """Decay by `factor` per `every` steps, a little at each step.

    Source: the training script released with Jørgensen & Bhowmik 2020.
    """
    return LambdaLR(optimizer, lambda step: factor ** (step / every))


def warmup_cosine(optimizer: Optimizer, *, total: int, warmup: float = 0.02, final: float = 0.0) -> LambdaLR:
    """Linear rise, then half a cosine down.

    Args:
        optimizer: whose rate is the peak.
        total: steps until the end.
        warmup: share of them for the rise.
        final: rate at the end, as a share of the peak.

    Raises:
        ValueError: if `warmup` is no share, or there are no steps.
    """
    if not (0.0 <= warmup < 1.0 and total > 0):
        raise ValueError(f"scheduler.warmup is a share of total > 0 steps, 0 ≤ warmup < 1; got {warmup} of {total}")
    rise = round(warmup * total)

    def rate(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        progress = min(1.0, (step - rise) / (total - rise))
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, rate)
