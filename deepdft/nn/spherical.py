"""Real solid and spherical harmonics as polynomials in x, y, z.

Normalised so that the mean over the sphere of Y_i Y_j is δ_ij: Y_00 = 1, and Σ_m Y_lm² = 2l + 1 on the sphere. The
(L + 1)² functions of degrees l = 0…L are sorted by l, then by m = -l…l; those of l = 1 are √3 (y, z, x).
"""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "MAX_L",
    "degrees",
    "harmonics_as_monomials",
    "monomial_factors",
    "products_on_sphere",
    "solid_harmonics",
    "translated_harmonics",
]

MAX_L = 4
"""Largest degree l for which formulas are written out."""


def degrees(l_max: int) -> list[int]:
    """Degree l of each of the (L + 1)² harmonics."""
    return [degree for degree in range(l_max + 1) for _ in range(2 * degree + 1)]


def solid_harmonics(vectors: Tensor, l_max: int, *, dim: int = -1) -> Tensor:
    """Solid harmonics r^l Y_lm of all degrees up to `l_max`; on unit vectors they are the spherical harmonics Y_lm.

    They are polynomials, so derivatives of any order exist everywhere, the origin included.

    Args:
        vectors: (…, 3, …).
        l_max: L, at most 4.
        dim: where x, y and z are in `vectors`, and the harmonics in what is returned.

    Returns:
        (…, (L + 1)², …).

    Raises:
        ValueError: if the degree is not among those written out.
    """
    if not 0 <= l_max <= MAX_L:
        raise ValueError(f"harmonics are written out for degrees 0 to {MAX_L}, got {l_max}")
    x, y, z = vectors.unbind(dim=dim)
    functions = [torch.ones_like(x)]
    if l_max >= 1:
        functions += [y, z, x]
    if l_max >= 2:
        xx, yy, zz = x * x, y * y, z * z
        in_plane = xx + yy
        rr = in_plane + zz
        cos2, sin2 = xx - yy, x * y  # Re (x + iy)², Im (x + iy)² / 2
        functions += [sin2, y * z, 3 * zz - rr, x * z, cos2]
    if l_max >= 3:
        along = 5 * zz - rr
        cos3, sin3 = x * (cos2 - 2 * yy), y * (cos2 + 2 * xx)  # (x + iy)³
        functions += [sin3, sin2 * z, y * along, z * (along - 2 * rr), x * along, cos2 * z, cos3]
    if l_max >= 4:
        along = 7 * zz - rr
        flat = along - 2 * rr
        functions += [sin2 * cos2, sin3 * z, sin2 * along, y * z * flat]
        functions += [5 * zz * flat - 3 * rr * (5 * zz - rr), x * z * flat, cos2 * along, cos3 * z]
        functions += [cos2.square() - 4 * sin2.square()]
    norms = torch.tensor(_NORMS[: len(functions)], dtype=x.dtype, device=x.device)
    return torch.stack(functions, dim=dim) * norms.view(-1, *[1] * (vectors.ndim - 1 - dim % vectors.ndim))


def translated_harmonics(positions: Tensor, l_max: int) -> Tensor:
    """T with S_i(r - a) = Σ_j T_ij(a) S_j(r) at every r: solid harmonics about a, from those about the origin.

    Shifted harmonic polynomials are harmonic, so they are sums of the others, found from their values at as many
    places as there are functions.

    Args:
        positions: (n, 3), a.
        l_max: L, at most 4.

    Returns:
        (n, (L + 1)², (L + 1)²), of the positions' type; computed in double precision.
    """
    places, inverse = _places(l_max)
    places, inverse = places.to(positions.device), inverse.to(positions.device)
    shifted = solid_harmonics(places - positions.double()[:, :, None], l_max, dim=1)
    return (shifted @ inverse).to(positions.dtype)


def harmonics_as_monomials(l_max: int) -> Tensor:
    """M with S_i(r) = Σ_j M_ij x^a y^b z^c: solid harmonics as sums of monomials.

    Monomials j are those with a + b + c ≤ L, in the order of a, then b, then c.

    Args:
        l_max: L, at most 4.

    Returns:
        ((L + 1)², (L + 1)(L + 2)(L + 3) / 6) float64.
    """
    powers = _powers(l_max)
    generator = torch.Generator().manual_seed(0)
    places = torch.randn(4 * len(powers), 3, generator=generator, dtype=torch.float64)
    monomials = torch.stack([(places ** torch.tensor(power)).prod(dim=1) for power in powers], dim=1)
    return torch.linalg.lstsq(monomials, solid_harmonics(places, l_max)).solution.T


