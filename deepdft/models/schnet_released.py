"""The SchNet-like model as released, which differs from the paper (deepdft.models.schnet) in what a message is.

The message network sees sender and receiver, its first layer is split so that both halves are applied per vertex; the
gate of a probe looks at the probe's state; probes read the atom states after each step; g is shifted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from deepdft.density import TOTAL
from deepdft.graph.batch import AtomGraph, ProbeGraph
from deepdft.models.base import N_ELEMENTS, DensityModel, check_counts
from deepdft.models.schnet import SchNetStates
from deepdft.nn.activations import ShiftedSoftplus
from deepdft.nn.gates import gated_update
from deepdft.nn.interpolation import Tabulated
from deepdft.nn.mlp import Stack, two_layers, zero_last_layer
from deepdft.nn.radial import GaussianBasis, Radial, RadialFeatures, SoftCutoff, filter_networks, safe_norm
from deepdft.nn.scatter import filtered_sum, softplus_of_pairs
from deepdft.nn.unique_probes import decode_unique_probes

__all__ = ["SchNetReleased"]


class Message(nn.Module):
    """(W2 g(W1 [h_sender, h_receiver] + b1) + b2) ⊙ c(d) (W4 g(W3 e + b3) + b4), summed over the senders."""

    def __init__(self, hidden_size: int, n_basis: int) -> None:
        super().__init__()
        self.filter = two_layers(n_basis, hidden_size, hidden_size, ShiftedSoftplus)
        self.pair = nn.Linear(2 * hidden_size, 2 * hidden_size)  # W1, for sender and receiver
        self.output = nn.Sequential(ShiftedSoftplus(), nn.Linear(2 * hidden_size, hidden_size))

    def sent(self, state: Tensor) -> Tensor:
        """The sender's half of W1 h, with b1 (n, 2H)."""
        return linear(state, self.pair.weight[:, : state.shape[1]], self.pair.bias)

    def received(self, state: Tensor) -> Tensor:
        """The receiver's half of W1 h (n, 2H)."""
        return linear(state, self.pair.weight[:, state.shape[1] :])

    def filters(self, edges: RadialFeatures) -> Tensor:
        """c(d) (W4 g(W3 e + b3) + b4) of each edge (n_edges, H)."""
        return self.filter(edges.basis) * edges.cutoff

    def forward(
        self, sent: Tensor, state: Tensor, filters: Tensor | Tabulated, edge_index: Tensor, n_receivers: int
    ) -> Tensor:
        """Messages summed at their receivers (n_receivers, H).

        Args:
            sent: (n_atoms, 2H), from `sent`.
            state: of the receivers (n_receivers, H), or (1, H) if all are alike.
            filters: (n_edges, H).
            edge_index: (2, n_edges), sender and receiver.
            n_receivers: number of receivers.
        """
        received = self.received(state)
        sender, receiver = edge_index
        if (
            len(received) == 1
        ):  # the receiver enters a message only through the filter: one network evaluation per sender
            return filtered_sum(self.output(sent + received), filters, sender, receiver, n_receivers)
        hidden = softplus_of_pairs(sent, received, sender, receiver, shift=math.log(2.0))  # g(W1 …) (n_edges, 2H)
        each = torch.arange(len(sender), device=sent.device)  # every atom sends to itself
        return filtered_sum(self.output[1](hidden), filters, each, receiver, n_receivers)


class AtomStep(nn.Module):
    """One interaction step of the atoms: h ← h + network(m)."""

    def __init__(self, hidden_size: int, n_basis: int) -> None:
        super().__init__()
        self.message = Message(hidden_size, n_basis)
        self.update = two_layers(hidden_size, hidden_size, hidden_size, ShiftedSoftplus)


