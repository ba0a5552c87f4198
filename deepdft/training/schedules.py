"""Learning rate schedules by step, as functions of an optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

__all__ = ["ProgressLR", "constant", "exponential", "warmup_cosine"]


class ProgressLR(LambdaLR):
    """A schedule with an end, which comes earlier if fewer steps are left than it expects.

    Args:
        optimizer: whose rate is the peak.
        rate: the share of the peak at a step between 0 and `total`.
        total: steps until the end.
    """

    def __init__(self, optimizer: Optimizer, rate: Callable[[float], float], total: int) -> None:
        self.total = total
        self.lead = 0.0  # number of steps by which the schedule is ahead
        super().__init__(optimizer, lambda step: rate(step + self.lead))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint, with the configured end rather than the stored one."""
        super().load_state_dict(state_dict | {"total": self.total})

    def restart(self, share: float) -> None:
        """Advance to a share of the way to the end, or to where the steps are if that is less."""
        self.lead = max(0.0, share * self.total - self.last_epoch)

    def expect(self, steps_left: float) -> None:
        """Advance with the next step so that the end comes after `steps_left` steps."""
        left = self.total - self.last_epoch - self.lead
        if left > steps_left >= 1.0:
            self.lead += left / steps_left - 1.0


def constant(optimizer: Optimizer) -> LambdaLR:
    """The optimizer's own learning rate throughout."""
    return LambdaLR(optimizer, lambda step: 1.0)


def exponential(optimizer: Optimizer, *, factor: float = 0.96, every: int = 100_000) -> LambdaLR:
    """Decay by `factor` per `every` steps, a little at each step.

    Source: the training script released with Jørgensen & Bhowmik 2020.
    """
    return LambdaLR(optimizer, lambda step: factor ** (step / every))


def warmup_cosine(optimizer: Optimizer, *, total: int, warmup: float = 0.02, final: float = 0.0) -> ProgressLR:
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

    def rate(step: float) -> float:
        if step < rise:
            return min(1.0, (step + 1) / rise)
        progress = min(1.0, (step - rise) / (total - rise))
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return ProgressLR(optimizer, rate, total)
