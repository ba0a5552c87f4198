"""Real solid and spherical harmonics as polynomials in x, y, z.

Normalised so that the mean over the sphere of Y_i Y_j is δ_ij: Y_00 = 1, and Σ_m Y_lm² = 2l + 1 on the sphere. The
(L + 1)² functions of orders l = 0…L are in the order l, then m = -l…l; those of l = 1 are √3 (y, z, x).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["MAX_ORDER", "orders", "solid_harmonics"]

MAX_ORDER = 4
"""The largest l that is written out."""


def orders(max_order: int) -> list[int]:
    """The order l of each of the (L + 1)² harmonics."""
    return [order for order in range(max_order + 1) for _ in range(2 * order + 1)]


def solid_harmonics(vectors: Tensor, max_order: int) -> Tensor:
    """r^l Y_lm of all orders up to `max_order`; on unit vectors they are the spherical harmonics Y_lm.

    They are polynomials, so derivatives of any order exist everywhere, the origin included.

    Args:
        vectors: (…, 3).
        max_order: L, at most 4.

    Returns:
        (…, (L + 1)²).

    Raises:
        ValueError: if the order is not among those written out.
    """
    if not 0 <= max_order <= MAX_ORDER:
        raise ValueError(f"harmonics are written out for orders 0 to {MAX_ORDER}, got {max_order}")
    x, y, z = vectors.unbind(dim=-1)
    squares = x * x, y * y, z * z
    functions = [torch.ones_like(x)]
    for written_out in (_order_1, _order_2, _order_3, _order_4)[:max_order]:
        functions += written_out(x, y, z, *squares)
    return torch.stack(functions, dim=-1)


def _order_1(x: Tensor, y: Tensor, z: Tensor, *_: Tensor) -> list[Tensor]:
    return [math.sqrt(3) * component for component in (y, z, x)]


def _order_2(x: Tensor, y: Tensor, z: Tensor, xx: Tensor, yy: Tensor, zz: Tensor) -> list[Tensor]:
    a = math.sqrt(15)
    return [
        a * x * y,
        a * y * z,
        math.sqrt(5) / 2 * (2 * zz - xx - yy),
        a * x * z,
        a / 2 * (xx - yy),
    ]


def _order_3(x: Tensor, y: Tensor, z: Tensor, xx: Tensor, yy: Tensor, zz: Tensor) -> list[Tensor]:
    a, b, c = math.sqrt(35 / 8), math.sqrt(105), math.sqrt(21 / 8)
    return [
        a * y * (3 * xx - yy),
        b * x * y * z,
        c * y * (4 * zz - xx - yy),
        math.sqrt(7) / 2 * z * (2 * zz - 3 * (xx + yy)),
        c * x * (4 * zz - xx - yy),
        b / 2 * z * (xx - yy),
        a * x * (xx - 3 * yy),
    ]


def _order_4(x: Tensor, y: Tensor, z: Tensor, xx: Tensor, yy: Tensor, zz: Tensor) -> list[Tensor]:
    a, b, c, d = (1.5 * math.sqrt(square) for square in (35, 35 / 2, 5, 5 / 2))
    rr = xx + yy + zz
    return [
        a * x * y * (xx - yy),
        b * y * z * (3 * xx - yy),
        c * x * y * (7 * zz - rr),
        d * y * z * (7 * zz - 3 * rr),
        3 / 8 * (35 * zz * zz - 30 * zz * rr + 3 * rr * rr),
        d * x * z * (7 * zz - 3 * rr),
        c / 2 * (xx - yy) * (7 * zz - rr),
        b * x * z * (xx - 3 * yy),
        a / 4 * (xx * (xx - 3 * yy) - yy * (3 * xx - yy)),
    ]
