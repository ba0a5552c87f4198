"""Sums over edges on the CPU, compiled by Numba: one pass through the caches, where torch takes a dozen.

A filter is looked up in a table and used at once: six knots from `first`, with `weights` (see `nn.interpolation`). All
floating-point arrays are of one type; indices are not checked. Loops over the channels h come last and write to one
array each, so that they become vector instructions. They run on one thread: others would have to share the cores with
those of torch, which go on waiting in a loop after each of its operations (measured on two cores).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepdft.compiled import compiled
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
    total = sent.new_zeros(n_receivers, sent.shape[1])
    _add_filtered_sum(*arrays(sent, table, first, weights, sender, receiver, total))
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
    total = sent.new_zeros(n_receivers, 1 + harmonics.shape[1], sent.shape[2])
    _add_equivariant_sum(*arrays(sent, table, order_of, first, weights, harmonics, sender, receiver, total))
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


@compiled
def _look_up(table: Reals, knot: int, weights: Reals, values: Reals) -> None:
    a, b, c, d, e, f = weights
    k0, k1, k2 = table[knot], table[knot + 1], table[knot + 2]
    k3, k4, k5 = table[knot + 3], table[knot + 4], table[knot + 5]
    for h in range(len(values)):
        values[h] = a * k0[h] + b * k1[h] + c * k2[h] + d * k3[h] + e * k4[h] + f * k5[h]


@compiled
def _spread(by_values: Reals, knot: int, weights: Reals, by_table: Reals) -> None:
    for j in range(KNOTS):
        by_knot, weight = by_table[knot + j], weights[j]
        for h in range(len(by_values)):
            by_knot[h] += weight * by_values[h]


@compiled
def _add_filtered_sum(
    sent: Reals, table: Reals, first: Indices, weights: Reals, sender: Indices, receiver: Indices, total: Reals
) -> None:
    size = table.shape[1]
    for edge in range(len(first)):
        knot = first[edge]
        a, b, c, d, e, f = weights[edge]
        k0, k1, k2 = table[knot], table[knot + 1], table[knot + 2]
        k3, k4, k5 = table[knot + 3], table[knot + 4], table[knot + 5]
        own, of_sender = total[receiver[edge]], sent[sender[edge]]
        for h in range(size):
            own[h] += of_sender[h] * (a * k0[h] + b * k1[h] + c * k2[h] + d * k3[h] + e * k4[h] + f * k5[h])


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
    by_filters = np.empty(size, table.dtype)
    for edge in range(len(first)):
        knot = first[edge]
        a, b, c, d, e, f = weights[edge]
        k0, k1, k2 = table[knot], table[knot + 1], table[knot + 2]
        k3, k4, k5 = table[knot + 3], table[knot + 4], table[knot + 5]
        own, of_sender, by_sender = gradient[receiver[edge]], sent[sender[edge]], by_sent[sender[edge]]
        for h in range(size):
            by_sender[h] += own[h] * (a * k0[h] + b * k1[h] + c * k2[h] + d * k3[h] + e * k4[h] + f * k5[h])
        for h in range(size):
            by_filters[h] = own[h] * of_sender[h]
        _spread(by_filters, knot, weights[edge], by_table)


@compiled
def _add_equivariant_sum(
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
    size, n_orders = sent.shape[2], sent.shape[1] - 1 - len(order_of)
    filters = np.empty((1 + 2 * n_orders, size), table.dtype)
    scalar, along, kept = filters[0], filters[1 : 1 + n_orders], filters[1 + n_orders :]
    for edge in range(len(first)):
        _look_up(table, first[edge], weights[edge], filters.reshape(-1))
        own, of_sender = total[receiver[edge]], sent[sender[edge]]
        for h in range(size):
            own[0, h] += scalar[h] * of_sender[0, h]
        for order in range(n_orders):
            for h in range(size):
                along[order, h] *= of_sender[1 + order, h]
        for m in range(len(order_of)):
            order, harmonic = order_of[m], harmonics[edge, m]
            for h in range(size):
                own[1 + m, h] += kept[order, h] * of_sender[1 + n_orders + m, h] + harmonic * along[order, h]


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
    filters = np.empty((1 + 2 * n_orders, size), table.dtype)
    by_filters = np.empty_like(filters)
    for edge in range(len(first)):
        _look_up(table, first[edge], weights[edge], filters.reshape(-1))
        own, of_sender, by_sender = gradient[receiver[edge]], sent[sender[edge]], by_sent[sender[edge]]
        by_filters[:] = 0.0
        for h in range(size):
            by_filters[0, h] = own[0, h] * of_sender[0, h]
        for h in range(size):
            by_sender[0, h] += own[0, h] * filters[0, h]
        for m in range(len(order_of)):
            along, kept, harmonic = 1 + order_of[m], 1 + n_orders + order_of[m], harmonics[edge, m]
            for h in range(size):
                by_filters[along, h] += harmonic * own[1 + m, h]  # not yet times what the sender sends
            for h in range(size):
                by_filters[kept, h] += own[1 + m, h] * of_sender[1 + n_orders + m, h]
            for h in range(size):
                by_sender[1 + n_orders + m, h] += own[1 + m, h] * filters[kept, h]
        _by_products(filters[1 : 1 + n_orders], of_sender[1:], by_filters[1:], by_sender[1:])
        _spread(by_filters.reshape(-1), first[edge], weights[edge], by_table)


@compiled
def _by_products(filters: Reals, sent: Reals, by_products: Reals, by_sent: Reals) -> None:
    """The derivatives by both factors; the one by filters takes the place of the one by products."""
    for order in range(len(filters)):
        for h in range(filters.shape[1]):
            by_sent[order, h] += by_products[order, h] * filters[order, h]
        for h in range(filters.shape[1]):
            by_products[order, h] *= sent[order, h]


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
