"""Cubic interpolation in tables over equally spaced knots, as a product with a sparse matrix."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

__all__ = ["Interpolation"]

with warnings.catch_warnings():  # torch says once that sparse tensors are in beta: let it be now
    warnings.simplefilter("ignore")
    torch.eye(1).to_sparse_csr()

KNOTS = 4  # that a cubic passes through


class Interpolation:
    """Interpolates tables (n_knots, size) at given places; differentiable with respect to the tables alone.

    The cubic through the four nearest knots errs by at most 0.024 h⁴ |f''''|, with h the spacing.

    Args:
        places: (n,) in units of the spacing: knot i lies at i. Each has a knot below and two above, or the other way.
        n_knots: rows of the tables.
    """

    def __init__(self, places: Tensor, n_knots: int) -> None:
        first = (places.floor() - 1).clamp(0, n_knots - KNOTS)
        x = places - first  # from the first of the four knots, 1 … 2
        a, b, c = x - 1, x - 2, x - 3
        weights = torch.stack([a * b * c / -6, x * b * c / 2, x * a * c / -2, x * a * b / 6], dim=1)
        self.n_knots = n_knots
        self.knots = first.long()[:, None] + torch.arange(KNOTS, device=places.device)
        self.weights = weights

    def __call__(self, table: Tensor) -> Tensor:
        """The values (n, size) of a table (n_knots, size) at the places."""
        return _Product.apply(table, self)

    @cached_property
    def matrix(self) -> Tensor:
        """(n, n_knots) in compressed sparse rows."""
        n = len(self.knots)
        ends = torch.arange(0, KNOTS * n + 1, KNOTS, device=self.knots.device)
        return _csr(ends, self.knots.reshape(-1), self.weights.reshape(-1), (n, self.n_knots))

    @cached_property
    def transposed(self) -> Tensor:
        """(n_knots, n) in compressed sparse rows."""
        knots, order = self.knots.reshape(-1).sort()
        ends = torch.searchsorted(knots, torch.arange(self.n_knots + 1, device=knots.device))
        shape = (self.n_knots, len(self.knots))
        return _csr(ends, order // KNOTS, self.weights.reshape(-1)[order], shape)


def _csr(ends: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.sparse_csr_tensor(ends, columns, values, shape, check_invariants=False)


class _Product(torch.autograd.Function):
    """Sparse matrix times table. torch's own derivative transposes the matrix anew for each table."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, interpolation: Interpolation) -> Tensor:
        ctx.interpolation = interpolation
        return interpolation.matrix @ table

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.interpolation.transposed @ gradient.contiguous(), None
