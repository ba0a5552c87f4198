"""Sums over edges on the CPU, compiled by Numba: one pass through the caches, where torch takes a dozen.

A filter is looked up in a table and used at once: six knots from `first`, with `weights` (see `nn.interpolation`). All
floating-point arrays are of one type; indices are not checked. Loops over the channels h come last and write to one
array each, so that they become vector instructions; a row as an array of its own takes as long to make as to use. They
run on one thread: others would have to share the cores with those of torch, which go on waiting in a loop after each of
its operations (measured on two cores).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepdft.compiled import compiled, inlined
from deepdft.nn.arrays import arrays
from deepdft.nn.elementary import softplus, softplus_and_slope
from deepdft.nn.interpolation import KNOTS

__all__ = [
    "equivariant_sum",
    "equivariant_sum_derivatives",
    "filtered_sum",
    "filtered_sum_derivatives",
    "softplus_of_pairs",
    "softplus_of_pairs_derivatives",
]

Reals = NDArray[np.floating]
Indices = NDArray[np.int64]


def filtered_sum(
    sent: Tensor, table: Tensor, first: Tensor, weights: Tensor, sender: Tensor, receiver: Tensor, n_receivers: int
) -> Tensor:
    """Σ_w sent_w ⊙ filter_vw at each receiver v: (n_receivers, H).

    Args:
        sent: (n_senders, H).
        table: (n_knots, H).
        first: (n_edges,) int64, the first of the knots.
        weights: (n_edges, 6) of the knots.
        sender: (n_edges,) int64.
        receiver: (n_edges,) int64, ascending.
        n_receivers: number of receivers.
    """
    total = sent.new_empty(n_receivers, sent.shape[1])
    _filtered_sum(*arrays(sent, table, first, weights, sender, receiver, total))
    return total


def filtered_sum_derivatives(
    gradient: Tensor, sent: Tensor, table: Tensor, first: Tensor, weights: Tensor, sender: Tensor, receiver: Tensor
) -> tuple[Tensor, Tensor]:
    """Derivatives by `sent` and `table`, from the one by the sums (n_receivers, H)."""
    by_sent, by_table = _zeros_like(sent), _zeros_like(table)
    inputs = gradient, sent, table, first, weights, sender, receiver
    _add_filtered_sum_derivatives(*arrays(*inputs, by_sent, by_table))
    return by_sent, by_table


def equivariant_sum(
    sent: Tensor,
    table: Tensor,
    order_of: Tensor,
    first: Tensor,
    weights: Tensor,
    harmonics: Tensor,
    sender: Tensor,
    receiver: Tensor,
    n_receivers: int,
) -> Tensor:
    """`nn.equivariant.equivariant_sum` with filters from a table (n_knots, (1 + 2L) H): (n_receivers, 1 + M, H).

    Args:
        sent: (n_senders, 1 + L + M, H).
        table: (n_knots, (1 + 2L) H).
        order_of: (M,) int64, l - 1 of each harmonic.
        first: (n_edges,) int64, the first of the knots.
        weights: (n_edges, 6) of the knots.
        harmonics: (n_edges, M).
        sender: (n_edges,) int64.
        receiver: (n_edges,) int64, ascending.
        n_receivers: number of receivers.
    """
    total = sent.new_empty(n_receivers, 1 + harmonics.shape[1], sent.shape[2])
    _equivariant_sum(*arrays(sent, table, order_of, first, weights, harmonics, sender, receiver, total))
    return total


def equivariant_sum_derivatives(
    gradient: Tensor,
    sent: Tensor,
    table: Tensor,
    order_of: Tensor,
    first: Tensor,
    weights: Tensor,
    harmonics: Tensor,
    sender: Tensor,
    receiver: Tensor,
) -> tuple[Tensor, Tensor]:
    """Derivatives by `sent` and `table`, from the one by the sums (n_receivers, 1 + M, H)."""
    by_sent, by_table = _zeros_like(sent), _zeros_like(table)
    inputs = gradient, sent, table, order_of, first, weights, harmonics, sender, receiver
    _add_equivariant_sum_derivatives(*arrays(*inputs, by_sent, by_table))
    return by_sent, by_table


def softplus_of_pairs(
    sent: Tensor, received: Tensor, sender: Tensor, receiver: Tensor, shift: float, *, with_slope: bool
) -> tuple[Tensor, Tensor | None]:
    """ln(1 + exp(sent_w + received_v)) - shift of each edge (n_edges, H), and its slope if it is wanted.

    Args:
        sent: (n_senders, H), single precision.
        received: (n_receivers, H).
        sender: (n_edges,) int64.
        receiver: (n_edges,) int64, ascending.
        shift: a number.
        with_slope: False returns None in its place.
    """
    value = sent.new_empty(len(sender), sent.shape[1])
    if not with_slope:
        _softplus_of_pairs(np.float32(shift), *arrays(sent, received, sender, receiver, value))
        return value, None
    slope = torch.empty_like(value)
    _softplus_of_pairs_with_slope(np.float32(shift), *arrays(sent, received, sender, receiver, value, slope))
    return value, slope


def softplus_of_pairs_derivatives(
    gradient: Tensor, slope: Tensor, sender: Tensor, receiver: Tensor, n_senders: int, n_receivers: int
) -> tuple[Tensor, Tensor]:
    """Derivatives by `sent` and `received`, from the one by the values (n_edges, H)."""
    by_sent, by_received = (gradient.new_zeros(count, gradient.shape[1]) for count in (n_senders, n_receivers))
    _add_softplus_of_pairs_derivatives(*arrays(gradient, slope, sender, receiver, by_sent, by_received))
    return by_sent, by_received


def _zeros_like(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor, memory_format=torch.contiguous_format)


Six = tuple[float, float, float, float, float, float]


@inlined
def _between(table: Reals, knot: int, weights: Six, h: int) -> float:
    """The table's column h between six knots."""
    a, b, c, d, e, f = weights
    return (
        a * table[knot, h]
        + b * table[knot + 1, h]
        + c * table[knot + 2, h]
        + d * table[knot + 3, h]
        + e * table[knot + 4, h]
        + f * table[knot + 5, h]
    )


