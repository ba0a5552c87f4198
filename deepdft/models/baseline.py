"""Any model on top of a superposition of atoms: it learns what is left of the density."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from deepdft.graph.batch import AtomGraph, Batch, ProbeGraph
from deepdft.graph.neighbors import atom_graph, probe_graph
from deepdft.models.base import AtomStates, DensityModel
from deepdft.models.free_atoms import FreeAtoms
from deepdft.models.superposition import Superposition

__all__ = ["BASELINES", "OnBaseline"]

BASELINES: dict[str, Callable[[float], DensityModel]] = {
    "superposition": lambda cutoff: FreeAtoms(cutoff=cutoff),
    "fitted": lambda cutoff: Superposition(cutoff=cutoff),
}
"""From a cutoff in Å: free atoms, or a superposition fitted to the training set before the first step."""


class OnBaseline(DensityModel):
    """ρ(r) = ρ_atoms(r) + ρ_model(r). The atoms stay as they are; they end at the model's cutoff and use its edges.

    The key `baseline` of any model's config makes it (`deepdft.checkpoint.build_model`).

    Args:
        model: learns the rest; it begins at zero where it can.
        baseline: of `BASELINES`.

    Raises:
        ValueError: if there is no such baseline.
    """

    def __init__(self, model: DensityModel, baseline: str) -> None:
        if baseline not in BASELINES:
            raise ValueError(f"model.baseline={baseline}: expected {', '.join(BASELINES)} or null")
        super().__init__(cutoff=model.cutoff)
        self.cutoff_value = model.cutoff_value
        self.model = model
        self.model.begin_at_zero()
        self.baseline = BASELINES[baseline](model.cutoff).requires_grad_(False)

    def encode(self, atoms: AtomGraph) -> tuple[AtomStates, AtomStates]:
        """The states of the model and of the baseline."""
        return self.model.encode(atoms), self.baseline.encode(atoms)

    def decode(self, states: tuple[AtomStates, AtomStates], probes: ProbeGraph) -> Tensor:
        """Density (n_probes,) in e/Å³."""
        of_model, of_baseline = states
        return self.model.decode(of_model, probes) + self.baseline.decode(of_baseline, probes)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Fit the baseline; the model is prepared with what is left."""
        batches = list(batches)
        self.baseline.prepare(batches)
        self.model.prepare(self._rest(batch) for batch in batches)

    @torch.no_grad()
    def _rest(self, batch: Batch) -> Batch:
        probes = probe_graph(batch.structures, batch.probe_positions, batch.probe_structure, self.cutoff)
        atoms = self.baseline(atom_graph(batch.structures, self.cutoff), probes)
        return replace(batch, targets=batch.targets - atoms)
