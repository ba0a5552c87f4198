"""The equivariant DeepDFT: atoms and probes carry vectors beside scalars (PaiNN).

Scalars s and vectors v of a vertex are kept in one array (n, 4, H): row 0 holds the scalars, rows 1 to 3 the Cartesian
components of the vectors. Probes read the atom states after each step. What a message takes from its sender is
computed once per atom; an edge only weighs it by its filter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deepdft.graph.batch import AtomGraph, ProbeGraph
from deepdft.models.base import N_ELEMENTS, DensityModel
from deepdft.nn.mlp import Stack, two_layers, zero_last_layer
from deepdft.nn.radial import CosineCutoff, SincBasis, safe_norm
from deepdft.nn.scatter import sum_over_neighbours, with_shared_lonely_probe

__all__ = ["PaiNN", "PaiNNStates"]


@dataclass(frozen=True)
class PaiNNStates:
    """What probes read from atoms."""

    positions: Tensor
    """(n_atoms, 3) Å."""
    sent: list[Tensor]
    """Per step (n_atoms, 5, H), from `Message.sent` of the states after the step."""


@dataclass(frozen=True)
class EdgeFeatures:
    """What messages see of an edge."""

    basis: Tensor
    """(n_edges, n_basis)."""
    cutoff: Tensor
    """(n_edges, 1), zero at the cutoff."""
    direction: Tensor
    """(n_edges, 3, 1), unit vector r̂ from sender to receiver; zero where both are at one place."""


class Message(nn.Module):
    """Scalar message c s, vector message a v + b r̂, with (a, b, c) = filter(d) ⊙ network(s), summed over the senders.

    The original PaiNN sends its gate c alone; here it multiplies the sender's scalars.
    """

    def __init__(self, hidden_size: int, n_basis: int) -> None:
        super().__init__()
        self.filter = nn.Linear(n_basis, 3 * hidden_size)  # for a, b, c
        self.gates = two_layers(hidden_size, hidden_size, 3 * hidden_size, nn.SiLU)

    def sent(self, state: Tensor) -> Tensor:
        """The sender's part (n_atoms, 5, H): b, c s, and three rows a v."""
        scalar, vector = state[:, 0], state[:, 1:]
        a, b, c = self.gates(scalar).chunk(3, dim=-1)  # each (n_atoms, H)
        return torch.cat([torch.stack([b, c * scalar], dim=1), a[:, None] * vector], dim=1)

    def forward(self, sent: Tensor, edges: EdgeFeatures, sender: Tensor, receiver: Tensor, n_receivers: int) -> Tensor:
        """Messages summed at their receivers (n_receivers, 4, H)."""
        a, b, c = (self.filter(edges.basis) * edges.cutoff).chunk(3, dim=-1)  # each (n_edges, H)
        b_sent, scalar, vector = sent.index_select(0, sender).split([1, 1, 3], dim=1)
        vector = torch.addcmul(a[:, None] * vector, b[:, None] * b_sent, edges.direction)  # (n_edges, 3, H)
        messages = torch.cat([c[:, None] * scalar, vector], dim=1)
        return sum_over_neighbours(messages, receiver, n_receivers)


