"""Sums over neighbours of tabulated messages, by pairs of sender and knot; for predictions, without derivatives.

A message is linear in its filter, so it can be interpolated like the filter: it is made for each pair of a sender and a
knot, and the sum over neighbours is the product with a sparse matrix that has six entries per edge.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from deepdft.nn.interpolation import KNOTS, Interpolation, Tabulated

__all__ = ["PairSums", "pair_sums"]

PAIRS_PER_EDGE = 3
"""Most pairs for which this is used: with one per edge four times as fast as sums over edges, with three hardly."""


def pair_sums(filters: Tabulated, sender: Tensor, receiver: Tensor, n_receivers: int) -> PairSums | None:
    """How to sum over these edges by pairs; None where derivatives are wanted, or pairs are too many."""
    if torch.is_grad_enabled():
        return None
    sends = sender.bincount() > 0
    if sends.sum() * filters.at.n_knots > PAIRS_PER_EDGE * len(sender):
        return None
    return PairSums(sends, sender, receiver, filters.at, n_receivers)


class PairSums:
    """The sparse matrix (n_receivers, n_present · n_knots), from pairs of a sender and a knot to receivers.

    Args:
        sends: (n_senders,) bool, whether an atom sends at all.
        sender: (n_edges,) int64.
        receiver: (n_edges,) int64, ascending.
        at: the lengths of the edges among the knots.
        n_receivers: number of receivers.
    """

    def __init__(self, sends: Tensor, sender: Tensor, receiver: Tensor, at: Interpolation, n_receivers: int) -> None:
        self._present = sends.nonzero().squeeze(1)
        self._weights = at.weights
        number = sends.cumsum(0) - 1  # among those present
        self._columns = (number[sender][:, None] * at.n_knots + at.knots).flatten()
        self._first = KNOTS * torch.searchsorted(receiver, torch.arange(n_receivers, device=receiver.device))

    def __call__(self, sent: Tensor, table: Tensor, factors: Sequence[Tensor | None] = (None,)) -> list[Tensor]:
        """Σ_w factor_vw sent_w ⊙ f(d_vw) at each receiver v (n_receivers, size), for each of the factors.

        Args:
            sent: (n_senders, size).
            table: f at the knots (n_knots, size).
            factors: (n_edges,) each; None is one for all edges.
        """
        pairs = (sent[self._present, None] * table).flatten(0, 1)
        weights = self._weights.to(pairs.dtype)
        return [
            embedding_bag(
                self._columns,
                pairs,
                self._first,
                mode="sum",
                per_sample_weights=(weights if factor is None else weights * factor[:, None]).flatten(),
            )
            for factor in factors
        ]
