"""Errors accumulated over validation points, in float64 and over all ranks."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["DensityErrors"]


class DensityErrors(Metric):
    """ε_mae (mean over structures, and pooled), MAE and RMSE of predicted densities.

    Update once per structure. Everything is a sum of float64 numbers, so the result depends neither on batches nor
    on how structures are spread over ranks.
    """

    full_state_update = False
    n_structures: Tensor
    ratio: Tensor
    absolute: Tensor
    reference: Tensor
    squared: Tensor
    n_points: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("n_structures", "ratio", "absolute", "reference", "squared", "n_points"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, reference: Tensor) -> None:
        """Add the points of one structure: predicted and reference density (n_points,) in e/Å³."""
        predicted, reference = predicted.double(), reference.double()
        difference = predicted - reference
        absolute, norm = difference.abs().sum(), reference.abs().sum()
        self.n_structures += 1
        self.ratio += absolute / norm
        self.absolute += absolute
        self.reference += norm
        self.squared += difference.square().sum()
        self.n_points += reference.numel()

    def compute(self) -> dict[str, Tensor]:
        """eps_mae [%], eps_mae_pooled [%], mae [e/Å³], rmse [e/Å³]."""
        return {
            "eps_mae": 100.0 * self.ratio / self.n_structures,
            "eps_mae_pooled": 100.0 * self.absolute / self.reference,
            "mae": self.absolute / self.n_points,
            "rmse": (self.squared / self.n_points).sqrt(),
        }
