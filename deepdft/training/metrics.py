"""Measures accumulated over validation points, in float64 and over all ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from deepdft.comparison import Comparison, PointSums
from deepdft.density import OCCUPANCIES
from deepdft.measures import measures_of

__all__ = ["DensityErrors"]

STATES = ("values", "numerator", "denominator", "structures")


class DensityErrors(Metric):
    """Every measure that is defined for points without a grid: its mean over structures, and pooled over all points.

    Update once per structure. Everything is a sum of float64 numbers, so the result depends neither on batches nor
    on how structures are spread over ranks.

    Args:
        channels: names of the columns of a density.
        occupancies: whether PAW occupancies are predicted too.
    """

    full_state_update = False

    def __init__(self, channels: Sequence[str] = ("total",), *, occupancies: bool = False) -> None:
        super().__init__()
        self.channels = tuple(channels)
        measured = (*self.channels, OCCUPANCIES) if occupancies else self.channels
        self.measures = measures_of(measured, whole_grid=False)
        for measure in self.measures:
            for state in STATES:
                self.add_state(f"{measure.name}_{state}", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, reference: Tensor, occupancies: tuple[Tensor, Tensor] | None = None) -> None:
        """Add the points of one structure.

        Args:
            predicted: density (n_points, n_channels) in e/Å³.
            reference: the same.
            occupancies: sums of squared errors and of squared spreads, where PAW occupancies are predicted.
        """
        columns = zip(
            self.channels,
            predicted.double().unbind(dim=1),
            reference.double().unbind(dim=1),
            strict=True,
        )
        sums = {channel: PointSums.over(a, b) for channel, a, b in columns}
        comparison = Comparison(sums, occupancies=occupancies)
        for measure in self.measures:
            terms = measure.terms(comparison)
            if terms is None:
                continue
            numerator, denominator = (torch.as_tensor(term, dtype=torch.float64) for term in terms)
            defined = denominator > 0  # without waiting for a GPU
            value = torch.where(defined, measure.value(numerator, denominator), 0.0)
            for state, term in zip(STATES, (value, numerator, denominator, defined), strict=True):
                setattr(self, f"{measure.name}_{state}", getattr(self, f"{measure.name}_{state}") + term)

    def compute(self) -> dict[str, Tensor]:
        """The measures by name; those with statistics over structures have the mean, and pooled as NAME_pooled."""
        found = {}
        for measure in self.measures:
            values, numerator, denominator, structures = (getattr(self, f"{measure.name}_{state}") for state in STATES)
            pooled = measure.value(numerator, denominator)
            if measure.pooled_only:
                found[measure.name] = pooled
            else:
                found[measure.name] = values / structures
                found[f"{measure.name}_pooled"] = pooled
        return found
