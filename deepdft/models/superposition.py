"""A density as a sum of spherical atoms, one radial function per element: the baseline every model has to beat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from deepdft.density import TOTAL
from deepdft.graph.batch import AtomGraph, Batch, ProbeGraph
from deepdft.graph.neighbors import atom_graph, probe_graph
from deepdft.models.base import N_ELEMENTS, DensityModel
from deepdft.nn.orbitals import OrbitalBasis

__all__ = ["Superposition"]


@dataclass(frozen=True)
class _Atoms:
    """The states of atoms that do not interact."""

    positions: Tensor
    coefficients: Tensor
    """(n_atoms, n_functions, 1, n_channels) e/Å³, the weights of each atom's element."""


class Superposition(DensityModel):
    """ρ(r) = Σ_a f_Z(a)(|r - r_a|) with f_Z(d) = Σ_n w_Zn R_n(d), R_n Gaussians that end (`deepdft.nn.orbitals`).

    The weights are fitted at once with `fit`, and trained from there like those of any other model.

    Args:
        cutoff: range of the radial functions, Å.
        n_functions: Gaussians per element, their exponents a geometric series.
        smallest_exponent: of the widest Gaussian, Å⁻².
        largest_exponent: of the narrowest Gaussian, Å⁻²; narrower than the grid's spacing cannot be seen.
        channels: names of the densities that are predicted, "total" first; each has weights of its own.
    """

    def __init__(
        self,
        *,
        cutoff: float = 4.0,
        n_functions: int = 14,
        smallest_exponent: float = 0.3,
        largest_exponent: float = 80.0,
        channels: Sequence[str] = (TOTAL,),
    ) -> None:
        super().__init__(cutoff=cutoff, channels=channels)
        self.basis = OrbitalBasis(
            n_functions,
            l_max=0,
            smallest_exponent=smallest_exponent,
            largest_exponent=largest_exponent,
            cutoff=cutoff,
        )
        self.probe_cutoff = self.receptive_field = self.basis.reach
        self.n_functions = n_functions
        self.weights = nn.Embedding(N_ELEMENTS, n_functions * len(self.channels))
        nn.init.zeros_(self.weights.weight)

    def encode(self, atoms: AtomGraph) -> _Atoms:
        """Look up the weights of each atom's element."""
        return _Atoms(atoms.positions, self.coefficients(atoms.numbers))

    def coefficients(self, numbers: Tensor) -> Tensor:
        """Coefficients of the radial functions (n_atoms, n_functions, 1, n_channels) in e/Å³ of atoms by number."""
        return self.weights(numbers).unflatten(-1, (self.n_functions, 1, -1))

    def decode(self, states: _Atoms, probes: ProbeGraph) -> Tensor:
        """Sum the radial functions of the atoms around each probe: (n_probes, n_channels) e/Å³."""
        return self.basis(states.coefficients, states.positions, probes)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Start training from the fitted weights."""
        self.fit(batches)

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch], *, iterations: int = 12) -> Self:
        """Fit all weights to reference densities in one go, in float64.

        The sum of absolute errors (that of ε_mae) is minimised by iteratively reweighted least squares.

        Args:
            batches: structures with probes and targets; a few hundred thousand probes altogether.
            iterations: of the reweighting.
        """
        batches = list(batches)
        elements = torch.cat([batch.structures.numbers for batch in batches]).unique()
        matrix = torch.cat([self._matrix(batch, elements) for batch in batches])
        targets = torch.cat([batch.targets for batch in batches]).double()  # (n_probes, n_channels)
        importance = torch.cat([_weights(batch) for batch in batches])
        solutions = [_least_absolute(matrix, of_one, importance, iterations) for of_one in targets.unbind(dim=1)]
        weights = torch.stack(solutions, dim=1)  # (n_elements × n_functions, n_channels)
        self.weights.weight[elements] = weights.reshape(len(elements), -1).to(self.weights.weight)
        return self

    def _matrix(self, batch: Batch, elements: Tensor) -> Tensor:
        """Functions summed over the atoms of each element: (n_probes, n_elements × n_functions) float64."""
        structures = batch.structures
        probes = probe_graph(structures, batch.probe_positions, batch.probe_structure, self.probe_cutoff)
        positions = atom_graph(structures, self.cutoff).positions
        own = (structures.numbers[:, None] == elements).to(positions)  # (n_atoms, n_elements)
        one_each = torch.eye(self.n_functions).to(own)  # (n_functions, n_functions)
        columns = (own[:, None, :, None] * one_each[:, None]).flatten(2)  # (n_atoms, n_functions, all columns)
        return self.basis(columns[:, :, None], positions, probes).double()


def _weights(batch: Batch) -> Tensor:
    return torch.ones(batch.n_probes).to(batch.targets).double() if batch.weights is None else batch.weights.double()


def _least_absolute(matrix: Tensor, targets: Tensor, importance: Tensor, iterations: int) -> Tensor:
    """Minimise Σ w|A x - b| by iteratively reweighted least squares; a small ridge term keeps wide Gaussians apart."""
    weights = importance
    ridge = 1e-9 * matrix.square().sum(dim=0).mean() * torch.eye(matrix.shape[1], dtype=matrix.dtype)
    floor = 1e-3 * targets.abs().mean()
    for _ in range(iterations):
        weighted = matrix * weights[:, None]
        solution = torch.linalg.solve(matrix.T @ weighted + ridge, weighted.T @ targets)
        weights = importance / (matrix @ solution - targets).abs().clamp(min=floor)
        weights /= weights.mean()
    return solution
