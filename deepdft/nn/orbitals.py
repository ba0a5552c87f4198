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
        squared = vectors.square().sum(dim=-1)
        harmonics = solid_harmonics(vectors, self.max_order)  # (n_edges, (L + 1)²)

        orbitals = vectors.new_zeros(probes.n_probes, coefficients.shape[-1])
        for shell in self.shells:
            within = (squared < shell.reach**2).nonzero().squeeze(-1)
            blocks = _Blocks(sender.index_select(0, within), len(coefficients))
            functions = (
                self._radial(squared.index_select(0, within), shell)[:, :, None]
                * harmonics.index_select(0, within)[:, None, :]
            ).flatten(1)  # (n_within, n_functions of the shell)
            of_atoms = coefficients[:, shell.radials].flatten(1, 2)  # (n_atoms, n_functions, n_orbitals)
            values = blocks.of_edges(torch.bmm(blocks.padded(functions), of_atoms.index_select(0, blocks.atom)))
            orbitals = orbitals.index_add(0, receiver.index_select(0, within), values)
        return orbitals

    def _radial(self, squared: Tensor, shell: _Shell) -> Tensor:
        """(n_edges, radial functions of the shell) from r² (n_edges,) in Å²."""
        exponents = self.log_exponents[shell.radials].exp()
        return torch.exp(-squared[:, None] * exponents) * (1.0 - squared / shell.reach**2)[:, None] ** 3


class _Blocks:
    """Edges, sorted by atom, in equally large blocks of one atom each; what is left of a block is zero.

    Args:
        atom_of_edge: (n_edges,) int64, ascending.
        n_atoms: number of atoms.
    """

    def __init__(self, atom_of_edge: Tensor, n_atoms: int) -> None:
        n_edges = len(atom_of_edge)
        counts = torch.bincount(atom_of_edge, minlength=n_atoms)
        self.size = min(LARGEST_BLOCK, max(1, n_edges // max(1, n_atoms)))
        n_blocks = (counts + self.size - 1) // self.size
        self.atom = torch.arange(n_atoms, device=counts.device).repeat_interleave(n_blocks)
        """(n_blocks,) whose edges a block holds."""
        first_place = (n_blocks.cumsum(0) - n_blocks) * self.size
        first_edge = counts.cumsum(0) - counts
        shift = (first_place - first_edge).index_select(0, atom_of_edge)
        self.place = torch.arange(n_edges, device=counts.device) + shift
        """(n_edges,) where an edge is, counted through all blocks."""

    def padded(self, rows: Tensor) -> Tensor:
        """Rows (n_edges, n) of edges → (n_blocks, size, n)."""
        places = rows.new_zeros(len(self.atom) * self.size, rows.shape[1])
        return places.index_copy(0, self.place, rows).unflatten(0, (-1, self.size))

    def of_edges(self, blocks: Tensor) -> Tensor:
        """Blocks (n_blocks, size, n) → rows (n_edges, n) of edges."""
        return blocks.flatten(0, 1).index_select(0, self.place)


def _shells(reaches: list[float]) -> list[_Shell]:
    """Cut descending reaches where they have fallen by the ratio; a shell ends at the largest of its reaches."""
    shells, first = [], 0
    for n in range(1, len(reaches) + 1):
        if n == len(reaches) or reaches[n] * SHELL_RATIO <= reaches[first]:
            shells.append(_Shell(slice(first, n), reaches[first]))
            first = n
    return shells
