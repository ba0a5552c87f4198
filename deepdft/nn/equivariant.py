"""Messages of features that rotate like spherical harmonics, summed over neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deepdft import chunks
from deepdft.nn.fast import Operation, edges
from deepdft.nn.fast.arrays import arrays, zeros_like
from deepdft.nn.interpolation import Interpolation, Tabulated
from deepdft.nn.spherical import degrees

__all__ = ["equivariant_sum", "message_filters", "sent_features"]


def sent_features(*, scalar: Tensor, radial: Tensor, passthrough: Tensor) -> Tensor:
    """Factors of messages that depend on their senders: (n_atoms, 1 + L + M, H) with M = (L + 1)² - 1.

    Args:
        scalar: C (n_atoms, H).
        radial: B_l (n_atoms, L, H), what goes along the edge for each degree l = 1…L.
        passthrough: A_lm (n_atoms, M, H), features that are passed on.
    """
    return torch.cat([scalar[:, None], radial, passthrough], dim=1)


def message_filters(*, scalar: Tensor, radial: Tensor, passthrough: Tensor) -> Tensor:
    """Factors of messages that depend on their edges: (n_edges, (1 + 2L) H).

    Args:
        scalar: c (n_edges, H).
        radial: b_l (n_edges, L H).
        passthrough: a_l (n_edges, L H).
    """
    return torch.cat([scalar, radial, passthrough], dim=-1)


def equivariant_sum(
    sent: Tensor, filters: Tensor | Tabulated, harmonics: Tensor, sender: Tensor, receiver: Tensor, n_receivers: int
) -> Tensor:
    """Σ_w c ⊙ C_w (row 0), and Σ_w a_l ⊙ A_w,lm + b_l ⊙ B_w,l Y_lm(r_vw) (rows lm) at each receiver v.

    Args:
        sent: (n_senders, 1 + L + M, H), of `sent_features`.
        filters: (n_edges, (1 + 2L) H), of `message_filters`.
        harmonics: (n_edges, M), Y_lm; for L = 1 any three components of the direction.
        sender: (n_edges,) int64.
        receiver: (n_edges,) int64, ascending.
        n_receivers: number of receivers.

    Returns:
        (n_receivers, 1 + M, H), zero where there is no edge.
    """
    if isinstance(filters, Tabulated):
        table, at = filters.in_full_precision()
        return _TABULATED_SUM(sent.to(table.dtype), table, at, harmonics, sender, receiver, n_receivers)
    l_max = sent.shape[1] - 1 - harmonics.shape[1]
    degree_of = _degree_of(l_max, sent.device)
    dtype = torch.promote_types(sent.dtype, torch.promote_types(filters.dtype, harmonics.dtype))
    total = sent.new_zeros(n_receivers, 1 + harmonics.shape[1], sent.shape[2], dtype=dtype)
    of_edges = (filters.unflatten(1, (1 + 2 * l_max, -1)), harmonics[:, :, None], sender, receiver)
    parts = zip(*(part.split(chunks.CPU.edges_encoded) for part in of_edges), strict=True)
    for filter_, harmonic, w, v in parts:
        messages = _messages(sent.index_select(0, w), filter_, harmonic, degree_of)
        total.index_add_(0, v, messages.to(dtype))
    return total


def _degree_of(l_max: int, device: torch.device) -> Tensor:
    """l - 1 of each harmonic of degrees 1…L: (M,) int64."""
    return torch.tensor(degrees(l_max)[1:], device=device) - 1


def _messages(sent: Tensor, filters: Tensor, harmonics: Tensor, degree_of: Tensor) -> Tensor:
    """Messages of the edges (n_edges, 1 + M, H), from the senders' factors (n_edges, 1 + L + M, H)."""
    l_max = filters.shape[1] // 2
    products = filters[:, : 1 + l_max] * sent[:, : 1 + l_max]
    radial_term = products[:, 1:].index_select(1, degree_of)
    passthrough = filters[:, 1 + l_max :].index_select(1, degree_of) * sent[:, 1 + l_max :]
    return torch.cat([products[:, :1], torch.addcmul(passthrough, radial_term, harmonics)], dim=1)


def _tabulated_sum(sent: Tensor, table: Tensor, at: Interpolation, *others: Any) -> Tensor:
    return equivariant_sum(sent, at(table), *others)


def _tabulated_sum_in_one_pass(sent: Tensor, table: Tensor, at: Interpolation, *others: Any) -> Tensor:
    harmonics, sender, receiver, n_receivers = others
    total = sent.new_empty(n_receivers, 1 + harmonics.shape[1], sent.shape[2])
    degree_of = _degree_of(sent.shape[1] - 1 - harmonics.shape[1], sent.device)
    edges.equivariant_sum(*arrays(sent, table, degree_of, at.first, at.weights, harmonics, sender, receiver, total))
    return total


def _tabulated_sum_gradients(
    inputs: Sequence[Any], kept: Sequence[Tensor], gradients: Sequence[Tensor]
) -> list[Tensor | None]:
    """Gradients of the sum; nothing is stored per edge, so the filters are looked up again."""
    sent, table, at, harmonics, sender, receiver, _ = inputs
    grad_sent, grad_table = zeros_like(sent), zeros_like(table)
    degree_of = _degree_of(sent.shape[1] - 1 - harmonics.shape[1], sent.device)
    given = gradients[0], sent, table, degree_of, at.first, at.weights, harmonics, sender, receiver
    edges.add_equivariant_sum_gradients(*arrays(*given, grad_sent, grad_table))
    return [grad_sent, grad_table, None, None, None, None, None]


_TABULATED_SUM = Operation(
    _tabulated_sum,
    lambda sent, table, at, harmonics, *others: sent.device.type == "cpu" and not harmonics.requires_grad,
    _tabulated_sum_in_one_pass,
    _tabulated_sum_gradients,
)
