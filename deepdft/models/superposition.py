"""A density as a sum of spherical atoms, one radial function per element: the baseline every model has to beat."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from deepdft.graph.batch import AtomGraph, Batch, ProbeGraph
from deepdft.graph.neighbors import probe_graph
from deepdft.models.base import N_ELEMENTS, DensityModel
from deepdft.nn.radial import CosineCutoff
from deepdft.nn.scatter import sum_over_neighbours

__all__ = ["Superposition"]


@dataclass(frozen=True)
class _Atoms:
    """The states of atoms that know nothing of each other."""

    positions: Tensor
    weights: Tensor
    """(n_atoms, n_functions) e/Å³, of each atom's element."""


class Superposition(DensityModel):
    """ρ(r) = Σ_a f_Z(a)(|r - r_a|) with f_Z(d) = c(d) Σ_k w_Zk exp(-α_k d²).

    The weights are fitted at once with `fit`, and trained from there like those of any other model.

    Args:
        cutoff: range of the radial functions, Å.
        n_functions: Gaussians per element, their exponents a geometric series.
        smallest_exponent: of the widest Gaussian, Å⁻².
        largest_exponent: of the narrowest Gaussian, Å⁻²; narrower than the grid's spacing cannot be seen.
    """

    exponents: Tensor

    def __init__(
        self,
        *,
        cutoff: float = 4.0,
        n_functions: int = 14,
        smallest_exponent: float = 0.3,
        largest_exponent: float = 80.0,
    ) -> None:
        super().__init__(cutoff=cutoff)
        ratio = (largest_exponent / smallest_exponent) ** (1 / max(n_functions - 1, 1))
        exponents = smallest_exponent * ratio ** torch.arange(n_functions)
        self.register_buffer("exponents", exponents, persistent=False)
        self.soft_cutoff = CosineCutoff(cutoff)
        self.weights = nn.Embedding(N_ELEMENTS, n_functions)
        nn.init.zeros_(self.weights.weight)

    def encode(self, atoms: AtomGraph) -> _Atoms:
        """Look up the weights of each atom's element."""
        return _Atoms(atoms.positions, self.weights(atoms.numbers))

    def decode(self, states: _Atoms, probes: ProbeGraph) -> Tensor:
        """Sum the radial functions of the atoms around each probe: (n_probes,) e/Å³."""
        sender, receiver = probes.edge_index
        functions = self._functions(probes, states.positions)
        density = (functions * states.weights.index_select(0, sender)).sum(dim=-1)  # (n_edges,)
        return sum_over_neighbours(density, receiver, probes.n_probes)

    def _functions(self, probes: ProbeGraph, atom_positions: Tensor) -> Tensor:
        """c(d) exp(-α_k d²) of every edge: (n_edges, n_functions)."""
        squared = probes.edge_vectors(atom_positions).square().sum(dim=-1)
        # away from zero, so that a probe on an atom has derivatives
        distances = (squared + 1e-12).sqrt()
        return self.soft_cutoff(distances)[:, None] * torch.exp(-squared[:, None] * self.exponents)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Begin to train from the fitted weights."""
        self.fit(batches)

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch], *, iterations: int = 12) -> Self:
        """Fit all weights at once to reference densities, in float64.

        The sum of absolute errors (that of ε_mae) is minimised by iteratively reweighted least squares.

        Args:
            batches: structures with probes and targets; a few hundred thousand probes altogether.
            iterations: of the reweighting.
        """
        batches = list(batches)
        elements = torch.cat([batch.structures.numbers for batch in batches]).unique()
        matrix = torch.cat([self._matrix(batch, elements) for batch in batches])
        targets = torch.cat([batch.targets for batch in batches]).double()
        solution = _least_absolute(matrix, targets, iterations)
        self.weights.weight[elements] = solution.reshape(len(elements), -1).to(self.weights.weight)
        return self

    def _matrix(self, batch: Batch, elements: Tensor) -> Tensor:
        """Functions summed over the atoms of each element: (n_probes, n_elements × n_functions) float64."""
        probes = probe_graph(batch.structures, batch.probe_positions, batch.probe_structure, self.cutoff)
        functions = self._functions(probes, batch.structures.positions).double()
        sender, receiver = probes.edge_index
        column = torch.searchsorted(elements, batch.structures.numbers[sender])
        cells = receiver * len(elements) + column  # a cell is one element as seen by one probe
        return sum_over_neighbours(functions, cells, batch.n_probes * len(elements)).reshape(batch.n_probes, -1)


def _least_absolute(matrix: Tensor, targets: Tensor, iterations: int) -> Tensor:
    """Minimise Σ|A x - b| by iteratively reweighted least squares; a trace of ridge keeps wide Gaussians apart."""
    weights = torch.ones_like(targets)
    ridge = 1e-9 * matrix.square().sum(dim=0).mean() * torch.eye(matrix.shape[1], dtype=matrix.dtype)
    floor = 1e-3 * targets.abs().mean()
    for _ in range(iterations):
        weighted = matrix * weights[:, None]
        solution = torch.linalg.solve(matrix.T @ weighted + ridge, weighted.T @ targets)
        weights = 1.0 / (matrix @ solution - targets).abs().clamp(min=floor)
        weights /= weights.mean()
    return solution
