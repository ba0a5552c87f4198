"""Radial functions: expansions of a distance in basis functions, and cutoff functions. Distances are in Å."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepdft.nn.interpolation import Interpolation, Tabulated

__all__ = [
    "CosineCutoff",
    "FilterNetwork",
    "GaussianBasis",
    "Radial",
    "RadialFeatures",
    "SincBasis",
    "SoftCutoff",
    "filter_networks",
    "safe_norm",
]


MAX_GAUSSIANS = 10_000
"""Largest number of centres of a basis; the paper has 40."""
SMALLEST_SQUARE = 1e-12
"""Å², added to the square of a length."""
NEGLIGIBLE = 1e-20
"""Exponent below which a Gaussian is set to zero: products with denormal numbers take a hundred times as long."""


def safe_norm(vectors: Tensor, dim: int = -1) -> Tensor:
    """Lengths of vectors whose components are along a dimension: (…, 3) → (…,).

    Derivatives of any order are finite where a length is zero: a probe may sit on an atom. The square root is taken
    1e-6 Å away from zero, which changes a length d by less than 1e-12 Å² / 2d.
    """
    return (vectors.square().sum(dim=dim) + SMALLEST_SQUARE).sqrt()


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
        if not cutoff / MAX_GAUSSIANS <= width < math.inf:
            raise ValueError(
                f"the width of Gaussians is a distance in Å, at least {cutoff / MAX_GAUSSIANS:g} for a cutoff of "
                f"{cutoff:g} Å, got {width}"
            )
        n_centers = math.ceil(cutoff / width - 1e-9)
        self.width = width
        self.register_buffer("centers", width * torch.arange(n_centers), persistent=False)

    @property
    def size(self) -> int:
        """Number of functions."""
        return len(self.centers)

    def forward(self, distances: Tensor) -> Tensor:
        """Distances (n_edges,) → (n_edges, size)."""
        gaussians = torch.exp(-0.5 * ((distances[:, None] - self.centers) / self.width).square())
        return functional.threshold(gaussians, NEGLIGIBLE, 0.0)


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
        self.width = 0.5 * cutoff / size  # Å, a quarter of the shortest wavelength
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


@dataclass(frozen=True)
class RadialFeatures:
    """Features of distances that filter networks read."""

    basis: Tensor
    """(n, n_basis)."""
    cutoff: Tensor
    """(n, 1), c(d)."""


FilterNetwork = Callable[[RadialFeatures], Tensor]
"""Computes radial features of n distances → (n, size)."""


def filter_networks(steps: Iterable[Any]) -> list[FilterNetwork]:
    """The filter network of each interaction step's messages."""
    return [step.message.filters for step in steps]


class Radial(nn.Module):
    """A basis with its cutoff, and knots between which functions of the distance alone can be interpolated.

    Args:
        basis: functions of the distance.
        soft_cutoff: weight of an edge by its length.
        cutoff: Å.
    """

    knots: Tensor

    def __init__(self, basis: GaussianBasis | SincBasis, soft_cutoff: nn.Module, cutoff: float) -> None:
        super().__init__()
        self.basis = basis
        self.soft_cutoff = soft_cutoff
        n_knots = math.ceil(8.0 * cutoff / basis.width)  # an error below 1e-6 of the range of a filter
        self.spacing = cutoff / n_knots
        # from two knots below zero to three above the cutoff
        self.register_buffer("knots", self.spacing * (torch.arange(n_knots + 6) - 2.0), persistent=False)

    def forward(self, distances: Tensor) -> RadialFeatures:
        """Distances (n,) in Å → their features."""
        return RadialFeatures(self.basis(distances), self.soft_cutoff(distances)[:, None])

    def tables(self, networks: Sequence[FilterNetwork]) -> list[Tensor] | None:
        """Each filter network at the knots (n_knots, size); None on a GPU that trains.

        There it takes longer to collect the derivatives of tables than to evaluate the networks at every distance.
        """
        if torch.is_grad_enabled() and self.knots.device.type != "cpu":
            return None
        features = self(self.knots)
        return [network(features) for network in networks]

    def filters(
        self, distances: Tensor, networks: Sequence[FilterNetwork], tables: Sequence[Tensor] | None = None
    ) -> Iterator[Tensor | Tabulated]:
        """The values (n, size) of each filter network at distances (n,) in Å.

        They are looked up in tables where there are any, and derivatives with respect to the distances are not wanted.

        Args:
            distances: (n,) Å.
            networks: the filter networks.
            tables: from `tables` of the same networks; None makes them.
        """
        if torch.is_grad_enabled() and distances.requires_grad:
            tables = None
        elif tables is None:
            tables = self.tables(networks)
        if tables is None:
            features = self(distances)
            yield from (network(features) for network in networks)
        else:
            interpolation = Interpolation(distances / self.spacing + 2.0, len(self.knots))
            yield from (Tabulated(table, interpolation) for table in tables)