class Update(nn.Module):
    """s ← s + a_ss + a_sv ⟨Uv, Vv⟩, v ← v + a_vv Uv, with (a_ss, a_sv, a_vv) = network(s, |Vv|)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.u = nn.Linear(hidden_size, hidden_size, bias=False)
        self.v = nn.Linear(hidden_size, hidden_size, bias=False)
        self.network = two_layers(2 * hidden_size, hidden_size, 3 * hidden_size, nn.SiLU)

    def forward(self, state: Tensor) -> Tensor:
        """The next states (n, 4, H)."""
        scalar, vector = state[:, 0], state[:, 1:]
        u, v = self.u(vector), self.v(vector)  # (n, 3, H)
        length = safe_norm(v.transpose(1, 2))  # (n, H)
        a_ss, a_sv, a_vv = self.network(torch.cat([scalar, length], dim=-1)).chunk(3, dim=-1)
        scalar = scalar + a_ss + a_sv * (u * v).sum(dim=1)
        return torch.cat([scalar[:, None], vector + a_vv[:, None] * u], dim=1)


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
        self.gate = two_layers(hidden_size, 2 * hidden_size, 2 * hidden_size, nn.SiLU)
        self.update = Update(hidden_size)

    def forward(self, state: Tensor, message: Tensor) -> Tensor:
        """The next probe states (n_probes, 4, H)."""
        keep = torch.sigmoid(self.gate(message[:, 0]))  # (n_probes, 2H)
        scalar, vector = keep[:, None].chunk(2, dim=-1)
        keep = torch.cat([scalar, vector.expand(-1, 3, -1)], dim=1)
        return self.update(torch.lerp(message, state, keep))


class PaiNN(DensityModel):
    """The PaiNN variant of DeepDFT, as published and as released.

    Args:
        hidden_size: H, number of scalars and of vectors of a vertex.
        n_interactions: number of interaction steps.
        cutoff: length below which atoms and probes are joined to atoms, Å.
        n_basis: number of radial functions sin(nπ d / d_cut) / d.

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
    ) -> None:
        super().__init__(cutoff=cutoff)
        self.hidden_size = hidden_size
        self.basis = SincBasis(cutoff, size=n_basis)
        self.cosine_cutoff = CosineCutoff(cutoff)
        self.embedding = nn.Embedding(N_ELEMENTS, hidden_size)
        self.atom_steps: Stack[AtomStep] = Stack(AtomStep(hidden_size, n_basis) for _ in range(n_interactions))
        self.probe_steps: Stack[ProbeStep] = Stack(ProbeStep(hidden_size, n_basis) for _ in range(n_interactions))
        self.readout = two_layers(hidden_size, hidden_size, 1, nn.SiLU)

    def begin_at_zero(self) -> None:
        """Begin with a read-out of zero."""
        zero_last_layer(self.readout)

    def encode(self, atoms: AtomGraph) -> PaiNNStates:
        """Compute the atom states after each step, as far as probes read them."""
        edges = self._features(atoms.edge_vectors())
        sender, receiver = atoms.edge_index
        scalar = self.embedding(atoms.numbers)[:, None]  # (n_atoms, 1, H)
        state = torch.cat([scalar, scalar.new_zeros(atoms.n_atoms, 3, self.hidden_size)], dim=1)
        sent = []
        for atom_step, probe_step in zip(self.atom_steps, self.probe_steps, strict=True):
            message = atom_step.message(atom_step.message.sent(state), edges, sender, receiver, atoms.n_atoms)
            state = atom_step.update(state + message)
            sent.append(probe_step.message.sent(state))
        return PaiNNStates(atoms.positions, sent)

    def decode(self, states: PaiNNStates, probes: ProbeGraph) -> Tensor:
        """Density (n_probes,) in e/Å³."""
        edges = self._features(probes.edge_vectors(states.positions))
        sender = probes.edge_index[0]

        def density(receiver: Tensor, n_probes: int) -> Tensor:
            state = edges.basis.new_zeros(n_probes, 4, self.hidden_size)
            for step, sent in zip(self.probe_steps, states.sent, strict=True):
                state = step(state, step.message(sent, edges, sender, receiver, n_probes))
            return self.readout(state[:, 0]).squeeze(-1)

        return with_shared_lonely_probe(density, probes)

    def _features(self, vectors: Tensor) -> EdgeFeatures:
        """Expand edge vectors (n_edges, 3) in Å."""
        distances = safe_norm(vectors)
        direction = (vectors / distances[:, None])[:, :, None]
        return EdgeFeatures(self.basis(distances), self.cosine_cutoff(distances)[:, None], direction)
