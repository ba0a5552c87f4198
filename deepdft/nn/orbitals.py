"""Sums of atom-centred functions at many points, as matrix products.

For one atom, the values of its functions at the points around it are a matrix (points × functions), and all orbitals
there are this matrix times the atom's coefficients (functions × orbitals). So edges are sorted by atom and cut into
blocks of one atom each, and one batched product does all blocks. Narrow functions end close to the atom, where few
of the edges are: functions that end at about the same distance share a shell, and each shell takes its own edges.
On the CPU, where nothing but coefficients wants derivatives, compiled loops do the same and keep nothing per edge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from deepdft.graph.batch import ProbeGraph, Structures
from deepdft.graph.blocks import Block, Blocks
from deepdft.graph.on_device import point_blocks
from deepdft.nn import block_kernels
from deepdft.nn.arrays import arrays
from deepdft.nn.orbital_edge_kernels import Basis
from deepdft.nn.orbital_sums import sums_at_edges
from deepdft.nn.shells import Shell, orthogonal, shells
from deepdft.nn.spherical import (
    harmonics_as_monomials,
    monomial_factors,
    orders,
    solid_harmonics,
    translated_harmonics,
)

__all__ = ["OrbitalBasis"]

NARROW = 1.1
"""Å; harmonics about an atom as sums of those about a place some Å away are not exact enough within such a reach.

