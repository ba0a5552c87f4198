"""Sums of atom-centred functions at points in compact blocks: every atom at every point, without edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deepdft.graph.blocks import Block, Blocks
from deepdft.nn.fast import Operation, enabled, orbital_blocks, single_on_cpu
from deepdft.nn.fast.arrays import arrays
from deepdft.nn.shells import Shell
from deepdft.nn.spherical import solid_harmonics, translated_harmonics

if TYPE_CHECKING:
    from deepdft.nn.orbitals import OrbitalBasis

__all__ = ["radial_about", "sums_in_blocks", "with_harmonics"]

NARROW = 1.1
"""Å, reach below which harmonics about an atom are not expanded about another point, for lack of precision.

Measured with a shell that ends at 1.05 Å: 1e-6 of the largest density, and 1e-5 if it is moved.
"""


def sums_in_blocks(coefficients: Tensor, blocks: Blocks, basis: OrbitalBasis) -> Tensor:
    """Sums Σ c R_n S_lm of all atoms at points close together, (n_points, n_orbitals).

    Solid harmonics about an atom are sums of those about the middle of the block, S_i(r - a) = Σ_j T_ij(a) S_j(r).
    So c is turned into coefficients of the latter, summed over atoms by one product with the radial functions at
    all points, and the harmonics are left to be evaluated once for all atoms.

    Args:
        coefficients: (n_atoms, n_radial, (L + 1)², n_orbitals).
        blocks: the points.
        basis: R_n and S_lm.

    Returns:
        (n_points, n_orbitals), block after block.
    """
    n_functions, n_orbitals = coefficients.shape[-2:]
    harmonics = solid_harmonics(blocks.points.T, basis.l_max, dim=0)  # (n_functions, n_points)
    turned = translated_harmonics(blocks.atom_positions, basis.l_max).mT[:, None]
    counts = np.stack([blocks.counts_within(shell.reach) for shell in basis.shells], axis=1).tolist()

    zeros = _scratch(blocks.points)

    def values(block: Block, within: list[int]) -> Tensor:
        atom, positions = blocks.atom[block.images], blocks.atom_positions[block.images]
        points = blocks.points[block.points].T.contiguous()  # along rows, with which products are a third faster
        sums = zeros(n_functions * n_orbitals, points.shape[1])
        narrow = points.new_zeros(n_orbitals, points.shape[1])
        for shell, n_within in zip(basis.shells, within, strict=True):
            if n_within == 0:
                break  # the following shells end closer
            of_atoms = coefficients[:, shell.radials].index_select(0, atom[:n_within]).to(points.dtype)
            radial = radial_about(positions[:n_within], points, shell, basis)
            if shell.reach < NARROW:
                functions = basis.functions(radial, points - positions[:n_within, :, None])
                narrow.addmm_(of_atoms.flatten(0, 2).T, functions.flatten(0, 1))
            else:
                of_middle = (turned[block.images][:n_within] @ of_atoms).to(points.dtype)  # (n_within, n_radial, …)
                sums.addmm_(of_middle.flatten(2).flatten(0, 1).T, radial.flatten(0, 1))
        sums = sums.unflatten(0, (n_functions, n_orbitals))
        return with_harmonics(sums, harmonics[:, block.points], narrow).T

    return torch.cat([values(*item) for item in zip(blocks, counts, strict=True)])


def _radial_about(positions: Tensor, points: Tensor, shell: Shell, basis: OrbitalBasis) -> Tensor:
    """Radial functions R_n of a shell (n_positions, n_radial, n_points), at points (3, n_points)."""
    return basis.radial(_squared_distances(positions, points)[:, None], shell)


def _radial_about_in_one_pass(positions: Tensor, points: Tensor, shell: Shell, basis: OrbitalBasis) -> Tensor:
    exponents = basis.exponents[shell.radials]
    values = points.new_empty(len(positions), len(exponents), points.shape[1])
    orbital_blocks.radial_functions(np.float32(shell.reach), *arrays(positions, points, exponents, values))
    return values


radial_about = Operation(
    _radial_about,
    lambda positions, points, shell, basis: (
        basis.compiled and single_on_cpu(points) and not basis.exponents.requires_grad
    ),
    _radial_about_in_one_pass,
)


def _with_harmonics(sums: Tensor, harmonics: Tensor, rest: Tensor) -> Tensor:
    """Sum rest + Σ_j sums_j ⊙ harmonics_j (n_orbitals, n_points); `rest` may be overwritten.

    Args:
        sums: (n_functions, n_orbitals, n_points).
        harmonics: (n_functions, n_points).
        rest: (n_orbitals, n_points).
    """
    return rest + (sums * harmonics[:, None]).sum(dim=0)


def _with_harmonics_in_one_pass(sums: Tensor, harmonics: Tensor, rest: Tensor) -> Tensor:
    orbital_blocks.add_harmonics_times_sums(*arrays(sums, harmonics, rest))
    return rest


with_harmonics = Operation(
    _with_harmonics,
    lambda sums, harmonics, rest: single_on_cpu(rest) and not torch.is_grad_enabled(),
    _with_harmonics_in_one_pass,
)


def _squared_distances(positions: Tensor, points: Tensor) -> Tensor:
    """r² (n_positions, n_points) of points (3, n_points), from differences, which are exact for small r."""
    x, y, z = ((coordinate - own[:, None]).square() for coordinate, own in zip(points, positions.T, strict=True))
    return x + y + z


def _scratch(like: Tensor) -> Callable[[int, int], Tensor]:
    """Function that makes zeros in reused memory, unless a gradient needs them: fresh memory takes longer."""
    if torch.is_grad_enabled() or not (enabled() and single_on_cpu(like)):
        return like.new_zeros
    memory = like.new_empty(0)

    def zeros(rows: int, columns: int) -> Tensor:
        nonlocal memory
        if len(memory) < rows * columns:
            memory = like.new_empty(rows * columns)
        return memory[: rows * columns].view(rows, columns).zero_()

    return zeros
