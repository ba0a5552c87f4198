"""Filters interpolated in tables agree with the networks that are tabulated."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from deepdft.nn.activations import Softplus
from deepdft.nn.interpolation import Tabulated
from deepdft.nn.mlp import two_layers
from deepdft.nn.radial import GaussianBasis, Radial, RadialFeatures, SoftCutoff

CUTOFF = 4.0


class Filter(nn.Module):
    """A filter network, with weights several times as large as at the beginning of a training."""

    def __init__(self, n_basis: int) -> None:
        super().__init__()
        self.network = two_layers(n_basis, 32, 32, Softplus)
        with torch.no_grad():
            self.network[0].weight.mul_(5.0)

    def forward(self, features: RadialFeatures) -> Tensor:
        return self.network(features.basis) * features.cutoff


@pytest.fixture(params=[0.1, 0.04])
def radial(request: pytest.FixtureRequest) -> Radial:
    return Radial(GaussianBasis(CUTOFF, width=request.param), SoftCutoff(CUTOFF), CUTOFF).double()


@pytest.fixture
def network(radial: Radial) -> Filter:
    torch.manual_seed(0)
    return Filter(radial.basis.size).double()


def distances() -> Tensor:
    """From zero to the cutoff, ends included."""
    return torch.cat([torch.tensor([1e-6, 1e-3, CUTOFF - 1e-9]).double(), torch.rand(3000).double() * CUTOFF])


def interpolated(radial: Radial, network: Filter, where: Tensor) -> Iterator[Tensor]:
    filters = radial.filters(where, [network], radial.tables([network]))
    return (found.values() if isinstance(found, Tabulated) else found for found in filters)


def test_the_error_is_below_a_millionth_of_the_range(radial: Radial, network: Filter) -> None:
    where = distances()
    with torch.no_grad():
        (found,) = interpolated(radial, network, where)
        exact = network(radial(where))
    assert 0.0 < (found - exact).abs().max() < 1e-6 * (exact.max() - exact.min())


def test_derivatives_with_respect_to_weights_are_those_of_the_network(radial: Radial, network: Filter) -> None:
    where, gradient = distances(), torch.randn(3003, 32).double()
    found = torch.autograd.grad(next(interpolated(radial, network, where)), network.parameters(), gradient)
    exact = torch.autograd.grad(network(radial(where)), network.parameters(), gradient)
    for one, other in zip(found, exact, strict=True):
        assert (one - other).abs().max() < 1e-5 * other.abs().max()


def test_derivatives_with_respect_to_distances_are_exact(radial: Radial, network: Filter) -> None:
    where = distances()[:20].requires_grad_()
    (found,) = interpolated(radial, network, where)
    assert torch.equal(found, network(radial(where)))
    assert torch.autograd.gradcheck(lambda d: next(interpolated(radial, network, d)), where, eps=1e-7, rtol=1e-3)
