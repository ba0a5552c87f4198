"""Quintic interpolation in tables over equally spaced knots, as weighted sums of rows."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from deepdft.nn.fast import Operation

__all__ = ["KNOTS", "Interpolation", "Tabulated"]

KNOTS = 6
"""Number of knots that determine a quintic polynomial."""


class Interpolation:
    """Interpolates tables (n_knots, size) at given places; differentiable with respect to the tables alone.

    The quintic through the six nearest knots errs by at most 0.0049 h⁶ |f⁽⁶⁾|, with h the spacing.

    Args:
        places: (n,) in units of the spacing: knot i lies at i. Each has two knots below it and three above, or the
            other way.
        n_knots: rows of the tables.
    """

    def __init__(self, places: Tensor, n_knots: int) -> None:
        first = (places.floor() - 2).clamp(0, n_knots - KNOTS)
        x = places - first  # relative to the first of the six knots, 2 … 3
        a, b, c, d, e, f = (x - knot for knot in range(KNOTS))
        ab, cd, ef = a * b, c * d, e * f
        # Lagrange polynomials
        weights = [b * cd * ef / -120, a * cd * ef / 24, ab * d * ef / -12, ab * c * ef / 12]
        weights += [ab * cd * f / -24, ab * cd * e / 120]
        self.n_knots = n_knots
        self.first = first.long()
        """(n,) first of the six knots of each place."""
        self.weights = torch.stack(weights, dim=1)
        """(n, 6) weights of the knots."""

    @cached_property
    def knots(self) -> Tensor:
        """Indices (n, 6) of the knots."""
        return self.first[:, None] + torch.arange(KNOTS, device=self.first.device)

    def __call__(self, table: Tensor) -> Tensor:
        """The values (n, size) of a table (n_knots, size) at the places."""
        return _VALUES(table, self)

    def values(self, table: Tensor) -> Tensor:
        """Interpolated values, without gradients."""
        # embedding bags of six weighted rows: three times as fast on the CPU as the product with a sparse matrix
        # detached: embedding bags whose table requires a gradient also count rows for it
        weights = self.weights.to(table.dtype)
        return embedding_bag(self.knots, table.detach(), mode="sum", per_sample_weights=weights)

    def transposed(self, gradient: Tensor) -> Tensor:
        """Gradient (n_knots, size) with respect to the table, from that with respect to the values (n, size)."""
        # an embedding bag of places per knot
        places, weights, first = self._by_knot
        return embedding_bag(places, gradient, first, mode="sum", per_sample_weights=weights.to(gradient.dtype))

    @cached_property
    def _by_knot(self) -> tuple[Tensor, Tensor, Tensor]:
        """Places and weights (6 n,) sorted by knot, and where each knot starts."""
        knots, order = self.knots.flatten().sort()
        first = torch.searchsorted(knots, torch.arange(self.n_knots, device=knots.device))
        return order // KNOTS, self.weights.flatten()[order], first


class Tabulated:
    """A function of n distances, stored as a table and looked up where it is used.

    Args:
        table: (n_knots, size).
        at: the distances among the knots.
    """

    def __init__(self, table: Tensor, at: Interpolation) -> None:
        self.table, self.at = table, at

    def in_full_precision(self) -> tuple[Tensor, Interpolation]:
        """The table, in the precision of the distances: sums are not computed in the lower precision of networks."""
        return self.table.to(self.at.weights.dtype), self.at

    def values(self) -> Tensor:
        """Interpolated values (n, size)."""
        return self.at(self.table)


def _weighted_rows(table: Tensor, at: Interpolation) -> Tensor:
    return (at.weights.to(table.dtype)[:, :, None] * table[at.knots]).sum(dim=1)


_VALUES = Operation(  # embedding bags of rows; torch's own gradient counts the rows again for each table
    _weighted_rows,
    lambda table, at: True,
    lambda table, at: at.values(table),
    lambda inputs, kept, gradients: [inputs[1].transposed(gradients[0].contiguous()), None],
)
