"""Any model on top of a superposition of atoms, of which it learns the residual."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from deepdft import chunks
from deepdft.graph.batch import AtomGraph, Batch, ProbeGraph, Structures
from deepdft.graph.neighbors import atom_graph, probe_graph
from deepdft.models.base import AtomStates, DensityModel
from deepdft.models.free_atoms import FreeAtoms
from deepdft.models.superposition import Superposition

__all__ = ["BASELINES", "WithBaseline"]

BASELINES: dict[str, Callable[[float], DensityModel]] = {
    "superposition": lambda cutoff: FreeAtoms(cutoff=cutoff),
    "fitted": lambda cutoff: Superposition(cutoff=cutoff),
}
"""Name → function that makes a baseline with a cutoff in Å: free atoms, or a superposition fitted before training."""
MIN_SCALE = 1e-6
"""Smallest s in e/Å³; no density is known to this precision."""


class WithBaseline(DensityModel):
    """ρ(r) = ρ_atoms(r) + s ρ_model(r). The atoms stay as they are; they end at the model's cutoff and use its edges.

    s is the root mean square of what the atoms leave of the densities at training points, so that the model learns
    numbers of the order of one: steps that are right for a whole density would be far too large for the rest.

    A config names it with the two models, or any model's config with the key `baseline`, which is short for that:

        _target_: deepdft.models.with_baseline.WithBaseline
        model: {_target_: deepdft.models.painn.PaiNN, cutoff: 4.0}
        baseline: fitted  # or the config of a model that predicts the total

    Args:
        model: learns the residual; it starts at zero where it can.
        baseline: one of `BASELINES`, or a model of the total, up to the same cutoff.

    Raises:
        ValueError: if there is no such baseline, or its cutoff is another one.
    """

    scale: Tensor

    def __init__(self, model: DensityModel, baseline: str | DensityModel) -> None:
        if not isinstance(model, DensityModel):
            raise ValueError(f"model is the config of a model, got {type(model).__name__}")
        if not isinstance(baseline, DensityModel):
            if not isinstance(baseline, str) or baseline not in BASELINES:
                raise ValueError(f"model.baseline={baseline}: expected {', '.join(BASELINES)} or null")
            baseline = BASELINES[baseline](model.cutoff)
        if baseline.cutoff != model.cutoff or len(baseline.channels) > 1:
            raise ValueError(
                f"the baseline predicts the total up to the model's cutoff of {model.cutoff:g} Å, got "
                f"{', '.join(baseline.channels)} up to {baseline.cutoff:g} Å"
            )
        super().__init__(cutoff=model.cutoff, channels=model.channels)
        self.cutoff_value = max(model.cutoff_value, baseline.cutoff_value)
        self.receptive_field = max(model.receptive_field, baseline.receptive_field)
        self.encoding_bytes, self.feature_shape = model.encoding_bytes, model.feature_shape
        self.model = model
        self.model.zero_init()
        self.baseline = baseline.requires_grad_(False)
        self.register_buffer("scale", torch.ones(len(self.channels)))  # s of each channel, e/Å³

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        scale = state_dict.get(prefix + "scale")
        if isinstance(scale, Tensor) and scale.ndim == 0:  # before there were channels
            state_dict[prefix + "scale"] = scale[None]
        super()._load_from_state_dict(state_dict, prefix, *args)

    def encode(self, atoms: AtomGraph) -> tuple[AtomStates, AtomStates]:
        """The states of the model and of the baseline."""
        return self.model.encode(atoms), self.baseline.encode(atoms)

    def encode_with_features(self, atoms: AtomGraph) -> tuple[tuple[AtomStates, AtomStates], tuple[Tensor, Tensor]]:
        """The states of the model and of the baseline, and the features of the model."""
        states, features = self.model.encode_with_features(atoms)
        return (states, self.baseline.encode(atoms)), features

    def decode(self, states: tuple[AtomStates, AtomStates], probes: ProbeGraph) -> Tensor:
        """Density (n_probes, n_channels) in e/Å³."""
        of_model, of_baseline = states
        residual = self.model.checked(self.model.decode(of_model, probes), probes.n_probes)
        return self._total(self.baseline.decode(of_baseline, probes)) + self.scale * residual

    def decode_points(self, states: tuple[AtomStates, AtomStates], structures: Structures, points: Tensor) -> Tensor:
        """Density (n_points, n_channels) in e/Å³, in the fastest way of the model and of the baseline."""
        of_model, of_baseline = states
        residual = _at_points(self.model, of_model, structures, points)
        return self._total(_at_points(self.baseline, of_baseline, structures, points)) + self.scale * residual

    def invariants(self, states: tuple[AtomStates, AtomStates]) -> Tensor | None:
        """The invariants of the model."""
        return self.model.invariants(states[0])

    def chunk_size(self, device: torch.device) -> int | None:
        """Points per call: those of the model."""
        return self.model.chunk_size(device)

    def _total(self, density: Tensor) -> Tensor:
        """The baseline's density (n_probes, 1) beside zeros for other channels: (n_probes, n_channels)."""
        return pad(density, (0, len(self.channels) - 1))

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Fit the baseline and s, and prepare the model with the residual in units of s."""
        batches = list(batches)
        self.baseline.prepare(replace(batch, targets=batch.targets[:, :1]) for batch in batches)
        residuals = [self._residual(batch) for batch in batches]
        self.scale.copy_(torch.cat(residuals).square().mean(dim=0).sqrt().clamp(min=MIN_SCALE))
        left = zip(batches, residuals, strict=True)
        self.model.prepare(replace(batch, targets=residual / self.scale) for batch, residual in left)

    @torch.no_grad()
    def _residual(self, batch: Batch) -> Tensor:
        """Residual of the targets: (n_probes, n_channels) e/Å³."""
        probes = probe_graph(batch.structures, batch.probe_positions, batch.probe_structure, self.probe_cutoff)
        return batch.targets - self._total(self.baseline(atom_graph(batch.structures, self.cutoff), probes))


def _at_points(model: DensityModel, states: AtomStates, structures: Structures, points: Tensor) -> Tensor:
    """`decode_points`; a model that decodes by edges does so in chunks of points that bound their number."""
    if model.chunk_size(points.device) is not None:
        return model.decode_points(states, structures, points)
    of_chunks = points.split(chunks.on(points.device.type).points_by_edges)
    return torch.cat([model.decode_points(states, structures, chunk) for chunk in of_chunks])
