"""The model of Jørgensen & Bhowmik 2020: SchNet-like messages between atoms, and from atoms to probes.

The symbols in comments are those of the paper's equations. The paper writes matrices W; here each is a linear map with
a bias, except W1 (as in SchNet). W1 acts on the sender alone, so it is applied once per atom before messages are
gathered. Atoms and probes take each step together: step t of the probes reads the atom states before step t of the
atoms. No probe ever reads what the last step would make of the atoms, so that step has no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deepdft.density import TOTAL
from deepdft.graph.batch import AtomGraph, ProbeGraph
from deepdft.models.base import N_ELEMENTS, DensityModel, check_counts
from deepdft.nn.activations import Activation, ShiftedSoftplus, Softplus
from deepdft.nn.gates import gated_update
from deepdft.nn.interpolation import Tabulated
from deepdft.nn.mlp import Stack, side_by_side, two_layers, zero_last_layer
from deepdft.nn.radial import GaussianBasis, Radial, RadialFeatures, SoftCutoff, filter_networks, safe_norm
from deepdft.nn.scatter import filtered_sum
from deepdft.nn.unique_probes import decode_unique_probes

__all__ = ["SchNet", "SchNetStates"]


@dataclass(frozen=True)
class SchNetStates:
    """The states of atoms that probes read."""

    positions: Tensor
    """(n_atoms, 3) Å."""
    sent: list[Tensor]
    """Per step, the sender's factor of messages: (n_atoms, H), W1 h of the states before the step."""
    filters: list[Tensor] | None
    """Per step (n_knots, H): the filters over the knots of `Radial`."""


class Message(nn.Module):
    """M(h_w, e_vw) = (W1 h_w) ⊙ c(d_vw) g(W3 g(W2 e_vw)), summed over the senders w (Eq. 1 and 3)."""

    def __init__(self, hidden_size: int, n_basis: int, g: type[Activation]) -> None:
        super().__init__()
        self.sent = nn.Linear(hidden_size, hidden_size, bias=False)  # W1
        self.filter = nn.Sequential(  # g(W3 g(W2 e))
            two_layers(n_basis, hidden_size, hidden_size, g), g()
        )

    def filters(self, edges: RadialFeatures) -> Tensor:
        """c(d) g(W3 g(W2 e)) of each edge (n_edges, H)."""
        return self.filter(edges.basis) * edges.cutoff

    def forward(
        self, sent: Tensor, filters: Tensor | Tabulated, sender: Tensor, receiver: Tensor, n_receivers: int
    ) -> Tensor:
        """Messages summed at their receivers (n_receivers, H), from W1 h of all senders (n_atoms, H)."""
        return filtered_sum(sent, filters, sender, receiver, n_receivers)


class AtomStep(nn.Module):
    """One interaction step of the atoms: h ← h + W5 g(W4 m) (Eq. 4)."""

    def __init__(self, hidden_size: int, n_basis: int, g: type[Activation]) -> None:
        super().__init__()
        self.message = Message(hidden_size, n_basis, g)
        self.update = two_layers(hidden_size, hidden_size, hidden_size, g)  # W5 g(W4 m)


class ProbeStep(nn.Module):
    """One interaction step of the probes: h ← F ⊙ h + (1 - F) ⊙ W9 g(W8 m), F = sigmoid(W7 g(W6 m)) (Eq. 5 and 6)."""

    def __init__(self, hidden_size: int, n_basis: int, g: type[Activation]) -> None:
        super().__init__()
        self.message = Message(hidden_size, n_basis, g)
        self.gate = two_layers(hidden_size, hidden_size, hidden_size, g)  # W7 g(W6 m)
        self.update = two_layers(hidden_size, hidden_size, hidden_size, g)  # W9 g(W8 m)

    def forward(self, state: Tensor, message: Tensor) -> Tensor:
        """New probe states (n_probes, H)."""
        gate, update = side_by_side(self.gate, self.update, message)
        return gated_update(gate, state, update)


