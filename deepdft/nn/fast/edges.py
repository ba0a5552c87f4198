"""Sums over edges on the CPU, compiled by Numba: one pass through the caches, where torch takes a dozen.

A filter is looked up in a table and used at once: six knots from `first`, with `weights` (see `nn.interpolation`). All
floating-point arrays are of one type; indices are not checked. Loops over the channels h come last and write to one
array each, so that they become vector instructions; a row as an array of its own takes as long to make as to use. They
run on one thread: others would have to share the cores with those of torch, which go on waiting in a loop after each of
its operations (measured on two cores).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepdft.compiled import compiled, inlined
from deepdft.nn.fast.elementary import softplus, softplus_and_slope

__all__ = [
    "add_equivariant_sum_gradients",
    "add_filtered_sum_gradients",
    "add_softplus_of_pairs_gradients",
    "equivariant_sum",
    "filtered_sum",
    "softplus_of_pairs",
    "softplus_of_pairs_with_slope",
]

Reals = NDArray[np.floating]
Indices = NDArray[np.int64]

KNOTS = 6
"""Number of knots from which a filter is interpolated."""

Six = tuple[float, float, float, float, float, float]


@inlined
def _between(table: Reals, knot: int, weights: Six, h: int) -> float:
    """The table's column h, interpolated between six knots."""
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
def _spread(grad_values: Reals, knot: int, weights: Reals, grad_table: Reals) -> None:
    for j in range(KNOTS):
        for h in range(len(grad_values)):
            grad_table[knot + j, h] += weights[j] * grad_values[h]


@inlined
def _begin(total: Reals, first: int, last: int) -> None:
    """Set rows of receivers to zero just before their sum, while they are in the fastest cache."""
    for i in range(first, last):
        total[i] = 0.0


@compiled
def filtered_sum(
    sent: Reals, table: Reals, first: Indices, weights: Reals, sender: Indices, receiver: Indices, total: Reals
) -> None:
    """`nn.scatter.filtered_sum` with filters from a table (n_knots, H)."""
    started = 0
    for edge in range(len(first)):
        w, v, knot = sender[edge], receiver[edge], first[edge]
        _begin(total, started, v + 1)
        started = v + 1
        a, b, c, d, e, f = weights[edge]
        for h in range(table.shape[1]):
            total[v, h] += sent[w, h] * _between(table, knot, (a, b, c, d, e, f), h)
    _begin(total, started, len(total))


@compiled
def add_filtered_sum_gradients(
    gradient: Reals,
    sent: Reals,
    table: Reals,
    first: Indices,
    weights: Reals,
    sender: Indices,
    receiver: Indices,
    grad_sent: Reals,
    grad_table: Reals,
) -> None:
    """Add the gradients with respect to `sent` and `table`, given that with respect to the sums (n_receivers, H)."""
    size = table.shape[1]
    filters, grad_filters = np.empty(size, table.dtype), np.empty(size, table.dtype)
    for edge in range(len(first)):
        w, v = sender[edge], receiver[edge]
        _look_up(table, first[edge], weights[edge], filters)
        for h in range(size):
            grad_sent[w, h] += gradient[v, h] * filters[h]
        for h in range(size):
            grad_filters[h] = gradient[v, h] * sent[w, h]
        _spread(grad_filters, first[edge], weights[edge], grad_table)


@compiled
def equivariant_sum(
    sent: Reals,
    table: Reals,
    degree_of: Indices,
    first: Indices,
    weights: Reals,
    harmonics: Reals,
    sender: Indices,
    receiver: Indices,
    total: Reals,
) -> None:
    """`nn.equivariant.equivariant_sum` with filters from a table (n_knots, (1 + 2L) H)."""
    size, l_max, started = sent.shape[2], sent.shape[1] - 1 - len(degree_of), 0
    looked_up = np.empty(table.shape[1], table.dtype)
    filters = looked_up.reshape(-1, size)
    for edge in range(len(first)):
        w, v = sender[edge], receiver[edge]
        _begin(total, started, v + 1)
        started = v + 1
        _look_up(table, first[edge], weights[edge], looked_up)
        for h in range(size):
            total[v, 0, h] += filters[0, h] * sent[w, 0, h]
        for radial in range(1, 1 + l_max):
            for h in range(size):
                filters[radial, h] *= sent[w, radial, h]
        for m in range(len(degree_of)):
            radial, passthrough, sent_m = 1 + degree_of[m], 1 + l_max + degree_of[m], 1 + l_max + m
            harmonic = harmonics[edge, m]
            for h in range(size):
                total[v, 1 + m, h] += filters[passthrough, h] * sent[w, sent_m, h] + harmonic * filters[radial, h]
    _begin(total, started, len(total))


