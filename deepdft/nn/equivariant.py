"""Messages of scalars and vectors, summed over neighbours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from deepdft.nn.interpolation import Interpolation, Tabulated
from deepdft.nn.scatter import cache_sized, sum_over_neighbours

__all__ = ["equivariant_sum"]

NUMBERS_PER_EDGE = 4
"""How many times as much memory as one of `filtered_sum` such an edge takes (measured: fastest)."""


def equivariant_sum(
    sent: Tensor, filters: Tensor | Tabulated, direction: Tensor, sender: Tensor, receiver: Tensor, n_receivers: int
) -> Tensor:
    """Σ_w c ⊙ C_w (row 0), and Σ_w a ⊙ A_w + b ⊙ B_w r̂_vw (rows 1 to 3) at each receiver v: (n_receivers, 4, H).

    Args:
        sent: (n_senders, 5, H), rows B, C, and three of A.
        filters: (n_edges, 3H), a, b, c.
        direction: (n_edges, 3), r̂.
        sender: (n_edges,) int64.
        receiver: (n_edges,) int64.
        n_receivers: number of receivers.
    """
    if isinstance(filters, Tabulated):
        return _EquivariantSum.apply(
            sent, filters.table, direction, filters.at, torch.stack([sender, receiver]), n_receivers
        )
    messages = _messages(sent.index_select(0, sender), filters, direction)
    return sum_over_neighbours(messages, receiver, n_receivers)


def _messages(sent: Tensor, filters: Tensor, direction: Tensor) -> Tensor:
    """Per edge (n_edges, 4, H), from what its sender sends (n_edges, 5, H)."""
    a, b, c = filters.unflatten(1, (3, -1)).split(1, dim=1)  # each (n_edges, 1, H)
    of_b, of_c, of_a = sent.split([1, 1, 3], dim=1)
    return torch.cat([c * of_c, torch.addcmul(a * of_a, b * of_b, direction[:, :, None])], dim=1)


class _EquivariantSum(torch.autograd.Function):
    """`equivariant_sum` in cache-sized pieces; nothing is kept per edge, the derivative looks the filters up again."""

    @staticmethod
    def forward(  # noqa: PLR0917 (autograd knows no keywords)
        ctx: Any,
        sent: Tensor,
        table: Tensor,
        direction: Tensor,
        at: Interpolation,
        edge_index: Tensor,
        n_receivers: int,
    ) -> Tensor:
        ctx.save_for_backward(sent, table, direction, edge_index)
        sender, receiver = edge_index
        ctx.at = at
        total = sent.new_zeros(n_receivers, 4, sent.shape[2])
        for piece in cache_sized(len(sender), sent.device, NUMBERS_PER_EDGE):
            messages = _messages(sent.index_select(0, sender[piece]), at.values(table, piece), direction[piece])
            total.index_add_(0, receiver[piece], messages)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        sent, table, direction, (sender, receiver) = ctx.saved_tensors
        by_sent, by_filters = torch.zeros_like(sent), sent.new_empty(len(sender), 3, sent.shape[2])
        for piece in cache_sized(len(sender), sent.device, NUMBERS_PER_EDGE):
            of_b, of_c, of_a = sent.index_select(0, sender[piece]).split([1, 1, 3], dim=1)
            a, b, c = ctx.at.values(table, piece).unflatten(1, (3, -1)).split(1, dim=1)
            of_scalars, of_vectors = gradient.index_select(0, receiver[piece]).split([1, 3], dim=1)
            along = (of_vectors * direction[piece, :, None]).sum(dim=1, keepdim=True)  # (n_piece, 1, H)
            across = (of_vectors * of_a).sum(dim=1, keepdim=True)
            torch.cat([across, along * of_b, of_scalars * of_c], dim=1, out=by_filters[piece])
            by_edges = torch.cat([along * b, of_scalars * c, of_vectors * a], dim=1)  # (n_piece, 5, H)
            by_sent.index_add_(0, sender[piece], by_edges)
        return by_sent, ctx.at.transposed(by_filters.flatten(1)), None, None, None, None
