"""Messages of features that rotate as spherical harmonics do, summed over neighbours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from deepdft import chunks
from deepdft.nn import edge_kernels
from deepdft.nn.interpolation import Tabulated
from deepdft.nn.scatter import Ends
from deepdft.nn.spherical import orders

__all__ = ["equivariant_sum"]


def equivariant_sum(
    sent: Tensor, filters: Tensor | Tabulated, harmonics: Tensor, sender: Tensor, receiver: Tensor, n_receivers: int
) -> Tensor:
    """Σ_w c ⊙ C_w (row 0), and Σ_w a_l ⊙ A_w,lm + b_l ⊙ B_w,l Y_lm(r_vw) (rows lm) at each receiver v.

    Args:
        sent: (n_senders, 1 + L + M, H), rows C, B_1…B_L, and A_lm of all M = (L + 1)² - 1 of the orders 1…L.
        filters: (n_edges, (1 + 2L) H), c, b_1…b_L, a_1…a_L.
        harmonics: (n_edges, M), Y_lm; for L = 1 any three components of the direction.
        sender: (n_edges,) int64.
        receiver: (n_edges,) int64, ascending.
        n_receivers: number of receivers.

    Returns:
        (n_receivers, 1 + M, H), zero where there is no edge.
    """
    max_order = sent.shape[1] - 1 - harmonics.shape[1]
    order_of = torch.tensor(orders(max_order)[1:], device=sent.device) - 1
    if isinstance(filters, Tabulated):
        sent, filters = sent.to(filters.at.weights.dtype), filters.in_full_precision()
        if sent.device.type == "cpu":
            ends = Ends(filters.at, sender, receiver, n_receivers)
            return _EquivariantSum.apply(sent, filters.table, order_of, harmonics, ends)
        filters = filters.values()
    dtype = torch.promote_types(sent.dtype, torch.promote_types(filters.dtype, harmonics.dtype))
    total = sent.new_zeros(n_receivers, 1 + harmonics.shape[1], sent.shape[2], dtype=dtype)
    edges = (filters.unflatten(1, (1 + 2 * max_order, -1)), harmonics[:, :, None], sender, receiver)
    for of_edges, along, of_sender, of_receiver in zip(
        *(part.split(chunks.CPU.edges_encoded) for part in edges), strict=True
    ):
        messages = _messages(sent.index_select(0, of_sender), of_edges, along, order_of)
        total.index_add_(0, of_receiver, messages.to(dtype))
    return total


def _messages(sent: Tensor, filters: Tensor, harmonics: Tensor, order_of: Tensor) -> Tensor:
    """Per edge (n_edges, 1 + M, H), from what its sender sends (n_edges, 1 + L + M, H)."""
    n_orders = filters.shape[1] // 2
    products = filters[:, : 1 + n_orders] * sent[:, : 1 + n_orders]
    along, kept = products[:, 1:].index_select(1, order_of), filters[:, 1 + n_orders :].index_select(1, order_of)
    return torch.cat([products[:, :1], torch.addcmul(kept * sent[:, 1 + n_orders :], along, harmonics)], dim=1)


class _EquivariantSum(torch.autograd.Function):
    """`equivariant_sum` on the CPU; nothing is kept per edge, the derivative looks the filters up again."""

    @staticmethod
    def forward(ctx: Any, sent: Tensor, table: Tensor, order_of: Tensor, harmonics: Tensor, ends: Ends) -> Tensor:
        at, sender, receiver, n_receivers = ends
        ctx.save_for_backward(sent, table, order_of, at.first, at.weights, harmonics, sender, receiver)
        return edge_kernels.equivariant_sum(
            sent, table, order_of, at.first, at.weights, harmonics, sender, receiver, n_receivers
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *edge_kernels.equivariant_sum_derivatives(gradient, *ctx.saved_tensors), None, None, None
