"""Several models of the same density as one: their mean is the prediction, their spread tells how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepdft.graph.batch import AtomGraph, ProbeGraph, Structures
from deepdft.models.base import AtomStates, DensityModel
from deepdft.nn.occupancies import Occupancies

__all__ = ["Ensemble"]


class Ensemble(DensityModel):
    """The mean density of models that differ only in the random numbers of their training.

    Args:
        models: two or more, with the same channels and cutoffs.
        spread_scale: expected ε_mae of the mean in units of the models' spread, calibrated on structures that none of
            them was trained on; None before that.

    Raises:
        ValueError: if there are fewer than two models, or their channels or cutoffs differ.
    """

    def __init__(self, models: Sequence[DensityModel], spread_scale: float | None = None) -> None:
        if len(models) < 2:
            raise ValueError(f"an ensemble has at least two models, got {len(models)}")
        first = models[0]
        for name in ("channels", "cutoff", "probe_cutoff"):
            found = [getattr(model, name) for model in models]
            if any(value != found[0] for value in found):
                raise ValueError(f"the models of an ensemble have the same {name}, got {', '.join(map(str, found))}")
        if spread_scale is not None and not (isinstance(spread_scale, int | float) and 0 < spread_scale < math.inf):
            raise ValueError(f"spread_scale is a number above zero, got {spread_scale!r}")
        super().__init__(cutoff=first.cutoff, channels=first.channels)
        self.probe_cutoff = first.probe_cutoff
        self.cutoff_value = max(model.cutoff_value for model in models)
        self.receptive_field = max(model.receptive_field for model in models)
        self.encoding_bytes = sum(model.encoding_bytes for model in models)
        self.has_occupancies = all(model.has_occupancies for model in models)
        self.models = nn.ModuleList(models)
        self.spread_scale = spread_scale

    @property
    def members(self) -> Sequence[DensityModel]:
        """The models whose mean is predicted."""
        return list(self.models)  # type: ignore[arg-type]

    def encode(self, atoms: AtomGraph) -> AtomStates:
        """The states of the atoms in each model."""
        return [model.encode(atoms) for model in self.members]

    def decode(self, states: AtomStates, probes: ProbeGraph) -> Tensor:
        """Mean density (n_probes, n_channels) in e/Å³."""
        pairs = zip(self.members, states, strict=True)
        return torch.stack([model.checked(model.decode(own, probes), probes.n_probes) for model, own in pairs]).mean(
            dim=0
        )

    def decode_points(self, states: AtomStates, structures: Structures, points: Tensor) -> Tensor:
        """Mean density (n_points, n_channels) in e/Å³ at any points of one structure."""
        pairs = zip(self.members, states, strict=True)
        return torch.stack([model.decode_points(own, structures, points) for model, own in pairs]).mean(dim=0)

    def invariants(self, states: AtomStates) -> Tensor | None:
        """The invariants of all members side by side; None if one has none."""
        found = [model.invariants(own) for model, own in zip(self.members, states, strict=True)]
        known = [each for each in found if each is not None]
        return torch.cat(known, dim=1) if len(known) == len(found) else None

    def occupancies(self, states: AtomStates) -> Occupancies | None:
        """Mean occupancies of the members; None unless all have them."""
        if not self.has_occupancies:
            return None
        found = [model.occupancies(own) for model, own in zip(self.members, states, strict=True)]
        return Occupancies(*(torch.stack(parts).mean(dim=0) for parts in zip(*found, strict=True)))

    def chunk_size(self, device: torch.device) -> int | None:
        """Points per call of `decode_points`: as many as every member takes."""
        counts = [model.chunk_size(device) for model in self.members]
        known = [count for count in counts if count is not None]
        return min(known) if len(known) == len(counts) else None
