"""Radial functions: expansions of a distance in basis functions, and cutoffs. Distances are in Å."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["CosineCutoff", "GaussianBasis", "SincBasis", "SoftCutoff", "safe_norm"]


def safe_norm(vectors: Tensor) -> Tensor:
    """Lengths (…,) of vectors (…, 3), with finite derivatives of any order where a length is zero.

    A probe may sit on an atom. The square root is taken 1e-6 Å away from zero, which changes a length d by less
    than 1e-12 Å² / 2d.
    """
    return (vectors.square().sum(dim=-1) + 1e-12).sqrt()


class GaussianBasis(nn.Module):
    """e_k(d) = exp(-(d - kΔ)² / (2Δ²)) with centres 0, Δ, 2Δ, … below the cutoff.

    Args:
        cutoff: Å.
        width: Δ, Å.

    Source: Jørgensen & Bhowmik 2020, Eq. 2.
    """

    centers: Tensor

    def __init__(self, cutoff: float, *, width: float = 0.1) -> None:
        super().__init__()
        n_centers = math.ceil(cutoff / width - 1e-9)
        self.width = width
        self.register_buffer("centers", width * torch.arange(n_centers), persistent=False)

    @property
    def size(self) -> int:
        """Number of functions."""
        return len(self.centers)

    def forward(self, distances: Tensor) -> Tensor:
        """Distances (n_edges,) → (n_edges, size)."""
        return torch.exp(-0.5 * ((distances[:, None] - self.centers) / self.width).square())


class SincBasis(nn.Module):
    """e_n(d) = sin(nπ d / d_cut) / d with n = 1, 2, …, size: the radial basis of PaiNN.

    Args:
        cutoff: Å.
        size: number of functions.

    Source: Schütt et al. 2021 (arXiv 2102.03150), section 4.
    """

    frequencies: Tensor

    def __init__(self, cutoff: float, *, size: int) -> None:
        super().__init__()
        self.size = size
        # sinc(n d / d_cut) π n / d_cut, with the normalised sinc: defined at d = 0
        self.register_buffer("frequencies", torch.arange(1, size + 1) / cutoff, persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Distances (n_edges,) → (n_edges, size) in 1/Å."""
        return torch.sinc(distances[:, None] * self.frequencies) * math.pi * self.frequencies


class SoftCutoff(nn.Module):
    """c(d) = 1 - sigmoid(5 (d - (d_cut - 1.5))): still 5.5e-4 at the cutoff.

    Source: Jørgensen & Bhowmik 2020, below Eq. 3.
    """

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff

    def forward(self, distances: Tensor) -> Tensor:
        """Distances (n_edges,) → (n_edges,)."""
        return torch.sigmoid(-5.0 * (distances - (self.cutoff - 1.5)))


class CosineCutoff(nn.Module):
    """c(d) = ½ (cos(π d / d_cut) + 1), zero with zero slope at the cutoff."""

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff

    def forward(self, distances: Tensor) -> Tensor:
        """Distances (n_edges,), all below the cutoff → (n_edges,)."""
        return 0.5 * (torch.cos(math.pi / self.cutoff * distances) + 1.0)
