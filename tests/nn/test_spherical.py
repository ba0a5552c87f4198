"""Real harmonics against what defines them."""

import numpy as np
import pytest
import torch
from scipy.special import eval_legendre

from deepdft.nn.spherical import orders, solid_harmonics, translated_harmonics


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def test_they_are_orthonormal_on_the_sphere() -> None:
    # Gauss–Legendre in z and equal steps of the angle: exact for polynomials up to degree 9
    z, weights = np.polynomial.legendre.leggauss(5)
    angles = np.arange(10) * 2 * np.pi / 10
    radius = np.sqrt(1 - z**2)[:, None]
    points = np.stack([radius * np.cos(angles), radius * np.sin(angles), z[:, None] * np.ones(10)], axis=-1)
    values = solid_harmonics(torch.from_numpy(points), 4).reshape(-1, 25).numpy()
    overlap = values.T @ (np.repeat(weights / 20, 10)[:, None] * values)
    assert overlap == pytest.approx(np.eye(25), abs=1e-12)


@pytest.mark.parametrize("order", range(5))
def test_the_addition_theorem_holds(order: int) -> None:
    torch.manual_seed(0)
    a, b = (unit(torch.randn(50, 3, dtype=torch.float64)) for _ in range(2))
    own = [i for i, o in enumerate(orders(4)) if o == order]
    products = (solid_harmonics(a, 4) * solid_harmonics(b, 4))[:, own].sum(dim=-1)
    expected = (2 * order + 1) * eval_legendre(order, (a * b).sum(dim=-1).numpy())
    assert products.numpy() == pytest.approx(expected, abs=1e-12)


def test_those_of_order_one_are_the_vector() -> None:
    assert solid_harmonics(torch.tensor([1.0, 2.0, 3.0]), 1).tolist() == pytest.approx(
        [1.0, 2 * 3**0.5, 3 * 3**0.5, 3**0.5]
    )


@pytest.mark.parametrize("order", range(5))
def test_solid_ones_are_homogeneous_and_harmonic(order: int) -> None:
    torch.manual_seed(1)
    x = torch.randn(3, dtype=torch.float64)
    own = [i for i, o in enumerate(orders(order)) if o == order]
    assert torch.allclose(solid_harmonics(2 * x, order)[own], 2**order * solid_harmonics(x, order)[own], rtol=1e-12)
    for i in own:
        hessian = torch.autograd.functional.hessian(lambda v, i=i: solid_harmonics(v, order)[i] + v.sum() * 0, x)
        assert abs(hessian.trace().item()) < 1e-11


def test_an_order_that_is_not_written_out_is_refused() -> None:
    with pytest.raises(ValueError, match="orders 0 to 4, got 5"):
        solid_harmonics(torch.zeros(1, 3), 5)


@pytest.mark.parametrize("order", range(5))
def test_harmonics_about_one_place_are_sums_of_those_about_another(order: int) -> None:
    torch.manual_seed(0)
    positions, x = 4.0 * torch.randn(6, 3, dtype=torch.float64), torch.randn(9, 3, dtype=torch.float64)
    found = translated_harmonics(positions, order) @ solid_harmonics(x.T, order, dim=0)  # (6, functions, 9)
    expected = solid_harmonics(x.T - positions[:, :, None], order, dim=1)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-11 * expected.abs().max().item())
    assert translated_harmonics(positions.float(), order).dtype == torch.float32
