"""A predicted density beside its reference: the sums over points that every measure is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepdft.density import TOTAL, Grid
from deepdft.electrostatics import is_isolated

__all__ = ["Comparison", "Number", "PointSums", "Values"]

Number = Any
"""A float, or a zero-dimensional tensor while the sums stay on a GPU."""
Values = Any
"""Densities in e/Å³ in double precision: a numpy array or a tensor."""


@dataclass(frozen=True)
class PointSums:
    """Sums over points of a density and its prediction, in e/Å³; those of two sets of points can be added."""

    n_points: int
    """Number of points."""
    signed: Number
    """Σ(ρ̂ - ρ)."""
    absolute: Number
    """Σ|ρ̂ - ρ|."""
    squared: Number
    """Σ(ρ̂ - ρ)²."""
    reference: Number
    """Σρ."""
    reference_absolute: Number
    """Σ|ρ|."""
    predicted_absolute: Number
    """Σ|ρ̂|."""

    @classmethod
    def over(cls, predicted: Values, reference: Values) -> PointSums:
        """Sum over points: two arrays or tensors (n_points,) in double precision."""
        difference = predicted - reference
        return cls(
            n_points=len(reference),
            signed=difference.sum(),
            absolute=abs(difference).sum(),
            squared=(difference * difference).sum(),
            reference=reference.sum(),
            reference_absolute=abs(reference).sum(),
            predicted_absolute=abs(predicted).sum(),
        )

    def __add__(self, other: PointSums) -> PointSums:
        return PointSums(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Comparison:
    """A predicted density beside its reference: at some points of a structure, or on its whole grid."""

    sums: Mapping[str, PointSums]
    """Channel → sums over the points."""
    grid: Grid | None = None
    """The grid, if the points are all of a grid."""
    predicted: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    """Channel → (n_points,) e/Å³ on the grid, z fastest."""
    reference: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    """Channel → (n_points,) e/Å³ on the grid, z fastest."""
    spread: tuple[float, float] | None = None
    """∫(1/K) Σ_k |ρ̂_k - median| and ∫|ρ̂| over the members of an ensemble, in electrons; None for a single model."""
    expected: float | None = None
    """ε_mae in % that was expected before the reference was known; None where none could be."""
    novelty: float | None = None
    """Of the atom that is most unlike the training set, 1 at the limit; None for new elements or without a record."""
    outside: bool | None = None
    """Whether the structure is outside what the model was trained on; None without a record."""
    occupancies: tuple[Number, Number] | None = None
    """Sums over PAW occupancies of squared errors and of squared spreads among training atoms; None without."""
    device: torch.device | str = "cpu"
    """Device that computes Fourier transforms."""

    @cached_property
    def voxel(self) -> float:
        """Volume of a grid point in Å³; 1 for points without a grid."""
        return 1.0 if self.grid is None else self.grid.voxel_volume

    @cached_property
    def isolated(self) -> bool:
        """Whether the structure is a molecule rather than periodic."""
        return self.grid is not None and is_isolated(self.grid.atoms)

    @cached_property
    def difference(self) -> NDArray[np.floating]:
        """(nx, ny, nz) e/Å³ on the grid: predicted minus reference total density."""
        difference = self.predicted[TOTAL] - self.reference[TOTAL]
        return difference if self.grid is None else difference.reshape(self.grid.shape)
