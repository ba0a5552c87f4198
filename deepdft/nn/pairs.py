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
"""Up to which pairs are fewer than edges are dear: four times as fast with one, hardly faster with three (measured)."""


class PairSums:
    """The sparse matrix (n_receivers, n_present · n_knots), from pairs of a sender and a knot to receivers.

    Args:
        edge_index: (2, n_edges), sender and receiver; receivers ascend.
        at: the lengths of the edges among the knots.
        n_receivers: number of receivers.
    """

    def __init__(self, edge_index: Tensor, at: Interpolation, n_receivers: int) -> None:
        sender, receiver = edge_index
        is_present = sender.bincount() > 0
        self.present = is_present.nonzero().squeeze(1)
        """(n_present,) the atoms that send anything."""
        self.pay = len(self.present) * at.n_knots <= PAIRS_PER_EDGE * len(sender)
        """Whether pairs are few enough."""
        self.weights = at.weights
        compact = (is_present.cumsum(0) - 1)[sender]
        self._columns = (compact[:, None] * at.n_knots + at.knots).flatten()
        receivers = torch.arange(n_receivers, device=sender.device)
        self._first = KNOTS * torch.searchsorted(receiver, receivers)

    def __call__(self, sent: Tensor, table: Tensor, factors: Sequence[Tensor | None] = (None,)) -> list[Tensor]:
        """Σ_w factor_vw sent_w ⊙ f(d_vw) at each receiver v (n_receivers, size), for each of the factors.

        Args:
            sent: (n_senders, size).
            table: f at the knots (n_knots, size).
            factors: (n_edges,) each; None is one for all edges.
        """
        pairs = (sent[self.present, None] * table).flatten(0, 1)
        weights = self.weights.to(pairs.dtype)
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


def pair_sums(filters: Tabulated, sender: Tensor, receiver: Tensor, n_receivers: int) -> PairSums | None:
    """How to sum over these edges by pairs; None where derivatives are wanted, or pairs are too many."""
    if torch.is_grad_enabled():
        return None
    sums = PairSums(torch.stack([sender, receiver]), filters.at, n_receivers)
    return sums if sums.pay else None
