"""The interface of all models: atoms are encoded once, and any number of probes is decoded from the result."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deepdft import chunks
from deepdft.density import TOTAL
from deepdft.graph.batch import AtomGraph, Batch, ProbeGraph, Structures
from deepdft.graph.neighbors import probe_graph
from deepdft.nn.occupancies import Occupancies
from deepdft.nn.threads import in_parallel

__all__ = ["N_ELEMENTS", "AtomStates", "DensityModel", "check_counts"]


N_ELEMENTS = 119
"""Rows of a table indexed by atomic number, 0 to 118."""

MAX_CUTOFF = 100.0
"""Largest cutoff in Å; a crystal has several hundred thousand neighbours within it."""

AtomStates = Any
"""What `encode` passes to `decode`; opaque to everyone but the model that made it."""


def check_counts(**counts: int) -> None:
    """Refuse sizes of a model that are not positive integers.

    Raises:
        ValueError: naming the first.
    """
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool):
            raise ValueError(f"{name} must be a whole number, got {count!r}")
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


class DensityModel(nn.Module, ABC):
    """Predicts the electron density at query points from the atoms around them.

    A new model is one file with a subclass of this and one YAML that names it (`_target_`). Training, prediction and
    evaluation use only `channels`, `cutoff`, `probe_cutoff`, `encode` and `decode`; structures beyond the memory need
    `receptive_field`. The argument name `baseline` is taken: that key of its config puts any model on top of a
    superposition of atoms (`deepdft.models.with_baseline`).

    Args:
        cutoff: distance below which atoms are joined by edges, Å.
        channels: names of the densities that the model predicts, "total" first; "difference" is spin up minus down.

    Raises:
        ValueError: if the cutoff is not above zero, or the channels do not begin with "total" or repeat a name.
    """

    def __init__(self, *, cutoff: float, channels: Sequence[str] = (TOTAL,)) -> None:
        super().__init__()
        if not isinstance(cutoff, int | float) or not 0 < cutoff <= MAX_CUTOFF:
            raise ValueError(f"cutoff is a distance in Å above zero and up to {MAX_CUTOFF:g}, got {cutoff!r}")
        self.channels = _checked_channels(channels)
        """Names of the columns that `decode` returns."""
        self.cutoff = float(cutoff)
        """Distance in Å below which atoms are joined by edges to other atoms."""
        self.probe_cutoff = self.cutoff
        """Distance in Å below which atoms are joined to probes; smaller for a model whose functions end earlier."""
        self.cutoff_value = 0.0
        """Weight of an edge at the cutoff, relative to a short edge; 0 for a smooth cutoff."""
        self.receptive_field = math.inf
        """Distance in Å beyond which no atom changes the density at a point: what the rounds of messages between atoms
        reach plus `probe_cutoff`. Infinite where a model does not say; its structures are then encoded as a whole."""
        self.feature_shape: tuple[int, int] | None = None
        """(L, H), degrees 1…L and channels of what `encode_with_features` returns; None for a model without."""
        self.has_occupancies = False
        """Whether `occupancies` predicts those of PAW."""
        self.encoding_bytes = 60_000.0
        """Memory in bytes that `encode` takes for an atom with about fifty neighbours; decides the size of domains."""

    spread_scale: float | None = None
    """Expected ε_mae in units of the spread of an ensemble's members; None if unknown."""

    @property
    def members(self) -> Sequence[DensityModel]:
        """The models whose mean this one predicts: itself, unless it is an ensemble."""
        return (self,)

    @abstractmethod
    def encode(self, atoms: AtomGraph) -> AtomStates:
        """Compute the states of all atoms, once per structure."""

    @abstractmethod
    def decode(self, states: AtomStates, probes: ProbeGraph) -> Tensor:
        """Predict the density (n_probes, n_channels) in e/Å³ at query points from the states of the atoms.

        Predictions call it from several threads at once: it must not change the model.
        """

    def decode_points(self, states: AtomStates, structures: Structures, points: Tensor) -> Tensor:
        """Predict the density (n_points, n_channels) in e/Å³ at any points of one structure, as users ask for it.

        A model that can do without edges overrides it, and says in `chunk_size` how many points it takes.

        Args:
            states: from `encode`.
            structures: the one structure, that was encoded.
            points: (n_points, 3) Å, also outside the cell.
        """
        which = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        probes = probe_graph(structures, points, which, self.probe_cutoff)
        parts = probes.chunks(chunks.on(points.device.type).edges_decoded)
        density = torch.cat(in_parallel(lambda part: self.decode(states, part), parts, device=points.device))
        return self.checked(density, len(points))

    def encode_with_features(self, atoms: AtomGraph) -> tuple[AtomStates, tuple[Tensor, Tensor]]:
        """The states, with features of the atoms that rotate with the structure; for a model with a `feature_shape`.

        Returns:
            What `encode` returns; scalars (n_atoms, H) and features (n_atoms, Σ(2l + 1), H) of degrees 1…L in the order
            of `deepdft.nn.spherical`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no equivariant features")

    def occupancies(self, states: AtomStates) -> Occupancies | None:
        """PAW augmentation occupancies of encoded atoms; None, the default, for a model that does not predict them.

        Args:
            states: from `encode`.
        """
        return None

    def invariants(self, states: AtomStates) -> Tensor | None:
        """Numbers (n_atoms, n) that distinguish the surroundings of encoded atoms, invariant under rotations.

        Distances between them say how unlike the training set an atom's surroundings are. None, the default, leaves a
        model without such estimates.

        Args:
            states: from `encode`.
        """
        return None

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Fit what need not be learned step by step; training calls it once, before its first step.

        Args:
            batches: structures of the training set with probes and targets; a few hundred thousand probes altogether.
        """

    def zero_init(self) -> None:
        """Make the first prediction zero, for a model that learns the residual of a baseline; optional."""

    def chunk_size(self, device: torch.device) -> int | None:
        """Points per call of `decode_points` on a device; None if memory depends on edges."""
        return None

    def forward(self, atoms: AtomGraph, probes: ProbeGraph) -> Tensor:
        """Encode, then decode: the density (n_probes, n_channels) in e/Å³.

        Raises:
            ValueError: if `decode` returns another shape.
        """
        return self.checked(self.decode(self.encode(atoms), probes), probes.n_probes)

    def checked(self, density: Tensor, n_points: int) -> Tensor:
        """Check the shape of a density of this model, and return it as (n_points, n_channels).

        Models written before there were channels return (n_points,), which is still taken for one channel.

        Raises:
            ValueError: if it has another shape, which would be broadcast against a reference.
        """
        expected = n_points, len(self.channels)
        if density.shape == (n_points,) and len(self.channels) == 1:
            warnings.warn(
                f"{type(self).__name__}.decode returns (n_probes,), expected (n_probes, n_channels): append [:, None]",
                DeprecationWarning,
                stacklevel=2,
            )
            return density[:, None]
        if density.shape != expected:
            raise ValueError(
                f"{type(self).__name__} predicted an array of shape {tuple(density.shape)}, expected {expected}: "
                f"a row per point and a column per channel ({', '.join(self.channels)})"
            )
        return density


def _checked_channels(channels: Sequence[str]) -> tuple[str, ...]:
    names = (channels,) if isinstance(channels, str) else tuple(channels)
    if not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise ValueError(f"channels are names such as total and difference, got {channels!r}")
    if names[:1] != (TOTAL,) or len(set(names)) != len(names):
        raise ValueError(f"channels begin with {TOTAL} and name each channel once, got {', '.join(names) or 'none'}")
    return names
