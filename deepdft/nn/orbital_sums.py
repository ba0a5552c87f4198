"""Sums of atom-centred functions over edges, compiled, with derivatives of any order by their coefficients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deepdft.graph.batch import ProbeGraph
from deepdft.nn import orbital_edge_kernels
from deepdft.nn.arrays import arrays
from deepdft.nn.orbital_edge_kernels import Basis, Edges

__all__ = ["sums_at_edges"]


def sums_at_edges(coefficients: Tensor, basis: Basis, positions: Tensor, probes: ProbeGraph) -> Tensor:
    """Σ c R_n M_j of all atoms at probes: (n_probes, n_orbitals), single precision on the CPU.

    Args:
        coefficients: (n_atoms, n_radial, n_monomials, n_orbitals), c.
        basis: R_n and M_j.
        positions: (n_atoms, 3) of the atoms, Å.
        probes: the points, with edges from atoms.
    """
    edges = Edges(*arrays(positions, probes.positions, *probes.edge_index, probes.edge_shift))
    return _Sums.apply(coefficients, basis, edges)


class _Sums(torch.autograd.Function):
    """They are linear, so their derivative is the transposed map."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, basis: Basis, edges: Edges) -> Tensor:
        ctx.basis, ctx.edges = basis, edges
        orbitals = coefficients.new_zeros(len(edges.points), coefficients.shape[-1])
        orbital_edge_kernels.add_orbitals(basis, edges, *arrays(coefficients, orbitals))
        return orbitals

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _TransposedSums.apply(gradient, ctx.basis, ctx.edges), None, None


class _TransposedSums(torch.autograd.Function):
    """Whose derivative are the sums again."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, basis: Basis, edges: Edges) -> Tensor:
        ctx.basis, ctx.edges = basis, edges
        shape = len(edges.atom_positions), len(basis.exponents), len(basis.factors), gradient.shape[-1]
        by_coefficients = gradient.new_empty(shape)
        orbital_edge_kernels.fill_coefficient_derivatives(basis, edges, *arrays(gradient, by_coefficients))
        return by_coefficients

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Sums.apply(gradient, ctx.basis, ctx.edges), None, None
