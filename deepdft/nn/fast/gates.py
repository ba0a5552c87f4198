"""Compiled loops of `nn.gates`: values and gradients, row after row, in single precision.

Loops over the channels h come last and write to one array each, so that they become vector instructions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepdft.compiled import compiled, inlined
from deepdft.nn import radial
from deepdft.nn.fast.elementary import sigmoid

__all__ = [
    "gated_update_gradients",
    "gated_update_values",
    "gated_update_vector_gradients",
    "gated_update_vector_values",
    "invariants_gradients",
    "invariants_values",
    "vector_update_gradients",
    "vector_update_values",
]

Floats = NDArray[np.float32]

SMALLEST_SQUARE = np.float32(radial.SMALLEST_SQUARE)


@inlined
def _sigmoids(gates: Floats, bias: Floats, i: int, share: Floats) -> None:
    for h in range(len(share)):
        share[h] = sigmoid(gates[i, h] + bias[h])


@compiled
def gated_update_values(
    gate: Floats, gate_bias: Floats, state: Floats, update: Floats, update_bias: Floats, result: Floats
) -> None:
    """Values of `nn.gates.gated_update`."""
    for i in range(len(gate)):
        for h in range(gate.shape[1]):
            new = update[i, h] + update_bias[h]
            result[i, h] = new + sigmoid(gate[i, h] + gate_bias[h]) * (state[i, h] - new)


@compiled
def gated_update_gradients(
    gate: Floats,
    gate_bias: Floats,
    state: Floats,
    update: Floats,
    update_bias: Floats,
    grad_result: Floats,
    grad_gate: Floats,
    grad_state: Floats,
    grad_update: Floats,
) -> None:
    """Gradients of `nn.gates.gated_update` with respect to its inputs, given those of its results."""
    share = np.empty(gate.shape[1], np.float32)
    for i in range(len(gate)):
        _sigmoids(gate, gate_bias, i, share)
        for h in range(len(share)):
            grad_share = grad_result[i, h] * (state[i, h] - update[i, h] - update_bias[h])
            grad_gate[i, h] = grad_share * (share[h] - share[h] * share[h])
        for h in range(len(share)):
            grad_state[i, h] = grad_result[i, h] * share[h]
        for h in range(len(share)):
            grad_update[i, h] = grad_result[i, h] - grad_result[i, h] * share[h]


@compiled
def gated_update_vector_values(
    gates: Floats,
    bias: Floats,
    scalar: Floats,
    vector: Floats,
    message: Floats,
    new_scalar: Floats,
    new_vector: Floats,
) -> None:
    """Values of `nn.gates.gated_update_vector`."""
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
def gated_update_vector_gradients(
    gates: Floats,
    bias: Floats,
    scalar: Floats,
    vector: Floats,
    message: Floats,
    grad_new_scalar: Floats,
    grad_new_vector: Floats,
    grad_gates: Floats,
    grad_scalar: Floats,
    grad_vector: Floats,
    grad_message: Floats,
) -> None:
    """Gradients of `nn.gates.gated_update_vector` with respect to its inputs, given those of its results."""
    size = scalar.shape[1]
    share, grad_share = np.empty(gates.shape[1], np.float32), np.empty(size, np.float32)
    for i in range(len(gates)):
        _sigmoids(gates, bias, i, share)
        for h in range(size):
            grad_gates[i, h] = (
                grad_new_scalar[i, h] * (scalar[i, h] - message[i, 0, h]) * (share[h] - share[h] * share[h])
            )
        for h in range(size):
            grad_scalar[i, h] = grad_new_scalar[i, h] * share[h]
        for h in range(size):
            grad_message[i, 0, h] = grad_new_scalar[i, h] - grad_new_scalar[i, h] * share[h]
        grad_share[:] = 0.0
        for k in range(3):
            for h in range(size):
                grad_share[h] += grad_new_vector[i, k, h] * (vector[i, k, h] - message[i, 1 + k, h])
            for h in range(size):
                grad_vector[i, k, h] = grad_new_vector[i, k, h] * share[size + h]
            for h in range(size):
                grad_message[i, 1 + k, h] = grad_new_vector[i, k, h] - grad_new_vector[i, k, h] * share[size + h]
        for h in range(size):
            grad_gates[i, size + h] = grad_share[h] * (share[size + h] - share[size + h] * share[size + h])


@compiled
def invariants_values(scalar: Floats, u: Floats, v: Floats, lengths: Floats, products: Floats) -> None:
    """Values of `nn.gates.invariants`."""
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
def invariants_gradients(
    scalar: Floats,
    u: Floats,
    v: Floats,
    grad_lengths: Floats,
    grad_products: Floats,
    grad_scalar: Floats,
    grad_u: Floats,
    grad_v: Floats,
) -> None:
    """Gradients of `nn.gates.invariants` with respect to its inputs, given those of its results."""
    size = scalar.shape[1]
    of_length = np.empty(size, np.float32)  # gradient with respect to the length, divided by the length
    for i in range(len(scalar)):
        for h in range(size):
            grad_scalar[i, h] = grad_lengths[i, h]
        for h in range(size):
            x, y, z = v[i, 0, h], v[i, 1, h], v[i, 2, h]
            of_length[h] = grad_lengths[i, size + h] / np.sqrt(x * x + y * y + z * z + SMALLEST_SQUARE)
        for k in range(3):
            for h in range(size):
                grad_u[i, k, h] = grad_products[i, h] * v[i, k, h]
            for h in range(size):
                grad_v[i, k, h] = grad_products[i, h] * u[i, k, h] + of_length[h] * v[i, k, h]


@compiled
def vector_update_values(
    scalar: Floats,
    vector: Floats,
    amounts: Floats,
    bias: Floats,
    products: Floats,
    u: Floats,
    new_scalar: Floats,
    new_vector: Floats,
) -> None:
    """Values of `nn.gates.vector_update`."""
    size = scalar.shape[1]
    for i in range(len(scalar)):
        for h in range(size):
            a_ss, a_sv = amounts[i, h] + bias[h], amounts[i, size + h] + bias[size + h]
            new_scalar[i, h] = scalar[i, h] + a_ss + a_sv * products[i, h]
        for k in range(3):
            for h in range(size):
                new_vector[i, k, h] = vector[i, k, h] + (amounts[i, 2 * size + h] + bias[2 * size + h]) * u[i, k, h]


@compiled
def vector_update_gradients(
    scalar: Floats,
    vector: Floats,
    amounts: Floats,
    bias: Floats,
    products: Floats,
    u: Floats,
    grad_new_scalar: Floats,
    grad_new_vector: Floats,
    grad_scalar: Floats,
    grad_vector: Floats,
    grad_amounts: Floats,
    grad_products: Floats,
    grad_u: Floats,
) -> None:
    """Gradients of `nn.gates.vector_update` with respect to its inputs, given those of its results."""
    size = scalar.shape[1]
    grad_scalar[:] = grad_new_scalar
    grad_vector[:] = grad_new_vector
    for i in range(len(scalar)):
        for h in range(size):
            grad_amounts[i, h] = grad_new_scalar[i, h]
        for h in range(size):
            grad_amounts[i, size + h] = grad_new_scalar[i, h] * products[i, h]
        for h in range(size):
            grad_products[i, h] = grad_new_scalar[i, h] * (amounts[i, size + h] + bias[size + h])
        grad_amounts[i, 2 * size :] = 0.0
        for k in range(3):
            for h in range(size):
                grad_amounts[i, 2 * size + h] += grad_new_vector[i, k, h] * u[i, k, h]
            for h in range(size):
                grad_u[i, k, h] = grad_new_vector[i, k, h] * (amounts[i, 2 * size + h] + bias[2 * size + h])