@inlined
def _look_up(table: Reals, knot: int, weights: Reals, values: Reals) -> None:
    a, b, c, d, e, f = weights
    for h in range(len(values)):
        values[h] = _between(table, knot, (a, b, c, d, e, f), h)


@inlined
def _spread(by_values: Reals, knot: int, weights: Reals, by_table: Reals) -> None:
    for j in range(KNOTS):
        for h in range(len(by_values)):
            by_table[knot + j, h] += weights[j] * by_values[h]


@inlined
def _begin(total: Reals, first: int, last: int) -> None:
    """Rows of receivers are set to zero just before their sum: it is in the fastest cache then."""
    for i in range(first, last):
        total[i] = 0.0


@compiled
def _filtered_sum(
    sent: Reals, table: Reals, first: Indices, weights: Reals, sender: Indices, receiver: Indices, total: Reals
) -> None:
    begun = 0
    for edge in range(len(first)):
        w, v, knot = sender[edge], receiver[edge], first[edge]
        _begin(total, begun, v + 1)
        begun = v + 1
        a, b, c, d, e, f = weights[edge]
        for h in range(table.shape[1]):
            total[v, h] += sent[w, h] * _between(table, knot, (a, b, c, d, e, f), h)
    _begin(total, begun, len(total))


@compiled
def _add_filtered_sum_derivatives(
    gradient: Reals,
    sent: Reals,
    table: Reals,
    first: Indices,
    weights: Reals,
    sender: Indices,
    receiver: Indices,
    by_sent: Reals,
    by_table: Reals,
) -> None:
    size = table.shape[1]
    filters, by_filters = np.empty(size, table.dtype), np.empty(size, table.dtype)
    for edge in range(len(first)):
        w, v = sender[edge], receiver[edge]
        _look_up(table, first[edge], weights[edge], filters)
        for h in range(size):
            by_sent[w, h] += gradient[v, h] * filters[h]
        for h in range(size):
            by_filters[h] = gradient[v, h] * sent[w, h]
        _spread(by_filters, first[edge], weights[edge], by_table)


