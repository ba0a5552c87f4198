"""Soft-plus, ln(1 + eˣ), in single precision on the CPU: one pass, where torch takes three to five times as long."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from deepdft.nn.compiled import compiled
from deepdft.nn.threads import in_parallel

__all__ = ["softplus", "softplus_and_slope", "softplus_value"]

Floats = NDArray[np.float32]

SMALLEST_PIECE = 100_000
"""Numbers for which a thread of their own pays (some 0.1 ms)."""
LARGEST_IN_DOUBLE = 40.0
"""Above which ln(1 + eˣ) is x, also in double precision."""

# polynomials of the least relative error: 2ˣ for |x| ≤ ½ (2e-9), and ln(1 + x) / x for 0 ≤ x ≤ 1 (5e-9)
E0, E1, E2, E3, E4, E5, E6 = np.array(
    [1.0, 0.693147206, 0.240226469, 0.0555032878, 0.00961848898, 0.00133999316, 0.000153458079], np.float32
)
L0, L1, L2, L3, L4, L5, L6, L7, L8, L9 = np.array(
    [
        1.0,
        -0.49999902,
        0.33329962,
        -0.24954133,
        0.19675934,
        -0.15305575,
        0.10603623,
        -0.05695921,
        0.01985128,
        -0.00324398,
    ],
    np.float32,
)
ZERO, ONE, LOG2_E = np.float32(0.0), np.float32(1.0), np.float32(math.log2(math.e))
SMALLEST_POWER = np.float32(-126.0)
"""Of two, that single precision has in full."""
BIAS, MANTISSA = np.int32(127), np.int32(23)
"""What a float32's exponent is stored with, and the bits below it."""


def softplus(x: Tensor, shift: float = 0.0) -> Tensor:
    """ln(1 + eˣ) - shift, element by element, differentiable twice."""
    if x.device.type == "cpu" and x.dtype == torch.float32:
        return _Softplus.apply(x, shift)
    return functional.softplus(x, threshold=LARGEST_IN_DOUBLE) - shift


class _Softplus(torch.autograd.Function):
    """The slope comes with the value: both are made of e^-|x|."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: float) -> Tensor:
        value = torch.empty_like(x, memory_format=torch.contiguous_format)
        if not ctx.needs_input_grad[0]:
            _in_pieces(_without_slope, x, shift, value)
            return value
        slope = torch.empty_like(value)
        _in_pieces(_with_slope, x, shift, value, slope)
        ctx.save_for_backward(x, slope)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, slope = ctx.saved_tensors
        # with gradients: a second derivative is wanted
        return gradient * (x.sigmoid() if torch.is_grad_enabled() else slope), None


def _in_pieces(kernel: Any, x: Tensor, shift: float, *results: Tensor) -> None:
    source, number = x.detach().contiguous().view(-1).numpy(), np.float32(shift)
    targets = [result.view(-1).numpy() for result in results]
    count = min(torch.get_num_threads(), max(1, len(source) // SMALLEST_PIECE))
    pieces = [slice(*bounds) for bounds in pairwise(len(source) * piece // count for piece in range(count + 1))]
    in_parallel(lambda piece: kernel(source[piece], number, *(target[piece] for target in targets)), pieces)


@compiled
def _exponential(x: np.float32) -> np.float32:
    """eˣ for x ≤ 0."""
    power = max(x * LOG2_E, SMALLEST_POWER)
    whole = np.rint(power)
    f = power - whole
    of_rest = E0 + f * (E1 + f * (E2 + f * (E3 + f * (E4 + f * (E5 + f * E6)))))
    return of_rest * np.int32((np.int32(whole) + BIAS) << MANTISSA).view(np.float32)


@compiled
def _log_of_one_and(x: np.float32) -> np.float32:
    """ln(1 + x) for 0 ≤ x ≤ 1."""
    return x * (L0 + x * (L1 + x * (L2 + x * (L3 + x * (L4 + x * (L5 + x * (L6 + x * (L7 + x * (L8 + x * L9)))))))))


@compiled
def softplus_value(x: np.float32) -> np.float32:
    """ln(1 + eˣ), in a compiled loop."""
    return max(x, ZERO) + _log_of_one_and(_exponential(-abs(x)))


@compiled
def softplus_and_slope(x: np.float32) -> tuple[np.float32, np.float32]:
    """ln(1 + eˣ) and its derivative, in a compiled loop."""
    small = _exponential(-abs(x))
    return max(x, ZERO) + _log_of_one_and(small), (ONE if x >= ZERO else small) / (ONE + small)


@compiled
def _without_slope(x: Floats, shift: np.float32, value: Floats) -> None:
    for i in range(len(x)):
        value[i] = softplus_value(x[i]) - shift


@compiled
def _with_slope(x: Floats, shift: np.float32, value: Floats, slope: Floats) -> None:
    for i in range(len(x)):
        result, slope[i] = softplus_and_slope(x[i])
        value[i] = result - shift
