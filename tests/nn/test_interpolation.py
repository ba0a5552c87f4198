"""Interpolation in tables agrees with what is tabulated."""

import numpy as np
import torch
from scipy.interpolate import BarycentricInterpolator

from deepdft.nn.interpolation import Interpolation


def test_quintics_are_reproduced_and_everything_else_is_the_quintic_through_six_knots() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(11, 3))
    table[:, 0] = 1.0 - 2.0 * np.arange(11) + 0.3 * np.arange(11) ** 5
    places = np.array([2.0, 2.25, 4.0, 4.999, 5.5, 7.75, 8.0])
    found = Interpolation(torch.from_numpy(places), 11)(torch.from_numpy(table)).numpy()
    np.testing.assert_allclose(found[:, 0], 1.0 - 2.0 * places + 0.3 * places**5, rtol=1e-12)
    for place, value in zip(places, found, strict=True):
        first = min(int(place) - 2, 5)
        expected = BarycentricInterpolator(range(first, first + 6), table[first : first + 6])(place)
        np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_derivatives_with_respect_to_the_table_are_exact() -> None:
    rng = np.random.default_rng(1)
    places = torch.from_numpy(rng.uniform(2.0, 17.0, 50))
    table = torch.from_numpy(rng.normal(size=(20, 2))).requires_grad_()
    assert torch.autograd.gradcheck(Interpolation(places, 20), table)


def test_there_may_be_no_places() -> None:
    table = torch.zeros(8, 3, requires_grad=True)
    found = Interpolation(torch.empty(0), 8)(table)
    assert found.shape == (0, 3)
    found.sum().backward()
    assert table.grad is not None
    assert not table.grad.any()
