"""Any equivariant model with PAW augmentation occupancies beside its density."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from ase.data import atomic_numbers
from torch import Tensor

from deepdft.graph.batch import AtomGraph, Batch, ProbeGraph, Structures, joined_rows
from deepdft.models.base import AtomStates, DensityModel
from deepdft.nn.occupancies import Occupancies, OccupancyHead

__all__ = ["WithOccupancies"]


class WithOccupancies(DensityModel):
    """A model whose encoder also predicts the PAW augmentation occupancies of the atoms, from which VASP restarts.

    The density stays that of the model; occupancies are read from the same features of the atoms, and both are learned
    together. A config names it with the model, or any model's config with the key `occupancies`, which is short for
    that:

        _target_: deepdft.models.with_occupancies.WithOccupancies
        model: {_target_: deepdft.models.orbital.Orbital}
        partial_waves: {O: sspp, H: ssp}

    Args:
        model: its encoder has equivariant features (`feature_shape`).
        partial_waves: symbol of an element → channels of its partial waves in the order of VASP's POTCAR.

    Raises:
        ValueError: if the model has no such features, an element is unknown, or its partial waves are not letters
            among s, p, d, f.
    """

    def __init__(self, model: DensityModel, partial_waves: Mapping[str, str]) -> None:
        if model.feature_shape is None:
            raise ValueError(f"occupancies need a model with equivariant features, and {type(model).__name__} has none")
        if not isinstance(partial_waves, Mapping) or not partial_waves:
            raise ValueError(
                f"occupancies are partial waves by element, such as {{O: sspp, H: ssp}}; got {partial_waves!r}"
            )
        if unknown := [symbol for symbol in partial_waves if symbol not in atomic_numbers]:
            raise ValueError(f"occupancies: {', '.join(map(str, unknown))} is no symbol of an element")
        super().__init__(cutoff=model.cutoff, channels=model.channels)
        self.probe_cutoff, self.cutoff_value = model.probe_cutoff, model.cutoff_value
        self.receptive_field, self.encoding_bytes = model.receptive_field, model.encoding_bytes
        self.feature_shape = model.feature_shape
        self.has_occupancies = True
        self.model = model
        l_max, hidden_size = model.feature_shape
        self.head = OccupancyHead(
            {atomic_numbers[symbol]: waves for symbol, waves in partial_waves.items()},
            l_max=l_max,
            hidden_size=hidden_size,
            n_channels=len(self.channels),
        )

    def encode(self, atoms: AtomGraph) -> tuple[AtomStates, Occupancies]:
        """The states of the model, and the occupancies."""
        return self.encode_with_features(atoms)[0]

    def encode_with_features(self, atoms: AtomGraph) -> tuple[tuple[AtomStates, Occupancies], tuple[Tensor, Tensor]]:
        """The states, and the features of the model."""
        states, features = self.model.encode_with_features(atoms)
        return (states, self.head(atoms.numbers, *features)), features

    def occupancies(self, states: tuple[AtomStates, Occupancies]) -> Occupancies:
        """Occupancies of the atoms, one set for each channel."""
        return states[1]

    def decode(self, states: tuple[AtomStates, Occupancies], probes: ProbeGraph) -> Tensor:
        """Density (n_probes, n_channels) in e/Å³."""
        return self.model.decode(states[0], probes)

    def decode_points(self, states: tuple[AtomStates, Occupancies], structures: Structures, points: Tensor) -> Tensor:
        """Density (n_points, n_channels) in e/Å³, in the fastest way of the model."""
        return self.model.decode_points(states[0], structures, points)

    def invariants(self, states: tuple[AtomStates, Occupancies]) -> Tensor | None:
        """The invariants of the model."""
        return self.model.invariants(states[0])

    def chunk_size(self, device: torch.device) -> int | None:
        """Points per call: those of the model."""
        return self.model.chunk_size(device)

    def zero_init(self) -> None:
        """Make the first density zero, where the model can."""
        self.model.zero_init()

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Prepare the model, and take the means and spreads of occupancies from the training atoms."""
        batches = list(batches)
        self.model.prepare(batches)
        known = [batch for batch in batches if batch.occupancies is not None]
        if known:
            self.head.fit(
                torch.cat([batch.structures.numbers for batch in known]),
                joined_rows([batch.occupancies for batch in known if batch.occupancies is not None]),
            )
