"""The equivariant DeepDFT: atoms and probes carry vectors beside scalars (PaiNN).

A vertex has scalars s (n, H) and vectors v (n, 3, H), whose rows are Cartesian components. Probes read the atom states
after each step. What a message takes from its sender is computed once per atom; an edge only weighs it by its filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from deepdft.density import TOTAL
from deepdft.graph.batch import AtomGraph, ProbeGraph
from deepdft.models.base import N_ELEMENTS, DensityModel, check_counts
from deepdft.nn.activations import SiLU
from deepdft.nn.atom_embedding import AtomEmbedding
from deepdft.nn.equivariant import equivariant_sum, message_filters, sent_features
from deepdft.nn.gates import gated_update_vector, invariants, vector_update
from deepdft.nn.interpolation import Tabulated
from deepdft.nn.mlp import Stack, two_layers, zero_last_layer
from deepdft.nn.radial import CosineCutoff, Radial, RadialFeatures, SincBasis, filter_networks, safe_norm
from deepdft.nn.unique_probes import decode_unique_probes

__all__ = ["PaiNN", "PaiNNStates"]


@dataclass(frozen=True)
class PaiNNStates:
    """The states of atoms that probes read."""

    positions: Tensor
    """(n_atoms, 3) Å."""
    sent: list[Tensor]
    """Per step (n_atoms, 5, H), from `Message.sent` of the states after the step."""
    filters: list[Tensor] | None
    """Per step (n_knots, 3H): the filters over the knots of `Radial`."""


class Message(nn.Module):
    """Scalar message c s, vector message a v + b r̂, with (a, b, c) = filter(d) ⊙ network(s), summed over the senders.

    The original PaiNN sends its gate c alone; here it multiplies the sender's scalars.
    """

    def __init__(self, hidden_size: int, n_basis: int) -> None:
        super().__init__()
        self.filter = nn.Linear(n_basis, 3 * hidden_size)  # for a, b, c
        self.gates = two_layers(hidden_size, hidden_size, 3 * hidden_size, SiLU)

    def sent(self, scalar: Tensor, vector: Tensor) -> Tensor:
        """Factors of messages that depend on the sender (n_atoms, 5, H)."""
        a, b, c = self.gates(scalar).chunk(3, dim=-1)  # each (n_atoms, H)
        return sent_features(scalar=c * scalar, radial=b[:, None], passthrough=a[:, None] * vector)

    def filters(self, edges: RadialFeatures) -> Tensor:
        """Factors of messages that depend on the edge (n_edges, 3H)."""
        a, b, c = (self.filter(edges.basis) * edges.cutoff).chunk(3, dim=-1)  # each (n_edges, H)
        return message_filters(scalar=c, radial=b, passthrough=a)

    def forward(
        self, sent: Tensor, filters: Tensor | Tabulated, direction: Tensor, edge_index: Tensor, n_receivers: int
    ) -> Tensor:
        """Messages summed at their receivers: (n_receivers, 4, H), scalars and vectors.

        Args:
            sent: (n_atoms, 5, H).
            filters: (n_edges, 3H).
            direction: (n_edges, 3), unit vectors r̂ from sender to receiver; zero where both are at one place.
            edge_index: (2, n_edges), sender and receiver.
            n_receivers: number of receivers.
        """
        sender, receiver = edge_index
        return equivariant_sum(sent, filters, direction, sender, receiver, n_receivers)


class Update(nn.Module):
    """s ← s + a_ss + a_sv ⟨Uv, Vv⟩, v ← v + a_vv Uv, with (a_ss, a_sv, a_vv) = network(s, |Vv|)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.u = nn.Linear(hidden_size, hidden_size, bias=False)
        self.v = nn.Linear(hidden_size, hidden_size, bias=False)
        self.network = two_layers(2 * hidden_size, hidden_size, 3 * hidden_size, SiLU)

    def forward(self, scalar: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """New scalars (n, H) and vectors (n, 3, H)."""
        u = self.u(vector)  # (n, 3, H)
        lengths, products = invariants(scalar, u, self.v(vector))  # [s, |Vv|] (n, 2H), ⟨Uv, Vv⟩ (n, H)
        return vector_update(scalar, vector, self.network.last(lengths), products, u)

    def scalars(self, scalar: Tensor, vector: Tensor) -> Tensor:
        """New scalars alone."""
        lengths, products = invariants(scalar, self.u(vector), self.v(vector))
        last = cast(nn.Linear, self.network[-1])
        without_vv = slice(2 * scalar.shape[1])
        hidden = self.network.hidden(lengths)
        a_ss, a_sv = linear(hidden, last.weight[without_vv], last.bias[without_vv]).chunk(2, dim=-1)
        return torch.addcmul(scalar + a_ss, a_sv, products)


class AtomStep(nn.Module):
    """One interaction step of the atoms: states plus messages, then the update."""

    def __init__(self, hidden_size: int, n_basis: int) -> None:
        super().__init__()
        self.message = Message(hidden_size, n_basis)
        self.update = Update(hidden_size)


class ProbeStep(nn.Module):
    """One interaction step of the probes: F ⊙ state + (1 - F) ⊙ message; F = sigmoid(network(message)); then update.

    Scalars and vectors have gates F of their own, both from the scalar message.
    """

    def __init__(self, hidden_size: int, n_basis: int) -> None:
        super().__init__()
        self.message = Message(hidden_size, n_basis)
        self.gate = two_layers(hidden_size, 2 * hidden_size, 2 * hidden_size, SiLU)
        self.update = Update(hidden_size)

    def forward(self, scalar: Tensor, vector: Tensor, message: Tensor) -> tuple[Tensor, Tensor]:
        """New scalars (n_probes, H) and vectors (n_probes, 3, H) of the probes."""
        return self.update(*self._blended(scalar, vector, message))

    def scalars(self, scalar: Tensor, vector: Tensor, message: Tensor) -> Tensor:
        """New scalars alone."""
        return self.update.scalars(*self._blended(scalar, vector, message))

    def _blended(self, scalar: Tensor, vector: Tensor, message: Tensor) -> tuple[Tensor, Tensor]:
        return gated_update_vector(self.gate.last(message[:, 0]), scalar, vector, message)


class PaiNN(DensityModel):
    """The PaiNN variant of DeepDFT, as published and as released.

    Args:
        hidden_size: H, number of scalars and of vectors of a vertex.
        n_interactions: number of interaction steps.
        cutoff: length below which atoms and probes are joined to atoms, Å.
        n_basis: number of radial functions sin(nπ d / d_cut) / d.
        channels: names of the densities that are predicted, "total" first.
        initial_moments: whether the atoms' initial magnetic moments are an input; they choose the magnetic state.

    Source: Jørgensen & Bhowmik 2022 (npj Comput. Mater. 8, 183; arXiv 2112.00652); Schütt et al. 2021 (arXiv
    2102.03150).
    """

    def __init__(
        self,
        *,
        hidden_size: int = 128,
        n_interactions: int = 3,
        cutoff: float = 4.0,
        n_basis: int = 30,
        channels: Sequence[str] = (TOTAL,),
        initial_moments: bool = False,
    ) -> None:
        super().__init__(cutoff=cutoff, channels=channels)
        check_counts(hidden_size=hidden_size, n_interactions=n_interactions, n_basis=n_basis)
        self.hidden_size = hidden_size
        self.receptive_field = (n_interactions + 1) * cutoff
        self.feature_shape = 1, hidden_size
        self.encoding_bytes = 4.0 * hidden_size * (10 * n_interactions + 24)  # measured
        self.basis = SincBasis(cutoff, size=n_basis)
        self.cosine_cutoff = CosineCutoff(cutoff)
        self.radial = Radial(self.basis, self.cosine_cutoff, cutoff)
        self.embedding = AtomEmbedding(N_ELEMENTS, hidden_size, moments=initial_moments)
        self.atom_steps: Stack[AtomStep] = Stack(AtomStep(hidden_size, n_basis) for _ in range(n_interactions))
        self.probe_steps: Stack[ProbeStep] = Stack(ProbeStep(hidden_size, n_basis) for _ in range(n_interactions))
        self.readout = two_layers(hidden_size, hidden_size, len(self.channels), SiLU)

    def zero_init(self) -> None:
        """Start with a readout of zero."""
        zero_last_layer(self.readout)

    def encode(self, atoms: AtomGraph) -> PaiNNStates:
        """Compute the atom states after each step, as far as probes read them."""
        return self.encode_with_features(atoms)[0]

    def encode_with_features(self, atoms: AtomGraph) -> tuple[PaiNNStates, tuple[Tensor, Tensor]]:
        """What probes read, and the scalars and vectors after the last step."""
        distances, direction = _lengths_and_directions(atoms.edge_vectors())
        scalar = self.embedding.of(atoms.structures)  # (n_atoms, H)
        vector = scalar.new_zeros(atoms.n_atoms, 3, self.hidden_size)
        sent = []
        all_filters = self.radial.filters(distances, filter_networks(self.atom_steps))
        for atom_step, probe_step, filters in zip(self.atom_steps, self.probe_steps, all_filters, strict=True):
            message, own = atom_step.message, atom_step.message.sent(scalar, vector)
            change = message(own, filters, direction, atoms.edge_index, atoms.n_atoms)
            scalar, vector = atom_step.update(scalar + change[:, 0], vector + change[:, 1:])
            sent.append(probe_step.message.sent(scalar, vector))
        states = PaiNNStates(atoms.positions, sent, self.radial.tables(filter_networks(self.probe_steps)))
        return states, (scalar, vector[:, [1, 2, 0]])  # y, z, x, the order of harmonics

    def invariants(self, states: PaiNNStates) -> Tensor:
        """Sender factors of the last step's messages (n_atoms, 3H): two scalars and a length per channel."""
        scalars, vectors = states.sent[-1].split([2, 3], dim=1)
        return torch.cat([scalars, safe_norm(vectors, dim=1)[:, None]], dim=1).flatten(1)

    def decode(self, states: PaiNNStates, probes: ProbeGraph) -> Tensor:
        """Density (n_probes, n_channels) in e/Å³."""
        distances, direction = _lengths_and_directions(probes.edge_vectors(states.positions))
        sender = probes.edge_index[0]

        def density(receiver: Tensor, n_probes: int) -> Tensor:
            edge_index = torch.stack([sender, receiver])
            scalar = distances.new_zeros(n_probes, self.hidden_size)
            vector = distances.new_zeros(n_probes, 3, self.hidden_size)
            all_filters = self.radial.filters(distances, filter_networks(self.probe_steps), states.filters)
            for step, sent, filters in zip(self.probe_steps, states.sent, all_filters, strict=True):
                message = step.message(sent, filters, direction, edge_index, n_probes)
                if step is self.probe_steps[-1]:
                    scalar = step.scalars(scalar, vector, message)  # nothing reads the vectors of the last step
                else:
                    scalar, vector = step(scalar, vector, message)
            return self.readout(scalar)

        return decode_unique_probes(density, probes)


def _lengths_and_directions(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths (n_edges,) in Å and unit vectors (n_edges, 3) of edge vectors (n_edges, 3)."""
    distances = safe_norm(vectors)
    return distances, vectors / distances[:, None]
