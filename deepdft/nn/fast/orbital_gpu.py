"""Densities from orbitals at blocks of points on a GPU: one kernel of Triton, in which nothing per edge is kept.

Each program takes one block of points and goes through the atom images near it. R_n of all points are a matrix
(points × n), the coefficients of one monomial x^a y^b z^c another (n × orbitals), and their products are added up.
Solid harmonics are written as monomials, which are nested products that need no table.

Triton comes with torch for Linux and NVIDIA; this module is imported where there is such a GPU.
"""

from __future__ import annotations

import warnings
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["BLOCK", "density_of_blocks", "works_on"]

BLOCK = 64
"""Points per program."""
SMALLEST_SIDE = 16
"""Smallest size of matrices that tensor cores multiply."""


@cache
def works_on(device: torch.device) -> bool:
    """Whether a GPU has the instructions used here, and Triton can compile for it, which takes a C compiler."""
    if torch.version.hip is not None or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    ones = torch.ones(SMALLEST_SIDE, device=device)
    try:
        density_of_blocks(
            torch.zeros(BLOCK, 3, device=device),
            torch.tensor([0, 1], device=device),
            torch.zeros(1, dtype=torch.int64, device=device),
            torch.zeros(1, 3, device=device),
            torch.zeros(1, 1, SMALLEST_SIDE, SMALLEST_SIDE, device=device),
            *[ones] * 2,
            *[ones[None]] * 2,
            l_max=0,
        )
    except Exception as error:  # a compiler may raise anything
        warnings.warn(f"Triton cannot compile for {device}, so predictions are slower there: {error}", stacklevel=2)
        return False
    return True


def density_of_blocks(
    points: Tensor,
    image_offsets: Tensor,
    atom: Tensor,
    atom_positions: Tensor,
    coefficients: Tensor,
    exponents: Tensor,
    reaches: Tensor,
    linear: Tensor,
    signs: Tensor,
    *,
    l_max: int,
) -> Tensor:
    """Density Σ_k linear_ck φ_k + signs_ck φ_k² at points (n_blocks × BLOCK, n_channels), single precision.

    Args:
        points: (n_blocks × BLOCK, 3) Å.
        image_offsets: (n_blocks + 1,) int64, where each block's images start.
        atom: (n_near,) int64, row of `coefficients` for each image.
        atom_positions: (n_near, 3) Å, relative to the same place as the block's points.
        coefficients: (n_atoms, n_monomials, n_radial, n_orbitals), of the monomials in the order of `monomials`.
        exponents: (n_radial,) Å⁻².
        reaches: (n_radial,) Å.
        linear: (n_channels, n_orbitals).
        signs: (n_channels, n_orbitals).
        l_max: L.
    """
    n_radial, n_orbitals = coefficients.shape[2:]
    density = points.new_empty(len(points), len(linear))
    padded = [max(SMALLEST_SIDE, triton.next_power_of_2(n)) for n in (n_radial, n_orbitals)]
    with torch.cuda.device_of(points):  # Triton uses the current GPU
        _density[(len(image_offsets) - 1,)](
            *(one.contiguous() for one in (points, image_offsets, atom, atom_positions, coefficients)),
            *(one.contiguous() for one in (exponents, reaches.square().reciprocal(), linear, signs)),
            density,
            n_radial,
            n_orbitals,
            coefficients.shape[1],
            len(linear),
            L=l_max,
            POINTS=BLOCK,
            N=padded[0],
            K=padded[1],
        )
    return density


@triton.jit
def _density(
    points,
    image_offsets,
    atom,
    atom_positions,
    coefficients,
    exponents,
    inverse_squares,
    linear,
    signs,
    density,
    n_radial,
    n_orbitals,
    n_monomials,
    n_channels,
    L: tl.constexpr,
    POINTS: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
):
    block = tl.program_id(0)
    own = block.to(tl.int64) * POINTS + tl.arange(0, POINTS)
    x, y, z = tl.load(points + 3 * own), tl.load(points + 3 * own + 1), tl.load(points + 3 * own + 2)
    n, k = tl.arange(0, N), tl.arange(0, K)
    exponent = tl.load(exponents + n, mask=n < n_radial, other=0.0)[None, :]
    inverse_square = tl.load(inverse_squares + n, mask=n < n_radial, other=0.0)[None, :]
    at = n[:, None] * n_orbitals + k[None, :]
    inside = (n[:, None] < n_radial) & (k[None, :] < n_orbitals)

    orbitals = tl.zeros((POINTS, K), dtype=tl.float32)
    for image in range(tl.load(image_offsets + block), tl.load(image_offsets + block + 1)):
        dx = x - tl.load(atom_positions + 3 * image)
        dy = y - tl.load(atom_positions + 3 * image + 1)
        dz = z - tl.load(atom_positions + 3 * image + 2)
        squared = (dx * dx + dy * dy + dz * dz)[:, None]
        end = tl.maximum(1.0 - squared * inverse_square, 0.0)
        radial = tl.exp(-exponent * squared) * end * end * end  # (POINTS, N)
        of_monomial = coefficients + tl.load(atom + image) * n_monomials * n_radial * n_orbitals + at
        of_x = radial
        for a in tl.static_range(L + 1):
            of_xy = of_x
            for b in tl.static_range(L + 1 - a):
                function = of_xy
                for _ in tl.static_range(L + 1 - a - b):
                    values = tl.load(of_monomial, mask=inside, other=0.0)
                    orbitals = tl.dot(function, values, orbitals, input_precision="tf32x3")
                    of_monomial += n_radial * n_orbitals
                    function *= dz[:, None]
                of_xy *= dy[:, None]
            of_x *= dx[:, None]
    for channel in range(n_channels):
        weight = tl.load(linear + channel * n_orbitals + k, mask=k < n_orbitals, other=0.0)[None, :]
        sign = tl.load(signs + channel * n_orbitals + k, mask=k < n_orbitals, other=0.0)[None, :]
        tl.store(density + own * n_channels + channel, tl.sum(orbitals * (weight + sign * orbitals), axis=1))