@inlined
def _gradients_of_factors(
    filters: Reals, sent: Reals, w: int, l_max: int, grad_filters: Reals, grad_sent: Reals
) -> None:
    """Turn gradients with respect to products, which stand in `grad_filters`, into those of their factors."""
    for radial in range(1, 1 + l_max):
        for h in range(filters.shape[1]):
            grad_sent[w, radial, h] += grad_filters[radial, h] * filters[radial, h]
        for h in range(filters.shape[1]):
            grad_filters[radial, h] *= sent[w, radial, h]


@compiled
def add_equivariant_sum_gradients(
    gradient: Reals,
    sent: Reals,
    table: Reals,
    degree_of: Indices,
    first: Indices,
    weights: Reals,
    harmonics: Reals,
    sender: Indices,
    receiver: Indices,
    grad_sent: Reals,
    grad_table: Reals,
) -> None:
    """Add the gradients with respect to `sent` and `table`, given that with respect to the sums."""
    size, l_max = sent.shape[2], sent.shape[1] - 1 - len(degree_of)
    looked_up, grad_looked_up = np.empty(table.shape[1], table.dtype), np.empty(table.shape[1], table.dtype)
    filters, grad_filters = looked_up.reshape(-1, size), grad_looked_up.reshape(-1, size)
    for edge in range(len(first)):
        w, v = sender[edge], receiver[edge]
        _look_up(table, first[edge], weights[edge], looked_up)
        for h in range(size):
            grad_filters[0, h] = gradient[v, 0, h] * sent[w, 0, h]
        for h in range(size):
            grad_sent[w, 0, h] += gradient[v, 0, h] * filters[0, h]
        grad_filters[1:] = 0.0
        for m in range(len(degree_of)):
            radial, passthrough, sent_m = 1 + degree_of[m], 1 + l_max + degree_of[m], 1 + l_max + m
            harmonic = harmonics[edge, m]
            for h in range(size):
                grad_filters[radial, h] += (
                    harmonic * gradient[v, 1 + m, h]
                )  # not yet multiplied by the sender's factors
            for h in range(size):
                grad_filters[passthrough, h] += gradient[v, 1 + m, h] * sent[w, sent_m, h]
            for h in range(size):
                grad_sent[w, sent_m, h] += gradient[v, 1 + m, h] * filters[passthrough, h]
        _gradients_of_factors(filters, sent, w, l_max, grad_filters, grad_sent)
        _spread(grad_looked_up, first[edge], weights[edge], grad_table)


@compiled
def softplus_of_pairs(
    shift: np.float32, sent: Reals, received: Reals, sender: Indices, receiver: Indices, value: Reals
) -> None:
    """`nn.scatter.softplus_of_pairs`, in single precision."""
    for edge in range(len(sender)):
        of_sender, own = sent[sender[edge]], received[receiver[edge]]
        for h in range(sent.shape[1]):
            value[edge, h] = softplus(of_sender[h] + own[h]) - shift


@compiled
def softplus_of_pairs_with_slope(
    shift: np.float32, sent: Reals, received: Reals, sender: Indices, receiver: Indices, value: Reals, slope: Reals
) -> None:
    """`softplus_of_pairs` with the derivative of soft-plus at each edge."""
    for edge in range(len(sender)):
        of_sender, own = sent[sender[edge]], received[receiver[edge]]
        for h in range(sent.shape[1]):
            result, slope[edge, h] = softplus_and_slope(of_sender[h] + own[h])
            value[edge, h] = result - shift


@compiled
def add_softplus_of_pairs_gradients(
    gradient: Reals, slope: Reals, sender: Indices, receiver: Indices, grad_sent: Reals, grad_received: Reals
) -> None:
    """Add the gradients with respect to `sent` and `received`, given that with respect to the values."""
    for edge in range(len(sender)):
        of_sender, own = grad_sent[sender[edge]], grad_received[receiver[edge]]
        for h in range(gradient.shape[1]):
            of_sender[h] += gradient[edge, h] * slope[edge, h]
        for h in range(gradient.shape[1]):
            own[h] += gradient[edge, h] * slope[edge, h]
