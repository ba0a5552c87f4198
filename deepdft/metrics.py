"""The measures ε_mae (error of a model) and ε_mad (spread of an ensemble of densities) for arrays, both in %."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deepdft.comparison import Comparison, PointSums
from deepdft.measures import EPS_MAD, EPS_MAE, absolute_deviations

__all__ = ["eps_mad", "eps_mae"]


def _float64(values: ArrayLike | Tensor) -> NDArray[np.float64]:
    """The values as a float64 numpy array, from numpy or torch on any device."""
    if isinstance(values, Tensor):
        values = values.detach().to("cpu", torch.float64).numpy()
    return np.asarray(values, dtype=np.float64)


def eps_mae(predicted: ArrayLike | Tensor, reference: ArrayLike | Tensor) -> float:
    """Error of a density: ∫|ρ - ρ̂| / ∫|ρ|, in %, over all points of one grid.

    Args:
        predicted: density in any unit and shape, numpy or torch.
        reference: density of the same shape and unit.

    Raises:
        ValueError: if the shapes differ or the reference is zero everywhere.

    Source: Jørgensen & Bhowmik 2020, Eq. 7.
    """
    a, b = _float64(predicted), _float64(reference)
    if a.shape != b.shape:
        raise ValueError(f"predicted has shape {a.shape}, reference {b.shape}")
    if not b.any():
        raise ValueError("the reference density is zero everywhere: a relative error is not defined")
    terms = EPS_MAE.terms(Comparison({"total": PointSums.over(a.ravel(), b.ravel())}))
    assert terms is not None
    return float(EPS_MAE.value(*terms))


def eps_mad(densities: ArrayLike | Tensor, reference: int = 0) -> float:
    """Spread of K densities: ∫ (1/K) Σ_k |ρ_k - ρ_median| / ∫|ρ_reference|, in %, with the point-wise median.

    Args:
        densities: (K, …), K ≥ 2 densities of one structure on one grid, numpy or torch.
        reference: index of the density that is integrated in the denominator (PBE in the paper).

    Raises:
        ValueError: if K < 2, there is no such reference, or it is zero everywhere.

    Source: Jørgensen & Bhowmik 2020, Eq. 8.
    """
    rho = _float64(densities)
    if rho.ndim < 2 or len(rho) < 2:
        raise ValueError(f"a spread needs at least two densities (K, …), got shape {rho.shape}")
    if not 0 <= reference < len(rho):
        raise ValueError(f"reference {reference} is not one of the {len(rho)} densities")
    if not rho[reference].any():
        raise ValueError("the reference density is zero everywhere: a relative spread is not defined")
    return float(EPS_MAD.value(absolute_deviations(rho).sum() / len(rho), np.abs(rho[reference]).sum()))