@compiled
def _equivariant_sum(
    sent: Reals,
    table: Reals,
    order_of: Indices,
    first: Indices,
    weights: Reals,
    harmonics: Reals,
    sender: Indices,
    receiver: Indices,
    total: Reals,
) -> None:
    size, n_orders, begun = sent.shape[2], sent.shape[1] - 1 - len(order_of), 0
    looked_up = np.empty(table.shape[1], table.dtype)
    filters = looked_up.reshape(-1, size)
    for edge in range(len(first)):
        w, v = sender[edge], receiver[edge]
        _begin(total, begun, v + 1)
        begun = v + 1
        _look_up(table, first[edge], weights[edge], looked_up)
        for h in range(size):
            total[v, 0, h] += filters[0, h] * sent[w, 0, h]
        for along in range(1, 1 + n_orders):
            for h in range(size):
                filters[along, h] *= sent[w, along, h]
        for m in range(len(order_of)):
            along, kept, sent_m = 1 + order_of[m], 1 + n_orders + order_of[m], 1 + n_orders + m
            harmonic = harmonics[edge, m]
            for h in range(size):
                total[v, 1 + m, h] += filters[kept, h] * sent[w, sent_m, h] + harmonic * filters[along, h]
    _begin(total, begun, len(total))


@inlined
def _by_products(filters: Reals, sent: Reals, w: int, n_orders: int, by_filters: Reals, by_sent: Reals) -> None:
    """From derivatives by products, which stand in `by_filters`, to those by their factors."""
    for along in range(1, 1 + n_orders):
        for h in range(filters.shape[1]):
            by_sent[w, along, h] += by_filters[along, h] * filters[along, h]
        for h in range(filters.shape[1]):
            by_filters[along, h] *= sent[w, along, h]


@compiled
def _add_equivariant_sum_derivatives(
    gradient: Reals,
    sent: Reals,
    table: Reals,
    order_of: Indices,
    first: Indices,
    weights: Reals,
    harmonics: Reals,
    sender: Indices,
    receiver: Indices,
    by_sent: Reals,
    by_table: Reals,
) -> None:
    size, n_orders = sent.shape[2], sent.shape[1] - 1 - len(order_of)
    looked_up, by_looked_up = np.empty(table.shape[1], table.dtype), np.empty(table.shape[1], table.dtype)
    filters, by_filters = looked_up.reshape(-1, size), by_looked_up.reshape(-1, size)
    for edge in range(len(first)):
        w, v = sender[edge], receiver[edge]
        _look_up(table, first[edge], weights[edge], looked_up)
        for h in range(size):
            by_filters[0, h] = gradient[v, 0, h] * sent[w, 0, h]
        for h in range(size):
            by_sent[w, 0, h] += gradient[v, 0, h] * filters[0, h]
        by_filters[1:] = 0.0
        for m in range(len(order_of)):
            along, kept, sent_m = 1 + order_of[m], 1 + n_orders + order_of[m], 1 + n_orders + m
            harmonic = harmonics[edge, m]
            for h in range(size):
                by_filters[along, h] += harmonic * gradient[v, 1 + m, h]  # not yet times what the sender sends
            for h in range(size):
                by_filters[kept, h] += gradient[v, 1 + m, h] * sent[w, sent_m, h]
            for h in range(size):
                by_sent[w, sent_m, h] += gradient[v, 1 + m, h] * filters[kept, h]
        _by_products(filters, sent, w, n_orders, by_filters, by_sent)
        _spread(by_looked_up, first[edge], weights[edge], by_table)


@compiled
def _softplus_of_pairs(
    shift: np.float32, sent: Reals, received: Reals, sender: Indices, receiver: Indices, value: Reals
) -> None:
    for edge in range(len(sender)):
        of_sender, own = sent[sender[edge]], received[receiver[edge]]
        for h in range(sent.shape[1]):
            value[edge, h] = softplus(of_sender[h] + own[h]) - shift


@compiled
def _softplus_of_pairs_with_slope(
    shift: np.float32, sent: Reals, received: Reals, sender: Indices, receiver: Indices, value: Reals, slope: Reals
) -> None:
    for edge in range(len(sender)):
        of_sender, own = sent[sender[edge]], received[receiver[edge]]
        for h in range(sent.shape[1]):
            result, slope[edge, h] = softplus_and_slope(of_sender[h] + own[h])
            value[edge, h] = result - shift


@compiled
def _add_softplus_of_pairs_derivatives(
    gradient: Reals, slope: Reals, sender: Indices, receiver: Indices, by_sent: Reals, by_received: Reals
) -> None:
    for edge in range(len(sender)):
        of_sender, own = by_sent[sender[edge]], by_received[receiver[edge]]
        for h in range(gradient.shape[1]):
            of_sender[h] += gradient[edge, h] * slope[edge, h]
        for h in range(gradient.shape[1]):
            own[h] += gradient[edge, h] * slope[edge, h]
