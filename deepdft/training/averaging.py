"""Exponential moving average of the weights, which forgets the first steps."""

from __future__ import annotations

import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

__all__ = ["EMAWithWarmup"]


class EMAWithWarmup(WeightAveraging):
    """Averages the weights over steps; validation, checkpoints and prediction use the average.

    After n steps the decay is min(decay, (1 + n) / (warmup + n)): at first the average follows the weights closely,
    later it spans 1 / (1 - decay) steps. Without warm-up it would hold on to the initial weights for as long.

    Args:
        decay: per step, once it is warm.
        warmup: the average spans about n / warmup of the first n steps; null is no warm-up.
    """

    def __init__(self, decay: float = 0.995, *, warmup: float | None = 20.0) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"callbacks.ema.decay={decay}: expected a number from 0 up to, not including, 1")
        if warmup is not None and not warmup >= 1.0:
            raise ValueError(f"callbacks.ema.warmup={warmup}: expected a number, at least 1, or null")
        self.decay = decay
        self.warmup = warmup
        # buffers are constants, some of them integers: copied, not averaged
        super().__init__(use_buffers=False, avg_fn=self._average)

    @property
    def _legacy_state_key(self) -> str:  # type: ignore[override]  # Lightning's declares a type
        return "EMAWeightAveraging"

    def decay_after(self, n_steps: Tensor) -> Tensor:
        """Decay of an update after `n_steps` earlier ones."""
        warm = torch.full_like(n_steps, self.decay, dtype=torch.float64)
        if self.warmup is None:
            return warm
        return torch.minimum(warm, (1.0 + n_steps.double()) / (self.warmup + n_steps.double()))

    @torch.no_grad()
    def _average(self, averaged: Tensor, current: Tensor, n_steps: Tensor) -> Tensor:
        weight = 1.0 - self.decay_after(n_steps.to(averaged.device))
        return averaged.lerp(current, weight.to(averaged.dtype))
