"""Radial functions of orbitals: the reach of Gaussians, shells of equal reach, and nearly orthogonal combinations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["OVERLAP_RIDGE", "Shell", "orthogonal", "radial_functions", "shells"]

DECAY_AT_REACH = 10.0
"""α reach²: a Gaussian has decayed to e⁻¹⁰ where it is cut, unless the model's cutoff comes first."""
SHELL_RATIO = 2.0
"""Radial functions whose reaches differ by less than this fraction share a shell."""
OVERLAP_RIDGE = 1e-3
"""ε: limits the coefficients of combinations that the functions can hardly represent to ε^-½."""


@dataclass(frozen=True)
class Shell:
    """Consecutive radial functions that end at the same distance."""

    radials: slice
    reach: float
    """Å, distance at which they end."""


def radial_functions(squared: Tensor, exponents: Tensor, reach: float | Tensor) -> Tensor:
    """Radial functions R = exp(-α r²) (1 - r²/reach²)³, zero beyond the reach.

    Args:
        squared: r² in Å².
        exponents: α in Å⁻², of a shape that fits.
        reach: Å.
    """
    end = (1.0 - squared / reach**2).clamp(min=0.0) ** 3
    return torch.exp(-exponents * squared) * end


def shells(exponents: NDArray[np.float64], cutoff: float) -> list[Shell]:
    """Cut Gaussians where their reach has fallen by the ratio; a shell ends at the largest of its reaches.

    Args:
        exponents: (n_radial,), α in Å⁻², ascending.
        cutoff: largest reach, Å.
    """
    reaches = np.sqrt(DECAY_AT_REACH / exponents).clip(max=cutoff).tolist()
    found, first = [], 0
    for n in range(1, len(reaches) + 1):
        if n == len(reaches) or reaches[n] * SHELL_RATIO <= reaches[first]:
            found.append(Shell(slice(first, n), reaches[first]))
            first = n
    return found


def orthogonal(exponents: NDArray[np.float64], reaches: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    """Combinations of r^l R_n, each close to one of them, that hardly overlap: Löwdin's (S + ε)^-½.

    Their norms are between equal ones and those of functions with equal maxima (the geometric mean): narrow functions
    matter at few points, but a lot there.

    Returns:
        (n_radial, n_radial) coefficients of R_n (rows) in the combinations (columns).
    """
    r = np.linspace(0.0, reaches.max(), 4001)[:, None]  # Å
    radial = radial_functions(torch.from_numpy(r**2), torch.from_numpy(exponents), torch.from_numpy(reaches))
    functions = r**degree * radial.numpy()
    largest = functions.max(axis=0)
    norms = np.linalg.norm(r * functions, axis=0)  # any unit
    normalised = r * functions / norms
    values, vectors = np.linalg.eigh(normalised.T @ normalised)
    inverse_root = (vectors / np.sqrt(values + OVERLAP_RIDGE)) @ vectors.T
    at_equal_maxima = norms / largest
    return inverse_root / norms[:, None] * np.sqrt(at_equal_maxima * at_equal_maxima.mean())
