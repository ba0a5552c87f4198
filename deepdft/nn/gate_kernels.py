"""The compiled loops of `nn.gates`: values and derivatives, row after row, in single precision.

Loops over the channels h come last and write to one array each, so that they become vector instructions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepdft.compiled import compiled, inlined
from deepdft.nn import radial
from deepdft.nn.elementary import sigmoid

__all__ = [
    "blend_both_derivatives",
    "blend_both_values",
    "blend_derivatives",
    "blend_values",
    "invariants_derivatives",
    "invariants_values",
    "update_both_derivatives",
    "update_both_values",
]

Floats = NDArray[np.float32]

SMALLEST_SQUARE = np.float32(radial.SMALLEST_SQUARE)


@inlined
def _sigmoids(gates: Floats, bias: Floats, i: int, share: Floats) -> None:
    for h in range(len(share)):
        share[h] = sigmoid(gates[i, h] + bias[h])


@compiled
def blend_values(
    gate: Floats, gate_bias: Floats, state: Floats, update: Floats, update_bias: Floats, result: Floats
) -> None:
    """`nn.gates.blend`."""
    for i in range(len(gate)):
        for h in range(gate.shape[1]):
            new = update[i, h] + update_bias[h]
            result[i, h] = new + sigmoid(gate[i, h] + gate_bias[h]) * (state[i, h] - new)


@compiled
def blend_derivatives(
    gate: Floats,
    gate_bias: Floats,
    state: Floats,
    update: Floats,
    update_bias: Floats,
    by_result: Floats,
    by_gate: Floats,
    by_state: Floats,
    by_update: Floats,
) -> None:
    """Derivatives of `nn.gates.blend` by its inputs, from those by its results."""
    share = np.empty(gate.shape[1], np.float32)
    for i in range(len(gate)):
        _sigmoids(gate, gate_bias, i, share)
        for h in range(len(share)):
            by_share = by_result[i, h] * (state[i, h] - update[i, h] - update_bias[h])
            by_gate[i, h] = by_share * (share[h] - share[h] * share[h])
        for h in range(len(share)):
            by_state[i, h] = by_result[i, h] * share[h]
        for h in range(len(share)):
            by_update[i, h] = by_result[i, h] - by_result[i, h] * share[h]


@compiled
def blend_both_values(
    gates: Floats,
    bias: Floats,
    scalar: Floats,
    vector: Floats,
    message: Floats,
    new_scalar: Floats,
    new_vector: Floats,
) -> None:
    """`nn.gates.blend_both`."""
    size = scalar.shape[1]
    share = np.empty(gates.shape[1], np.float32)
    for i in range(len(gates)):
        _sigmoids(gates, bias, i, share)
        for h in range(size):
            new_scalar[i, h] = message[i, 0, h] + share[h] * (scalar[i, h] - message[i, 0, h])
        for k in range(3):
            for h in range(size):
                new_vector[i, k, h] = message[i, 1 + k, h] + share[size + h] * (vector[i, k, h] - message[i, 1 + k, h])


@compiled
def blend_both_derivatives(
    gates: Floats,
    bias: Floats,
    scalar: Floats,
    vector: Floats,
    message: Floats,
    by_new_scalar: Floats,
    by_new_vector: Floats,
    by_gates: Floats,
    by_scalar: Floats,
    by_vector: Floats,
    by_message: Floats,
) -> None:
    """Derivatives of `nn.gates.blend_both` by its inputs, from those by its results."""
    size = scalar.shape[1]
    share, by_share = np.empty(gates.shape[1], np.float32), np.empty(size, np.float32)
    for i in range(len(gates)):
        _sigmoids(gates, bias, i, share)
        for h in range(size):
            by_gates[i, h] = by_new_scalar[i, h] * (scalar[i, h] - message[i, 0, h]) * (share[h] - share[h] * share[h])
        for h in range(size):
            by_scalar[i, h] = by_new_scalar[i, h] * share[h]
        for h in range(size):
            by_message[i, 0, h] = by_new_scalar[i, h] - by_new_scalar[i, h] * share[h]
        by_share[:] = 0.0
        for k in range(3):
            for h in range(size):
                by_share[h] += by_new_vector[i, k, h] * (vector[i, k, h] - message[i, 1 + k, h])
            for h in range(size):
                by_vector[i, k, h] = by_new_vector[i, k, h] * share[size + h]
            for h in range(size):
                by_message[i, 1 + k, h] = by_new_vector[i, k, h] - by_new_vector[i, k, h] * share[size + h]
        for h in range(size):
            by_gates[i, size + h] = by_share[h] * (share[size + h] - share[size + h] * share[size + h])


@compiled
def invariants_values(scalar: Floats, u: Floats, v: Floats, lengths: Floats, products: Floats) -> None:
    """`nn.gates.invariants`."""
    size = scalar.shape[1]
    for i in range(len(scalar)):
        for h in range(size):
            lengths[i, h] = scalar[i, h]
        for h in range(size):
            x, y, z = v[i, 0, h], v[i, 1, h], v[i, 2, h]
            lengths[i, size + h] = np.sqrt(x * x + y * y + z * z + SMALLEST_SQUARE)
        for h in range(size):
            products[i, h] = u[i, 0, h] * v[i, 0, h] + u[i, 1, h] * v[i, 1, h] + u[i, 2, h] * v[i, 2, h]


@compiled
def invariants_derivatives(
    scalar: Floats,
    u: Floats,
    v: Floats,
    by_lengths: Floats,
    by_products: Floats,
    by_scalar: Floats,
    by_u: Floats,
    by_v: Floats,
) -> None:
    """Derivatives of `nn.gates.invariants` by its inputs, from those by its results."""
    size = scalar.shape[1]
    along = np.empty(size, np.float32)  # derivative by the length, divided by the length
    for i in range(len(scalar)):
        for h in range(size):
            by_scalar[i, h] = by_lengths[i, h]
        for h in range(size):
            x, y, z = v[i, 0, h], v[i, 1, h], v[i, 2, h]
            along[h] = by_lengths[i, size + h] / np.sqrt(x * x + y * y + z * z + SMALLEST_SQUARE)
        for k in range(3):
            for h in range(size):
                by_u[i, k, h] = by_products[i, h] * v[i, k, h]
            for h in range(size):
                by_v[i, k, h] = by_products[i, h] * u[i, k, h] + along[h] * v[i, k, h]


@compiled
def update_both_values(
    scalar: Floats,
    vector: Floats,
    amounts: Floats,
    bias: Floats,
    products: Floats,
    u: Floats,
    new_scalar: Floats,
    new_vector: Floats,
) -> None:
    """`nn.gates.update_both`."""
    size = scalar.shape[1]
    for i in range(len(scalar)):
        for h in range(size):
            a_ss, a_sv = amounts[i, h] + bias[h], amounts[i, size + h] + bias[size + h]
            new_scalar[i, h] = scalar[i, h] + a_ss + a_sv * products[i, h]
        for k in range(3):
            for h in range(size):
                new_vector[i, k, h] = vector[i, k, h] + (amounts[i, 2 * size + h] + bias[2 * size + h]) * u[i, k, h]


@compiled
def update_both_derivatives(
    scalar: Floats,
    vector: Floats,
    amounts: Floats,
    bias: Floats,
    products: Floats,
    u: Floats,
    by_new_scalar: Floats,
    by_new_vector: Floats,
    by_scalar: Floats,
    by_vector: Floats,
    by_amounts: Floats,
    by_products: Floats,
    by_u: Floats,
) -> None:
    """Derivatives of `nn.gates.update_both` by its inputs, from those by its results."""
    size = scalar.shape[1]
    by_scalar[:] = by_new_scalar
    by_vector[:] = by_new_vector
    for i in range(len(scalar)):
        for h in range(size):
            by_amounts[i, h] = by_new_scalar[i, h]
        for h in range(size):
            by_amounts[i, size + h] = by_new_scalar[i, h] * products[i, h]
        for h in range(size):
            by_products[i, h] = by_new_scalar[i, h] * (amounts[i, size + h] + bias[size + h])
        by_amounts[i, 2 * size :] = 0.0
        for k in range(3):
            for h in range(size):
                by_amounts[i, 2 * size + h] += by_new_vector[i, k, h] * u[i, k, h]
            for h in range(size):
                by_u[i, k, h] = by_new_vector[i, k, h] * (amounts[i, 2 * size + h] + bias[2 * size + h])
