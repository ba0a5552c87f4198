"""SchNet meets the contract, and computes the paper's equations as written."""

import ase
import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from deepdft.graph.neighbors import atom_graph, probe_graph, structures_from_atoms
from deepdft.models.schnet import SchNet
from deepdft.testing.contract import STRUCTURES, ModelContract, densities


class TestSchNet(ModelContract):
    def make_model(self) -> SchNet:
        return SchNet(hidden_size=12, n_interactions=3)


class TestShiftedSchNet(ModelContract):
    def make_model(self) -> SchNet:
        return SchNet(hidden_size=12, n_interactions=2, shifted=True)


def linear(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return x @ layer.weight.T + (0.0 if layer.bias is None else layer.bias)


def equations(model: SchNet, atoms: ase.Atoms, point: np.ndarray) -> float:
    """Eq. 1 to 6 for one molecule and one probe, neighbour by neighbour, with every sum a Python loop."""

    def filtered(message, h_w: torch.Tensor, d: float) -> torch.Tensor:
        w2, w3 = message.filter[0][0], message.filter[0][2]
        e = torch.tensor([np.exp(-((d - k * 0.1) ** 2) / (2 * 0.1**2)) for k in range(40)])
        c = 1 - 1 / (1 + np.exp(-5 * (d - (4.0 - 1.5))))
        return linear(message.sent, h_w) * c * softplus(linear(w3, softplus(linear(w2, e))))

    def network(layers, m: torch.Tensor) -> torch.Tensor:
        return linear(layers[2], softplus(linear(layers[0], m)))

    positions = atoms.positions
    h = [model.embedding.weight[z] for z in atoms.numbers]
    probe = torch.zeros(model.hidden_size)
    for t, step in enumerate(model.probe_steps):
        m = torch.zeros(model.hidden_size)
        for w, position in enumerate(positions):
            d = float(np.linalg.norm(point - position))
            if d < 4.0:
                m = m + filtered(step.message, h[w], d)
        forget = torch.sigmoid(network(step.gate, m))
        probe = forget * probe + (1 - forget) * network(step.update, m)
        if t == len(model.atom_steps):
            break
        atom_step, new = list(model.atom_steps)[t], []
        for v, position in enumerate(positions):
            m = torch.zeros(model.hidden_size)
            for w, other in enumerate(positions):
                d = float(np.linalg.norm(position - other))
                if v != w and d < 4.0:
                    m = m + filtered(atom_step.message, h[w], d)
            new.append(h[v] + network(atom_step.update, m))
        h = new
    return network(model.readout, probe).item()


def test_it_computes_the_equations_of_the_paper() -> None:
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    try:
        model = SchNet(hidden_size=10, n_interactions=4)
        atoms, points = STRUCTURES["molecule"], np.array([[0.3, 0.7, 1.1], [4.0, 3.0, 2.0], [30.0, 0.0, 0.0]])
        found = densities(model, [atoms], [points])
        expected = [equations(model, atoms, point) for point in points]
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.numpy() == pytest.approx(expected, rel=1e-10)


def test_the_paper_s_size_is_the_default() -> None:
    model = SchNet()
    assert (len(model.probe_steps), model.hidden_size, model.cutoff, model.radial.basis.size) == (6, 128, 4.0, 40)
    assert model.cutoff_value == pytest.approx(1 / (1 + np.exp(7.5)), rel=1e-5)


def test_every_weight_is_trained() -> None:
    # a weight that no density depends on would stall training on several devices
    model = SchNet(hidden_size=8, n_interactions=3)
    atoms = structures_from_atoms([STRUCTURES["molecule"]])
    points = torch.rand(20, 3) * 4
    probes = probe_graph(atoms, points, torch.zeros(20, dtype=torch.long), model.probe_cutoff)
    model(atom_graph(atoms, model.cutoff), probes).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_a_cutoff_that_is_no_distance_is_refused() -> None:
    with pytest.raises(ValueError, match="cutoff is a distance in Å above zero and up to 100, got 0"):
        SchNet(cutoff=0)