def monomial_factors(l_max: int) -> Tensor:
    """Factors of monomials: each is an earlier one times x, y or z.

    Args:
        l_max: L.

    Returns:
        (n_monomials, 2) int64: the one before it, and 0 for x, 1 for y, 2 for z; that of the first, which is 1, is
        without meaning.
    """
    powers = _powers(l_max)
    factors = [(0, 0)]
    for power in powers[1:]:
        last = max(c for c in range(3) if power[c] > 0)
        lower = tuple(p - (c == last) for c, p in enumerate(power))
        factors.append((powers.index(lower), last))
    return torch.tensor(factors)


def _powers(l_max: int) -> list[tuple[int, ...]]:
    """Exponents of x, y and z."""
    return [powers for powers in product(range(l_max + 1), repeat=3) if sum(powers) <= l_max]


def products_on_sphere(left: Tensor, right: Tensor, l_max: int) -> Tensor:
    """(Σ_i u_i Y_i)(Σ_j v_j Y_j) as a sum Σ_k w_k Y_k again, as far as degrees 1…L go.

    The sums are multiplied in directions from whose values a quadrature finds w exactly. This is the Clebsch–Gordan
    product of all pairs of degrees, as far as it keeps the parity of harmonics, at the cost of three matrix products.

    Args:
        left: (n, Σ(2l + 1), H), u of degrees 1…L.
        right: the same, v.
        l_max: L, at most 4.

    Returns:
        (n, Σ(2l + 1), H), w.

    Source: Gaunt tensor products, Luo et al. 2024 (arXiv 2401.10216).
    """
    values, coefficients = _quadrature(l_max, left.dtype, left.device)
    return coefficients @ ((values @ left) * (values @ right))


@cache
@torch.inference_mode(False)  # kept, also for who wants derivatives
def _quadrature(l_max: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Directions in which a function of degree 2L is known, and what makes coefficients of it.

    Gauss–Legendre along z and equal angles about it: exact for products of three harmonics.

    Returns:
        Y_lm of degrees 1…L in them (n_directions, Σ(2l + 1)); a matrix (Σ(2l + 1), n_directions).
    """
    degree = 3 * l_max
    z, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    angles = 2.0 * math.pi / (degree + 1) * np.arange(degree + 1)
    across = np.sqrt(1.0 - z**2)[:, None]
    directions = np.stack([across * np.cos(angles), across * np.sin(angles), z[:, None] + 0.0 * angles], axis=-1)
    values = solid_harmonics(torch.from_numpy(directions.reshape(-1, 3)), l_max)[:, 1:]
    shares = torch.from_numpy(np.repeat(0.5 * weights / len(angles), len(angles)))
    return values.to(device, dtype), (values * shares[:, None]).T.contiguous().to(device, dtype)


@cache
@torch.inference_mode(False)
def _places(l_max: int) -> tuple[Tensor, Tensor]:
    """Places (3, (L + 1)²) of lengths about one, and the inverse of the harmonics there."""
    size = (l_max + 1) ** 2
    drawn = torch.randn(3, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = drawn / drawn.norm(dim=0) * torch.linspace(0.6, 1.5, size, dtype=torch.float64)
    return places, torch.linalg.inv(solid_harmonics(places, l_max, dim=0))


_NORMS = [
    1.0,
    *[math.sqrt(square) for square in (3, 3, 3)],
    *[math.sqrt(square) for square in (15, 15, 5 / 4, 15, 15 / 4)],
    *[math.sqrt(square) for square in (35 / 8, 105, 21 / 8, 7 / 4, 21 / 8, 105 / 4, 35 / 8)],
    *[math.sqrt(square) * 3 / 2 for square in (35, 35 / 2, 5, 5 / 2, 1 / 16, 5 / 2, 5 / 4, 35 / 2, 35 / 16)],
]
"""Of the polynomials as they are written above."""
