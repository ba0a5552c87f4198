"""Sums of atom-centred functions over edges, as matrix products.

For one atom, the values of its functions at the points around it are a matrix (points × functions), and all orbitals
there are this matrix times the atom's coefficients (functions × orbitals). So edges are sorted by atom and cut into
blocks of one atom each, and one batched product does all blocks. Narrow functions end close to the atom, where few
of the edges are: functions that end at about the same distance share a shell, and each shell takes its own edges.
The compiled twin (`nn.fast.orbital_edges`) does the same on the CPU and keeps nothing per edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deepdft.graph.batch import ProbeGraph
from deepdft.nn.fast import Operation, orbital_edges
from deepdft.nn.fast.arrays import arrays

if TYPE_CHECKING:
    from deepdft.nn.orbitals import OrbitalBasis

__all__ = ["sums_at_edges"]

MAX_BLOCK = 128
"""Edges per block (measured on the CPU: 32 and 256 are slower)."""


def sums_at_edges(coefficients: Tensor, positions: Tensor, probes: ProbeGraph, basis: OrbitalBasis) -> Tensor:
    """Sums Σ c R_n S_lm of all atoms at probes: (n_probes, n_orbitals).

    Args:
        coefficients: (n_atoms, n_radial, (L + 1)², n_orbitals), c.
        positions: (n_atoms, 3) of the atoms, Å.
        probes: the points, with edges from all atoms within the cutoff.
        basis: R_n and S_lm.
    """
    return _SUMS(coefficients, positions, probes, basis)


def _sums(coefficients: Tensor, positions: Tensor, probes: ProbeGraph, basis: OrbitalBasis) -> Tensor:
    sender, by_atom = probes.edge_index[0].sort(stable=True)
    receiver = probes.edge_index[1].index_select(0, by_atom)
    vectors = probes.edge_vectors(positions).index_select(0, by_atom)  # (n_edges, 3)
    squared = vectors.detach().square().sum(dim=-1)
    # padding is an edge of zero length to a probe that is dropped
    vectors = torch.cat([vectors, vectors.new_zeros(1, 3)])
    receiver = torch.cat([receiver, receiver.new_full((1,), probes.n_probes)])

    orbitals = vectors.new_zeros(probes.n_probes + 1, coefficients.shape[-1])
    for shell in basis.shells:
        within = (squared < shell.reach**2).nonzero().squeeze(-1)
        atom, edge = _blocks(sender.index_select(0, within), len(coefficients))
        edge = torch.cat([within, within.new_full((1,), len(squared))])[edge]  # (n_blocks, size)
        to_probes = vectors.index_select(0, edge.flatten()).unflatten(0, edge.shape)  # (n_blocks, size, 3)
        to_probes = to_probes.mT.contiguous()
        functions = basis.functions(basis.radial(to_probes.square().sum(dim=1, keepdim=True), shell), to_probes)
        of_atoms = coefficients[:, shell.radials].flatten(1, 2)  # (n_atoms, n_functions, n_orbitals)
        values = torch.bmm(functions.mT, of_atoms.index_select(0, atom))
        values = values.flatten(0, 1).to(orbitals.dtype)  # products may have been computed in half precision
        orbitals = orbitals.index_add(0, receiver.index_select(0, edge.flatten()), values)
    return orbitals[:-1]


def _blocks(atom_of_edge: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    """Cut edges into equally large blocks of one atom each.

    Args:
        atom_of_edge: (n_edges,) int64, ascending.
        n_atoms: number of atoms.

    Returns:
        The atom (n_blocks,) of each block, and its edges (n_blocks, size); what is left of a block is n_edges.
    """
    n_edges, device = len(atom_of_edge), atom_of_edge.device
    size = min(MAX_BLOCK, max(1, n_edges // max(1, n_atoms)))
    counts = torch.bincount(atom_of_edge, minlength=n_atoms)
    n_blocks = (counts + size - 1) // size
    atom = torch.arange(n_atoms, device=device).repeat_interleave(n_blocks)
    first_place, first_edge = (n_blocks.cumsum(0) - n_blocks) * size, counts.cumsum(0) - counts
    edges = torch.arange(n_edges, device=device)
    places = edges + (first_place - first_edge).index_select(0, atom_of_edge)
    return atom, torch.full((len(atom) * size,), n_edges, device=device).index_copy(0, places, edges).view(-1, size)


def _applies(coefficients: Tensor, positions: Tensor, probes: ProbeGraph, basis: OrbitalBasis) -> bool:
    return basis.has_fast_edges(positions, probes.positions, probes.edge_shift)


def _edges(positions: Tensor, probes: ProbeGraph) -> orbital_edges.Edges:
    return orbital_edges.Edges(*arrays(positions, probes.positions, *probes.edge_index, probes.edge_shift))


def _compiled_basis(basis: OrbitalBasis) -> orbital_edges.Basis:
    begins = torch.tensor([*(shell.radials.start for shell in basis.shells), len(basis.exponents)])
    return orbital_edges.Basis(*arrays(basis.exponents, basis.reaches, begins, basis.factors))


def _sums_in_one_pass(coefficients: Tensor, positions: Tensor, probes: ProbeGraph, basis: OrbitalBasis) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        of_monomials = basis.monomials.T @ coefficients.to(positions.dtype)
    orbitals = positions.new_zeros(probes.n_probes, coefficients.shape[-1])
    orbital_edges.add_orbitals(_compiled_basis(basis), _edges(positions, probes), *arrays(of_monomials, orbitals))
    return orbitals


def _sums_gradients(inputs: Sequence[Any], kept: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor | None]:
    coefficients, positions, probes, basis = inputs
    n_atoms, n_radial, _, n_orbitals = coefficients.shape
    grad_monomials = positions.new_empty(n_atoms, n_radial, len(basis.factors), n_orbitals)
    orbital_edges.fill_coefficient_gradients(
        _compiled_basis(basis), _edges(positions, probes), *arrays(gradients[0], grad_monomials)
    )
    return [(basis.monomials @ grad_monomials).to(coefficients.dtype), None, None, None]


_SUMS = Operation(_sums, _applies, _sums_in_one_pass, _sums_gradients)