Measured with a shell that ends at 1.05 Å: 1e-6 of the largest density, and 1e-5 if it is moved.
"""
LARGEST_BLOCK = 128
"""Edges of a block (measured on the CPU: 32 and 256 are slower)."""


class OrbitalBasis(nn.Module):
    """Functions R_n(r) S_lm(r) with R_n = exp(-α_n r²) (1 - r²/reach_n²)³, and their sums over atoms.

    Everything is a smooth function of r² and a polynomial of x, y, z, twice differentiable at an atom and at the reach.

    Args:
        n_radial: number of R_n.
        max_order: L, largest order l of S_lm.
        smallest_exponent: α of the widest Gaussian, Å⁻²; the others follow in a geometric series.
        largest_exponent: α of the narrowest Gaussian, Å⁻².
        cutoff: largest reach, Å.
    """

    compiled: ClassVar[bool] = True
    """Whether compiled loops are of these R_n; a class with others, in its `_radial`, says False."""

    exponents: Tensor
    reaches: Tensor
    order_of: Tensor
    mixing: Tensor
    monomials: Tensor
    factors: Tensor

    def __init__(
        self, n_radial: int, *, max_order: int, smallest_exponent: float, largest_exponent: float, cutoff: float
    ) -> None:
        super().__init__()
        self.max_order = max_order
        exponents = np.geomspace(smallest_exponent, largest_exponent, n_radial)
        self.shells = shells(exponents, cutoff)
        reaches = np.concatenate([np.full(len(exponents[shell.radials]), shell.reach) for shell in self.shells])
        mixing = np.stack([orthogonal(exponents, reaches, order) for order in range(max_order + 1)])
        monomials = harmonics_as_monomials(max_order).numpy()
        constants = {"exponents": exponents, "reaches": reaches, "mixing": mixing, "monomials": monomials}
        for name, values in constants.items():
            self.register_buffer(name, torch.from_numpy(values).to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("order_of", torch.tensor(orders(max_order)), persistent=False)
        self.register_buffer("factors", monomial_factors(max_order), persistent=False)

    @property
    def reach(self) -> float:
        """Å, beyond which all functions are zero."""
        return self.shells[0].reach

    def mixed(self, amplitudes: Tensor) -> Tensor:
        """Coefficients of R_n S_lm from amplitudes of nearly orthogonal combinations of them.

        Neighbouring Gaussians are nearly the same function, so a small change of the density can be a large one of
        their coefficients. A network finds amplitudes much faster.

        Args:
            amplitudes: (n_atoms, (L + 1)², n_radial, n_orbitals).

        Returns:
            (n_atoms, n_radial, (L + 1)², n_orbitals).
        """
        return (self.mixing.index_select(0, self.order_of) @ amplitudes).transpose(1, 2)

    def forward(self, coefficients: Tensor, positions: Tensor, probes: ProbeGraph) -> Tensor:
        """Values of orbitals (n_probes, n_orbitals) at probes.

        Args:
            coefficients: (n_atoms, n_radial, (L + 1)², n_orbitals).
            positions: (n_atoms, 3) of the atoms, Å.
            probes: the points, with edges from all atoms within the cutoff.
        """
        if self.has_fast_edges(positions, probes.positions, probes.edge_shift):
            of_monomials = (self.monomials.T @ coefficients).to(positions.dtype)
            return sums_at_edges(of_monomials, Basis(*arrays(*self._constants())), positions, probes)
        return self._at_edges(coefficients, positions, probes)

    def has_fast_edges(self, *places: Tensor) -> bool:
        """Whether sums over edges are compiled loops: on a CPU, in single precision, without derivatives by these."""
        fixed = *places, self.exponents
        derivatives = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in fixed)
        return self.compiled and not derivatives and all(map(_single_on_cpu, fixed))

    def _constants(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What compiled sums take of this basis."""
        begins = [*(shell.radials.start for shell in self.shells), len(self.exponents)]
        return self.exponents, self.reaches, torch.tensor(begins), self.factors

    def _at_edges(self, coefficients: Tensor, positions: Tensor, probes: ProbeGraph) -> Tensor:
        """`forward` in torch's words: on a GPU, in double precision, where positions or exponents want derivatives."""
        sender, by_atom = probes.edge_index[0].sort(stable=True)
        receiver = probes.edge_index[1].index_select(0, by_atom)
        vectors = probes.edge_vectors(positions).index_select(0, by_atom)  # (n_edges, 3)
        squared = vectors.detach().square().sum(dim=-1)
        # what is left of a block holds an edge of no length to a probe that is dropped
        vectors = torch.cat([vectors, vectors.new_zeros(1, 3)])
        receiver = torch.cat([receiver, receiver.new_full((1,), probes.n_probes)])

        orbitals = vectors.new_zeros(probes.n_probes + 1, coefficients.shape[-1])
        for shell in self.shells:
            within = (squared < shell.reach**2).nonzero().squeeze(-1)
            atom, edge = _blocks(sender.index_select(0, within), len(coefficients))
            edge = torch.cat([within, within.new_full((1,), len(squared))])[edge]  # (n_blocks, size)
            to_probes = vectors.index_select(0, edge.flatten()).unflatten(0, edge.shape)  # (n_blocks, size, 3)
            to_probes = to_probes.mT.contiguous()
            functions = self._functions(self._radial(to_probes.square().sum(dim=1, keepdim=True), shell), to_probes)
            of_atoms = coefficients[:, shell.radials].flatten(1, 2)  # (n_atoms, n_functions, n_orbitals)
            values = torch.bmm(functions.mT, of_atoms.index_select(0, atom))
            values = values.flatten(0, 1).to(orbitals.dtype)  # products may have been made in half precision
            orbitals = orbitals.index_add(0, receiver.index_select(0, edge.flatten()), values)
        return orbitals[:-1]

    def in_blocks(self, coefficients: Tensor, blocks: Blocks) -> Tensor:
        """The same for points close together: every atom at every point, without edges.

        Solid harmonics about an atom are sums of those about the middle of the block, S_i(r - a) = Σ_j T_ij(a) S_j(r).
        So c is turned into coefficients of the latter, summed over atoms by one product with the radial functions at
        all points, and the harmonics are left to be evaluated once for all atoms.

        Args:
            coefficients: (n_atoms, n_radial, (L + 1)², n_orbitals).
            blocks: the points.

        Returns:
            (n_points, n_orbitals), block after block.
        """
        n_functions, n_orbitals = coefficients.shape[-2:]
        harmonics = solid_harmonics(blocks.points.T, self.max_order, dim=0)  # (n_functions, n_points)
        turned = translated_harmonics(blocks.atom_positions, self.max_order).mT[:, None]
        counts = np.stack([blocks.counts_within(shell.reach) for shell in self.shells], axis=1).tolist()

        zeros = _scratch(blocks.points)

        def values(block: Block, within: list[int]) -> Tensor:
            atom, positions = blocks.atom[block.near], blocks.atom_positions[block.near]
            points = blocks.points[block.points].T.contiguous()  # along rows: products are a third faster
            sums = zeros(n_functions * n_orbitals, points.shape[1])
            narrow = points.new_zeros(n_orbitals, points.shape[1])
            for shell, n_within in zip(self.shells, within, strict=True):
                if n_within == 0:
                    break  # the shells that follow end closer
                of_atoms = coefficients[:, shell.radials].index_select(0, atom[:n_within]).to(points.dtype)
                radial = self._radial_about(positions[:n_within], points, shell)
                if shell.reach < NARROW:
                    functions = self._functions(radial, points - positions[:n_within, :, None])
                    narrow.addmm_(of_atoms.flatten(0, 2).T, functions.flatten(0, 1))
                else:
                    of_middle = (turned[block.near][:n_within] @ of_atoms).to(points.dtype)  # (n_within, n_radial, …)
                    sums.addmm_(of_middle.flatten(2).flatten(0, 1).T, radial.flatten(0, 1))
            sums = sums.unflatten(0, (n_functions, n_orbitals))
            return _with_harmonics(sums, harmonics[:, block.points], narrow).T

        return torch.cat([values(*item) for item in zip(blocks, counts, strict=True)])

    def at_edges_of_blocks(self, coefficients: Tensor, blocks: Blocks) -> Tensor:
        """The same for points further apart: only atoms at points that they reach.

        Args:
            coefficients: (n_atoms, n_radial, (L + 1)², n_orbitals).
            blocks: the points.

        Returns:
            (n_points, n_orbitals), block after block.
        """
        near, point = blocks.pairs_within(self.reach)
        atoms, row = blocks.atom.unique(return_inverse=True)
        # positions are those of images, from the middle of their block: shifts of atoms at the origin
        probes = ProbeGraph(
            positions=blocks.points,
            structure=torch.zeros_like(blocks.index),
            edge_index=torch.stack([row.index_select(0, near), point]),
            edge_shift=blocks.atom_positions.index_select(0, near),
        )
        return self(coefficients.index_select(0, atoms), coefficients.new_zeros(len(atoms), 3), probes)

    def squares_on_gpu(
        self, coefficients: Tensor, structures: Structures, points: Tensor, linear: Tensor, signs: Tensor
    ) -> Tensor:
        """Σ_k linear_ck φ_k + signs_ck φ_k² at points of one structure, without edges and without derivatives.

        Args:
            coefficients: (n_atoms, n_radial, (L + 1)², n_orbitals), single precision on a GPU.
            structures: the one structure.
            points: (n_points, 3) Å, at least one.
            linear: (n_channels, n_orbitals).
            signs: (n_channels, n_orbitals).

        Returns:
            (n_points, n_channels).
        """
        from deepdft.nn.orbital_kernels import BLOCK, density_of_blocks  # needs Triton, which is not everywhere

        blocks = point_blocks(structures, points, self.reach, size=BLOCK)
        atoms, row = blocks.atom.unique(return_inverse=True)
        # in double precision, which neither autocast nor TF32 lowers
        near = coefficients.index_select(0, atoms).double()
        of_monomials = torch.einsum("anik,ij->ajnk", near, self.monomials.double()).to(structures.dtype)
        density = density_of_blocks(
            blocks.points,
            blocks.first_near,
            row,
            blocks.atom_positions,
            of_monomials,
            self.exponents,
            self.reaches,
            linear,
            signs,
            max_order=self.max_order,
        )
        return density.new_empty(len(points), len(linear)).index_copy(0, blocks.index, density)

    def _functions(self, radial: Tensor, vectors: Tensor) -> Tensor:
        """R_n S_lm (n, n_functions, size), from R_n (n, n_radial, size) and the vectors (n, 3, size) from the atoms."""
        return (radial[:, :, None] * solid_harmonics(vectors, self.max_order, dim=1)[:, None]).flatten(1, 2)

    def _radial_about(self, positions: Tensor, points: Tensor, shell: Shell) -> Tensor:
        """R_n of a shell (n_positions, n_radial, n_points) about positions (n_positions, 3) at points (3, n_points)."""
        if not (self.compiled and _in_one_pass(points)):
            return self._radial(_squared_distances(positions, points)[:, None], shell)
        exponents = self.exponents[shell.radials]
        values = points.new_empty(len(positions), len(exponents), points.shape[1])
        block_kernels.radial_functions(np.float32(shell.reach), *arrays(positions, points, exponents, values))
        return values

    def _radial(self, squared: Tensor, shell: Shell) -> Tensor:
        """R_n of a shell (n, n_radial, size), from r² (n, 1, size)."""
        end = (1.0 - squared / shell.reach**2).clamp(min=0.0) ** 3
        return torch.exp(-self.exponents[shell.radials, None] * squared) * end


