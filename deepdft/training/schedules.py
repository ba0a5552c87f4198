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


def warmup_cosine(optimizer: Optimizer, *, warmup: int, total: int, final: float = 0.0) -> LambdaLR:
    """Linear rise over `warmup` steps, then half a cosine down to `final` times the rate at step `total`.

    Raises:
        ValueError: if the warm-up does not end before `total`.
    """
    if not 0 <= warmup < total:
        raise ValueError(f"scheduler.warmup must lie between 0 and total = {total} steps, got {warmup}")

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / (total - warmup))
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, rate)