class SchNet(DensityModel):
    """DeepDFT as in the paper.

    Args:
        hidden_size: H, length of the states.
        n_interactions: T, number of interaction steps.
        cutoff: length below which atoms and probes are joined to atoms, Å.
        gaussian_width: Δ, distance and width of the Gaussians that expand distances, Å.
        shifted: whether g is soft-plus minus ln 2, as in the released code, instead of the paper's soft-plus.
        channels: names of the densities that are predicted, "total" first.

    Source: Jørgensen & Bhowmik 2020 (arXiv 2011.03346), Eq. 1 to 6.
    """

    def __init__(
        self,
        *,
        hidden_size: int = 128,
        n_interactions: int = 6,
        cutoff: float = 4.0,
        gaussian_width: float = 0.1,
        shifted: bool = False,
        channels: Sequence[str] = (TOTAL,),
    ) -> None:
        super().__init__(cutoff=cutoff, channels=channels)
        check_counts(hidden_size=hidden_size, n_interactions=n_interactions)
        self.hidden_size = hidden_size
        self.receptive_field = n_interactions * cutoff  # n_interactions - 1 rounds between atoms, one to probes
        self.encoding_bytes = 4.0 * hidden_size * (n_interactions + 14)  # measured
        basis, soft_cutoff = GaussianBasis(cutoff, width=gaussian_width), SoftCutoff(cutoff)
        self.radial = Radial(basis, soft_cutoff, cutoff)
        self.cutoff_value = soft_cutoff(torch.tensor(cutoff)).item()  # 5.5e-4, by the paper's design
        self.embedding = nn.Embedding(N_ELEMENTS, hidden_size)
        g = ShiftedSoftplus if shifted else Softplus
        sizes = hidden_size, basis.size
        self.atom_steps: Stack[AtomStep] = Stack(AtomStep(*sizes, g) for _ in range(n_interactions - 1))
        self.probe_steps: Stack[ProbeStep] = Stack(ProbeStep(*sizes, g) for _ in range(n_interactions))
        self.readout = two_layers(hidden_size, hidden_size, len(self.channels), g)
        with torch.no_grad():  # start near the density of empty space, where most points lie
            for parameter in self.readout[-1].parameters():
                parameter.mul_(0.1)

    def zero_init(self) -> None:
        """Start with a readout of zero."""
        zero_last_layer(self.readout)

    def encode(self, atoms: AtomGraph) -> SchNetStates:
        """Compute the atom states of all steps, as far as probes read them."""
        sender, receiver = atoms.edge_index
        all_filters = self.radial.filters(safe_norm(atoms.edge_vectors()), filter_networks(self.atom_steps))
        state = self.embedding(atoms.numbers)  # (n_atoms, H)
        states = [state]
        for step, filters in zip(self.atom_steps, all_filters, strict=True):
            message = step.message(step.message.sent(state), filters, sender, receiver, atoms.n_atoms)
            state = state + step.update(message)
            states.append(state)
        sent = [step.message.sent(state) for step, state in zip(self.probe_steps, states, strict=True)]
        return SchNetStates(atoms.positions, sent, self.radial.tables(filter_networks(self.probe_steps)))

    def invariants(self, states: SchNetStates) -> Tensor:
        """Sender factors of the last step's messages (n_atoms, n)."""
        return states.sent[-1]

    def decode(self, states: SchNetStates, probes: ProbeGraph) -> Tensor:
        """Density (n_probes, n_channels) in e/Å³."""
        distances = safe_norm(probes.edge_vectors(states.positions))
        sender = probes.edge_index[0]

        def density(receiver: Tensor, n_probes: int) -> Tensor:
            state = distances.new_zeros(n_probes, self.hidden_size)
            all_filters = self.radial.filters(distances, filter_networks(self.probe_steps), states.filters)
            for step, sent, filters in zip(self.probe_steps, states.sent, all_filters, strict=True):
                state = step(state, step.message(sent, filters, sender, receiver, n_probes))
            return self.readout(state)

        return decode_unique_probes(density, probes)
