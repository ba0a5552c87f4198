"""SchNet between paper and released code: each difference is a switch of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepdft.graph.batch import AtomGraph
from deepdft.models import schnet
from deepdft.models.schnet_released import ProbeStep, SchNetReleased
from deepdft.nn.activations import Activation, ShiftedSoftplus, Softplus
from deepdft.nn.gates import gated_update
from deepdft.nn.interpolation import Tabulated
from deepdft.nn.mlp import Stack
from deepdft.nn.radial import filter_networks, safe_norm
from deepdft.nn.scatter import filtered_sum


class SenderMessage(schnet.Message):
    """The paper's message, called as the released one."""

    def forward(
        self, sent: Tensor, state: Tensor, filters: Tensor | Tabulated, edge_index: Tensor, n_receivers: int
    ) -> Tensor:
        return filtered_sum(sent, filters, *edge_index, n_receivers)


class MessageGatedStep(ProbeStep):
    """The released probe step with the paper's gate, which looks at the message."""

    def forward(self, state: Tensor, message: Tensor) -> Tensor:
        return gated_update(self.gate.last(message), state, self.update.last(message))


class Hybrid(SchNetReleased):
    """The released model where all switches are on, the paper's where all are off.

    Args:
        shifted: g is shifted soft-plus.
        open_filter: no g after the filter network.
        state_gate: the gate looks at the probe's state instead of the message.
        late: probes read atom states after each step instead of before it.
        pair: messages see sender and receiver through two layers, instead of the sender through one linear map.
    """

    def __init__(
        self,
        *,
        shifted: bool,
        open_filter: bool,
        state_gate: bool,
        late: bool,
        pair: bool,
        hidden_size: int = 128,
        n_interactions: int = 6,
    ) -> None:
        super().__init__(hidden_size=hidden_size, n_interactions=n_interactions)
        self.late = late
        n_basis = self.radial.basis.size
        if not state_gate:
            self.probe_steps = Stack(MessageGatedStep(hidden_size, n_basis) for _ in range(n_interactions))
        for step in (*self.atom_steps, *self.probe_steps):
            if not pair:
                step.message = SenderMessage(hidden_size, n_basis, ShiftedSoftplus)
            two_layers = step.message.filter if pair else step.message.filter[0]
            step.message.filter = two_layers if open_filter else nn.Sequential(two_layers, Softplus())
        _replace_activations(self, ShiftedSoftplus if shifted else Softplus)
        if not late:
            del self.atom_steps[-1]  # no probe would read what it makes
        with torch.no_grad():  # all begin near empty space, as the paper's model does here
            for parameter in self.readout[-1].parameters():
                parameter.mul_(0.1)

    def encode(self, atoms: AtomGraph) -> schnet.SchNetStates:
        states = [self.embedding(atoms.numbers)]
        all_filters = self.radial.filters(safe_norm(atoms.edge_vectors()), filter_networks(self.atom_steps))
        for step, filters in zip(self.atom_steps, all_filters, strict=True):
            state, message = states[-1], step.message
            summed = message(message.sent(state), state, filters, atoms.edge_index, atoms.n_atoms)
            states.append(state + step.update(summed))
        read = states[1:] if self.late else states
        sent = [step.message.sent(state) for step, state in zip(self.probe_steps, read, strict=True)]
        return schnet.SchNetStates(atoms.positions, sent, self.radial.tables(filter_networks(self.probe_steps)))


def _replace_activations(module: nn.Module, activation: type[Activation]) -> None:
    for name, child in module.named_children():
        if isinstance(child, Activation):
            setattr(module, name, activation())
        else:
            _replace_activations(child, activation)
