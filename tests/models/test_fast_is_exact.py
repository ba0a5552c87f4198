"""Densities and gradients with tabulated filters are those of the filter networks evaluated at every edge."""

import pytest
import torch
from torch import Tensor

from deepdft.graph.batch import ProbeGraph
from deepdft.graph.neighbors import atom_graph, probe_graph, structures_from_atoms
from deepdft.models.base import DensityModel
from deepdft.models.painn import PaiNN
from deepdft.models.schnet import SchNet
from deepdft.models.schnet_released import SchNetReleased
from deepdft.testing.contract import STRUCTURES


@pytest.fixture(params=[SchNet, SchNetReleased, PaiNN])
def model(request: pytest.FixtureRequest) -> DensityModel:
    torch.manual_seed(0)
    return request.param(hidden_size=12, n_interactions=3).double()


def loss_and_gradients(model: DensityModel, *, exact: bool) -> tuple[Tensor, list[Tensor]]:
    """Of 200 probes; a graph whose positions want a derivative does without tables."""
    structures = structures_from_atoms(list(STRUCTURES.values()), dtype=torch.float64)
    which = torch.arange(len(STRUCTURES)).repeat_interleave(40)
    points = 6.0 * torch.rand(len(which), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 1.0
    probes = probe_graph(structures, points, which, model.probe_cutoff)
    probes = ProbeGraph(probes.positions.requires_grad_(exact), which, probes.edge_index, probes.edge_shift)
    density = model(atom_graph(structures, model.cutoff), probes)
    return density, list(torch.autograd.grad(density.square().sum(), list(model.parameters())))


def test_density_and_gradients_of_weights_agree(model: DensityModel) -> None:
    (found, gradients), (expected, exact) = (loss_and_gradients(model, exact=e) for e in (False, True))
    assert 0.0 < (found - expected).abs().max() < 1e-6 * expected.abs().max()
    largest = max(gradient.abs().max() for gradient in exact)
    for name, one, other in zip(dict(model.named_parameters()), gradients, exact, strict=True):
        assert (one - other).abs().max() < 1e-5 * largest, name
