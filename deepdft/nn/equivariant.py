"""Messages of scalars and vectors, summed over neighbours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from deepdft.nn import edge_kernels
from deepdft.nn.interpolation import Interpolation, Tabulated
from deepdft.nn.scatter import sum_over_neighbours

__all__ = ["equivariant_sum"]


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
        if sent.device.type == "cpu":
            own, table = sent.to(filters.at.weights.dtype), filters.table.to(filters.at.weights.dtype)
            return _EquivariantSum.apply(own, table, direction, filters.at, sender, receiver, n_receivers)
        filters = filters.values()
    messages = _messages(sent.index_select(0, sender), filters, direction)
    return sum_over_neighbours(messages, receiver, n_receivers)


def _messages(sent: Tensor, filters: Tensor, direction: Tensor) -> Tensor:
    """Per edge (n_edges, 4, H), from what its sender sends (n_edges, 5, H)."""
    a, b, c = filters.unflatten(1, (3, -1)).split(1, dim=1)  # each (n_edges, 1, H)
    of_b, of_c, of_a = sent.split([1, 1, 3], dim=1)
    return torch.cat([c * of_c, torch.addcmul(a * of_a, b * of_b, direction[:, :, None])], dim=1)


class _EquivariantSum(torch.autograd.Function):
    """`equivariant_sum` on the CPU; nothing is kept per edge, the derivative looks the filters up again."""

    @staticmethod
    def forward(  # noqa: PLR0917 (autograd knows no keywords)
        ctx: Any,
        sent: Tensor,
        table: Tensor,
        direction: Tensor,
        at: Interpolation,
        sender: Tensor,
        receiver: Tensor,
        n_receivers: int,
    ) -> Tensor:
        ctx.save_for_backward(sent, table, at.first, at.weights, direction, sender, receiver)
        return edge_kernels.equivariant_sum(sent, table, at.first, at.weights, direction, sender, receiver, n_receivers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None, None, None]:
        return *edge_kernels.equivariant_sum_derivatives(gradient, *ctx.saved_tensors), None, None, None, None, None
