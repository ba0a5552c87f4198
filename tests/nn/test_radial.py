"""Radial functions against their formulas."""

import numpy as np
import pytest
import torch

from deepdft.nn.radial import CosineCutoff, GaussianBasis, SincBasis, SoftCutoff, safe_norm

D = torch.tensor([0.0, 0.5, 2.31, 3.999], dtype=torch.float64)


def test_gaussians_have_forty_centres_from_zero_below_four() -> None:
    basis = GaussianBasis(4.0).double()
    k = np.arange(40)
    expected = np.exp(-((D.numpy()[:, None] - 0.1 * k) ** 2) / (2 * 0.1**2))
    assert basis.size == 40
    assert basis(D).numpy() == pytest.approx(expected, abs=1e-6)


def test_gaussians_have_no_numbers_that_products_take_a_hundred_times_as_long_with() -> None:
    distances, basis = torch.linspace(0.0, 4.0, 401), GaussianBasis(4.0)
    found, exact = basis(distances), torch.exp(-50.0 * (distances[:, None] - basis.centers).square())
    smallest = torch.finfo(torch.float32).tiny
    assert ((exact > 0.0) & (exact < smallest)).any()
    assert ((found == 0.0) | (found > 1e10 * smallest)).all()
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-20)


def test_sinc_functions_are_sines_over_distance_and_finite_at_zero() -> None:
    basis = SincBasis(4.0, size=30).double()
    n = np.arange(1, 31)
    d = D.numpy()[1:, None]
    assert basis(D)[1:].numpy() == pytest.approx(np.sin(n * np.pi * d / 4.0) / d, abs=1e-9)
    assert basis(D)[0].numpy() == pytest.approx(n * np.pi / 4.0)


def test_cutoffs_take_their_values() -> None:
    assert SoftCutoff(4.0)(D).numpy() == pytest.approx(1 - 1 / (1 + np.exp(-5 * (D.numpy() - 2.5))))
    assert CosineCutoff(4.0)(D).numpy() == pytest.approx(0.5 * (np.cos(np.pi * D.numpy() / 4) + 1))
    assert CosineCutoff(4.0)(torch.tensor([4.0])).item() == pytest.approx(0.0, abs=1e-7)


def test_a_length_of_zero_has_finite_derivatives() -> None:
    vectors = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(safe_norm(vectors).sum(), vectors, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), vectors)
    assert torch.isfinite(first).all()
    assert torch.isfinite(second).all()
    assert safe_norm(torch.tensor([[3.0, 4.0, 0.0]]).double()).item() == pytest.approx(5.0, rel=1e-12)