class ProbeStep(nn.Module):
    """One interaction step of the probes: h ← F ⊙ h + (1 - F) ⊙ network(m), F = sigmoid(network(h))."""

    def __init__(self, hidden_size: int, n_basis: int) -> None:
        super().__init__()
        self.message = Message(hidden_size, n_basis)
        self.gate = two_layers(hidden_size, hidden_size, hidden_size, ShiftedSoftplus)
        self.update = two_layers(hidden_size, hidden_size, hidden_size, ShiftedSoftplus)

    def forward(self, state: Tensor, message: Tensor) -> Tensor:
        """New probe states (n_probes, H), from states (n_probes, H), or (1, H) if all are equal."""
        return gated_update(self.gate.last(state), state, self.update.last(message))


class SchNetReleased(DensityModel):
    """The SchNet variant of the released DeepDFT code.

    Args:
        hidden_size: H, length of the states.
        n_interactions: number of interaction steps.
        cutoff: length below which atoms and probes are joined to atoms, Å.
        gaussian_width: distance and width of the Gaussians that expand distances, Å.
        channels: names of the densities that are predicted, "total" first.

    Source: the public code of Jørgensen & Bhowmik (github.com/peterbjorgensen/DeepDFT).
    """

    def __init__(
        self,
        *,
        hidden_size: int = 128,
        n_interactions: int = 6,
        cutoff: float = 4.0,
        gaussian_width: float = 0.1,
        channels: Sequence[str] = (TOTAL,),
    ) -> None:
        super().__init__(cutoff=cutoff, channels=channels)
        check_counts(hidden_size=hidden_size, n_interactions=n_interactions)
        self.hidden_size = hidden_size
        self.receptive_field = (n_interactions + 1) * cutoff
        self.encoding_bytes = 4.0 * hidden_size * (2 * n_interactions + 90)  # measured
        basis, soft_cutoff = GaussianBasis(cutoff, width=gaussian_width), SoftCutoff(cutoff)
        self.radial = Radial(basis, soft_cutoff, cutoff)
        self.cutoff_value = soft_cutoff(torch.tensor(cutoff)).item()  # 5.5e-4
        self.embedding = nn.Embedding(N_ELEMENTS, hidden_size)
        n_basis = basis.size
        self.atom_steps: Stack[AtomStep] = Stack(AtomStep(hidden_size, n_basis) for _ in range(n_interactions))
        self.probe_steps: Stack[ProbeStep] = Stack(ProbeStep(hidden_size, n_basis) for _ in range(n_interactions))
        self.readout = two_layers(hidden_size, hidden_size, len(self.channels), ShiftedSoftplus)

    def zero_init(self) -> None:
        """Start with a readout of zero."""
        zero_last_layer(self.readout)

    def encode(self, atoms: AtomGraph) -> SchNetStates:
        """Compute the atom states after each step, as far as probes read them."""
        state = self.embedding(atoms.numbers)  # (n_atoms, H)
        sent = []
        all_filters = self.radial.filters(safe_norm(atoms.edge_vectors()), filter_networks(self.atom_steps))
        for atom_step, probe_step, filters in zip(self.atom_steps, self.probe_steps, all_filters, strict=True):
            message = atom_step.message
            summed = message(message.sent(state), state, filters, atoms.edge_index, atoms.n_atoms)
            state = state + atom_step.update(summed)
            sent.append(probe_step.message.sent(state))
        return SchNetStates(atoms.positions, sent, self.radial.tables(filter_networks(self.probe_steps)))

    def invariants(self, states: SchNetStates) -> Tensor:
        """Sender factors of the last step's messages (n_atoms, n)."""
        return states.sent[-1]

    def decode(self, states: SchNetStates, probes: ProbeGraph) -> Tensor:
        """Density (n_probes, n_channels) in e/Å³."""
        distances = safe_norm(probes.edge_vectors(states.positions))
        sender = probes.edge_index[0]

        def density(receiver: Tensor, n_probes: int) -> Tensor:
            edge_index = torch.stack([sender, receiver])
            state = distances.new_zeros(1, self.hidden_size)  # all are equal at first
            all_filters = self.radial.filters(distances, filter_networks(self.probe_steps), states.filters)
            for step, sent, filters in zip(self.probe_steps, states.sent, all_filters, strict=True):
                state = step(state, step.message(sent, state, filters, edge_index, n_probes))
            return self.readout(state)

        return decode_unique_probes(density, probes)
