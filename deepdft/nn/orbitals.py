"""Sums of atom-centred functions at many points, as matrix products.

For one atom, the values of its functions at the points around it are a matrix (points × functions), and all orbitals
there are this matrix times the atom's coefficients (functions × orbitals). So edges are sorted by atom and cut into
blocks of one atom each, and one batched product does all blocks. Narrow functions end close to the atom, where few
of the edges are: functions that end at about the same distance share a shell, and each shell takes its own edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from deepdft.graph.batch import ProbeGraph
from deepdft.nn.spherical import orders, solid_harmonics

__all__ = ["OrbitalBasis"]

DECAY_AT_REACH = 10.0
"""α reach²: a Gaussian has fallen to e⁻¹⁰ where it is cut, unless the model's cutoff comes first."""
SHELL_RATIO = 2.0
"""Radial functions whose reaches differ by less than this share a shell."""
LARGEST_BLOCK = 128
"""Edges of a block (measured on the CPU: 32 and 256 are slower)."""


@dataclass(frozen=True)
class _Shell:
    """Consecutive radial functions that end at the same distance."""

    radials: slice
    reach: float
    """Å."""


class OrbitalBasis(nn.Module):
    """Functions R_n(r) S_lm(r) with R_n = exp(-α_n r²) (1 - r²/reach_n²)³, and their sums over atoms.

    Everything is a smooth function of r² and a polynomial of x, y, z, twice differentiable at an atom and at the reach.
    Exponents α are learned; a reach is fixed by the exponent at the start and at most the cutoff.

    Args:
        n_radial: number of R_n.
        max_order: L, largest order l of S_lm.
        smallest_exponent: α of the widest Gaussian at the start, Å⁻²; the others follow in a geometric series.
        largest_exponent: α of the narrowest Gaussian at the start, Å⁻².
        cutoff: largest reach, Å.
    """

    order_of: Tensor

    def __init__(
        self, n_radial: int, *, max_order: int, smallest_exponent: float, largest_exponent: float, cutoff: float
    ) -> None:
        super().__init__()
        self.max_order = max_order
        exponents = np.geomspace(smallest_exponent, largest_exponent, n_radial)
        self.log_exponents = nn.Parameter(torch.from_numpy(np.log(exponents)).to(torch.get_default_dtype()))
        self.shells = _shells(np.sqrt(DECAY_AT_REACH / exponents).clip(max=cutoff).tolist())
        self.register_buffer("order_of", torch.tensor(orders(max_order)), persistent=False)

    def scale(self) -> Tensor:
        """(n_radial, (L + 1)²) factors after which all functions are equally large, root mean square over angles.

        r^l exp(-α r²) is largest at r² = l / 2α, and (l / 2αe)^(l/2) there.
        """
        order = self.order_of.to(self.log_exponents)
        log_largest = 0.5 * order * (order.clamp(min=1).log() - 1.0 - (2.0 * self.log_exponents.exp()).log()[:, None])
        return torch.exp(-log_largest)

    def forward(self, coefficients: Tensor, positions: Tensor, probes: ProbeGraph) -> Tensor:
        """Values of orbitals (n_probes, n_orbitals) at probes.

        Args:
            coefficients: (n_atoms, n_radial, (L + 1)², n_orbitals).
            positions: (n_atoms, 3) of the atoms, Å.
            probes: the points, with edges from all atoms within the cutoff.
        """
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
            functions = self._functions(vectors.index_select(0, edge.flatten()).unflatten(0, edge.shape), shell)
            of_atoms = coefficients[:, shell.radials].flatten(1, 2)  # (n_atoms, n_functions, n_orbitals)
            values = torch.bmm(functions.mT, of_atoms.index_select(0, atom))
            orbitals = orbitals.index_add(0, receiver.index_select(0, edge.flatten()), values.flatten(0, 1))
        return orbitals[:-1]

    def _functions(self, vectors: Tensor, shell: _Shell) -> Tensor:
        """R_n S_lm of a shell in blocks of edges: (n_blocks, n_functions, size) at vectors (n_blocks, size, 3)."""
        vectors = vectors.mT.contiguous()  # long rows of x, y and z
        squared = vectors.square().sum(dim=1, keepdim=True)  # (n_blocks, 1, size)
        exponents = self.log_exponents[shell.radials].exp()
        radial = torch.exp(-exponents[:, None] * squared) * (1.0 - squared / shell.reach**2) ** 3
        harmonics = solid_harmonics(vectors, self.max_order, dim=1)  # (n_blocks, (L + 1)², size)
        return (radial[:, :, None] * harmonics[:, None]).flatten(1, 2)


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


def _shells(reaches: list[float]) -> list[_Shell]:
    """Cut descending reaches where they have fallen by the ratio; a shell ends at the largest of its reaches."""
    shells, first = [], 0
    for n in range(1, len(reaches) + 1):
        if n == len(reaches) or reaches[n] * SHELL_RATIO <= reaches[first]:
            shells.append(_Shell(slice(first, n), reaches[first]))
            first = n
    return shells
