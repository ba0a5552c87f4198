"""Exponentials in single precision for compiled loops, written so that they become vector instructions."""

from __future__ import annotations

import math

import numpy as np

from deepdft.compiled import compiled

__all__ = [
    "exponential",
    "radial_function",
    "sigmoid",
    "silu_and_slope",
    "smooth_end",
    "softplus",
    "softplus_and_slope",
]

# polynomials of least relative error: 2ˣ for |x| ≤ ½ (2e-9), and ln(1 + x) / x for 0 ≤ x ≤ 1 (5e-9)
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
"""The natural logarithm of two in two parts, the first of which is exact in single precision."""
BIAS, MANTISSA = np.int32(127), np.int32(23)
"""Bias of a float32's exponent, and number of bits below it."""


@compiled
def exponential(x: np.float32) -> np.float32:
    """eˣ for x ≤ 0."""
    power = max(x * LOG2_E, SMALLEST_POWER)
    whole = np.rint(power)
    f = power - whole
    of_rest = E0 + f * (E1 + f * (E2 + f * (E3 + f * (E4 + f * (E5 + f * E6)))))
    return of_rest * np.int32((np.int32(whole) + BIAS) << MANTISSA).view(np.float32)


@compiled
def smooth_end(squared: np.float32, reach: np.float32) -> np.float32:
    """Factor (1 - r²/reach²)³ from r², zero beyond the reach."""
    left = max(ONE - squared / (reach * reach), ZERO)
    return left * left * left


@compiled
def radial_function(exponent: np.float32, squared: np.float32, end: np.float32) -> np.float32:
    """exp(-α r²) (1 - r²/reach²)³ from r² and `smooth_end` of it (`nn.shells.radial_functions`)."""
    return exponential(-exponent * squared) * end


@compiled
def _log_of_one_and(x: np.float32) -> np.float32:
    """ln(1 + x) for 0 ≤ x ≤ 1."""
    return x * (L0 + x * (L1 + x * (L2 + x * (L3 + x * (L4 + x * (L5 + x * (L6 + x * (L7 + x * (L8 + x * L9)))))))))


@compiled
def sigmoid(x: np.float32) -> np.float32:
    """1 / (1 + e⁻ˣ)."""
    small = exponential(-abs(x))
    return (ONE if x >= ZERO else small) / (ONE + small)


@compiled
def softplus(x: np.float32) -> np.float32:
    """ln(1 + eˣ)."""
    return max(x, ZERO) + _log_of_one_and(exponential(-abs(x)))


@compiled
def softplus_and_slope(x: np.float32) -> tuple[np.float32, np.float32]:
    """ln(1 + eˣ) and its derivative, the sigmoid."""
    small = exponential(-abs(x))
    return max(x, ZERO) + _log_of_one_and(small), (ONE if x >= ZERO else small) / (ONE + small)


@compiled
def silu_and_slope(x: np.float32) -> tuple[np.float32, np.float32]:
    """x / (1 + e⁻ˣ) and its derivative."""
    share = sigmoid(x)
    return x * share, share + x * (share - share * share)