def _single_on_cpu(tensor: Tensor) -> bool:
    """Whether compiled loops know what to do with it."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def _in_one_pass(tensor: Tensor) -> bool:
    """Whether compiled loops, which have no derivatives, do."""
    return not torch.is_grad_enabled() and _single_on_cpu(tensor)


def _scratch(like: Tensor) -> Callable[[int, int], Tensor]:
    """Makes zeros of some shape, each time in the same memory if no derivatives need it: fresh memory takes longer."""
    if not _in_one_pass(like):
        return like.new_zeros
    memory = like.new_empty(0)

    def zeros(rows: int, columns: int) -> Tensor:
        nonlocal memory
        if len(memory) < rows * columns:
            memory = like.new_empty(rows * columns)
        return memory[: rows * columns].view(rows, columns).zero_()

    return zeros


def _with_harmonics(sums: Tensor, harmonics: Tensor, rest: Tensor) -> Tensor:
    """rest + Σ_j sums_j ⊙ harmonics_j (n_orbitals, n_points); `rest` may become this.

    Args:
        sums: (n_functions, n_orbitals, n_points).
        harmonics: (n_functions, n_points).
        rest: (n_orbitals, n_points).
    """
    if not _in_one_pass(rest):
        return rest + (sums * harmonics[:, None]).sum(dim=0)
    block_kernels.add_harmonics_times_sums(*arrays(sums, harmonics, rest))
    return rest


def _squared_distances(positions: Tensor, points: Tensor) -> Tensor:
    """r² (n_positions, n_points) of points (3, n_points), from differences, which are exact where r is small."""
    x, y, z = ((coordinate - own[:, None]).square() for coordinate, own in zip(points, positions.T, strict=True))
    return x + y + z


def _blocks(atom_of_edge: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    """Cut edges into equally large blocks of one atom each.

    Args:
        atom_of_edge: (n_edges,) int64, ascending.
        n_atoms: number of atoms.

    Returns:
        The atom (n_blocks,) of each block, and its edges (n_blocks, size); what is left of a block is n_edges.
    """
    n_edges, device = len(atom_of_edge), atom_of_edge.device
    size = min(LARGEST_BLOCK, max(1, n_edges // max(1, n_atoms)))
    counts = torch.bincount(atom_of_edge, minlength=n_atoms)
    n_blocks = (counts + size - 1) // size
    atom = torch.arange(n_atoms, device=device).repeat_interleave(n_blocks)
    first_place, first_edge = (n_blocks.cumsum(0) - n_blocks) * size, counts.cumsum(0) - counts
    edges = torch.arange(n_edges, device=device)
    places = edges + (first_place - first_edge).index_select(0, atom_of_edge)
    return atom, torch.full((len(atom) * size,), n_edges, device=device).index_copy(0, places, edges).view(-1, size)
