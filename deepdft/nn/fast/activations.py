"""Compiled loops of `nn.activations`, in single precision: the bias is added and the slope comes with the value."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from deepdft.compiled import compiled
from deepdft.nn.fast.elementary import sigmoid, silu_and_slope, softplus, softplus_and_slope

__all__ = ["silu_in_place", "silu_with_slopes", "softplus_loops"]

Floats = NDArray[np.float32]


@compiled
def _softplus_in_place(shift: np.float32, x: Floats, bias: Floats) -> None:
    for i in range(len(x)):
        for h in range(len(bias)):
            x[i, h] = softplus(x[i, h] + bias[h]) - shift


@compiled
def _softplus_with_slopes(shift: np.float32, x: Floats, bias: Floats, value: Floats, slope: Floats) -> None:
    for i in range(len(x)):
        for h in range(len(bias)):
            result, slope[i, h] = softplus_and_slope(x[i, h] + bias[h])
            value[i, h] = result - shift


def softplus_loops(shift: float) -> tuple[Callable[..., None], Callable[..., None]]:
    """Loops for ln(1 + eˣ) - shift with a bias (H,): in place of x (n, H), and into values and slopes (n, H)."""
    return partial(_softplus_in_place, np.float32(shift)), partial(_softplus_with_slopes, np.float32(shift))


@compiled
def silu_in_place(x: Floats, bias: Floats) -> None:
    """Replace x (n, H) by g(x + bias) with g(y) = y / (1 + e⁻ʸ) and a bias (H,)."""
    for i in range(len(x)):
        for h in range(len(bias)):
            y = x[i, h] + bias[h]
            x[i, h] = y * sigmoid(y)


@compiled
def silu_with_slopes(x: Floats, bias: Floats, value: Floats, slope: Floats) -> None:
    """Fill in g(x + bias) and g'(x + bias), both (n, H)."""
    for i in range(len(x)):
        for h in range(len(bias)):
            value[i, h], slope[i, h] = silu_and_slope(x[i, h] + bias[h])
