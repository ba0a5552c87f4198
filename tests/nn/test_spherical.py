"""Real harmonics against what defines them."""

import numpy as np
import pytest
import torch
from scipy.special import eval_legendre

from deepdft.nn import spherical
from deepdft.nn.spherical import (
    degrees,
    harmonics_as_monomials,
    monomial_factors,
    products_on_sphere,
    solid_harmonics,
    translated_harmonics,
)


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
    own = [i for i, o in enumerate(degrees(4)) if o == order]
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
    own = [i for i, o in enumerate(degrees(order)) if o == order]
    assert torch.allclose(solid_harmonics(2 * x, order)[own], 2**order * solid_harmonics(x, order)[own], rtol=1e-12)
    for i in own:
        hessian = torch.autograd.functional.hessian(lambda v, i=i: solid_harmonics(v, order)[i] + v.sum() * 0, x)
        assert abs(hessian.trace().item()) < 1e-11


def test_a_degree_that_is_not_written_out_is_refused() -> None:
    with pytest.raises(ValueError, match="degrees 0 to 4, got 5"):
        solid_harmonics(torch.zeros(1, 3), 5)


@pytest.mark.parametrize("order", range(5))
def test_harmonics_about_one_place_are_sums_of_those_about_another(order: int) -> None:
    torch.manual_seed(0)
    positions, x = 4.0 * torch.randn(6, 3, dtype=torch.float64), torch.randn(9, 3, dtype=torch.float64)
    found = translated_harmonics(positions, order) @ solid_harmonics(x.T, order, dim=0)  # (6, functions, 9)
    expected = solid_harmonics(x.T - positions[:, :, None], order, dim=1)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-11 * expected.abs().max().item())
    assert translated_harmonics(positions.float(), order).dtype == torch.float32


@pytest.mark.parametrize("order", [1, 2])
def test_products_are_those_of_functions_on_the_sphere(order: int) -> None:
    torch.manual_seed(0)
    n = (order + 1) ** 2
    u, v = torch.randn(2, 3, n - 1, 4, dtype=torch.float64)
    directions = unit(torch.randn(200, 3, dtype=torch.float64))
    values = solid_harmonics(directions, order)[:, 1:]
    # the product has degrees up to 2L, which are all written out
    whole = torch.linalg.lstsq(solid_harmonics(directions, 2 * order).expand(3, -1, -1), (values @ u) * (values @ v))
    assert torch.allclose(products_on_sphere(u, v, order), whole.solution[:, 1:n], atol=1e-12)


@pytest.mark.parametrize("order", [3, 4])
def test_a_product_turns_with_its_factors(order: int) -> None:
    torch.manual_seed(1)
    u, v = torch.randn(2, 1, (order + 1) ** 2 - 1, 1, dtype=torch.float64)
    directions = unit(torch.randn(500, 3, dtype=torch.float64))
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    plain, turned = (solid_harmonics(points, order)[:, 1:] for points in (directions, directions @ turn.T))
    matrix = torch.linalg.lstsq(plain, turned).solution.T  # Y(Q r) = M Y(r)
    product, of_turned = products_on_sphere(u, v, order), products_on_sphere(matrix.T @ u, matrix.T @ v, order)
    assert product.abs().max() > 0.1
    assert torch.allclose(of_turned, matrix.T @ product, atol=1e-12)


def test_what_was_first_made_without_derivatives_has_them_later() -> None:
    spherical._quadrature.cache_clear()
    spherical._places.cache_clear()
    u = torch.randn(2, 8, 4)
    with torch.inference_mode():
        products_on_sphere(u, u, 2)
        translated_harmonics(torch.zeros(1, 3), 2)
    a = torch.ones(1, 3, requires_grad=True)
    translated_harmonics(a, 2).sum().backward()
    assert a.grad is not None
    u.requires_grad_()
    products_on_sphere(u, u, 2).sum().backward()
    assert u.grad is not None
    assert u.grad.abs().max() > 0.0


@pytest.mark.parametrize("order", range(5))
def test_solid_harmonics_are_sums_of_monomials(order: int) -> None:
    x, y, z = points = torch.randn(3, 20, dtype=torch.float64)
    powers = [(a, b, c) for a in range(order + 1) for b in range(order + 1 - a) for c in range(order + 1 - a - b)]
    monomials = torch.stack([x**a * y**b * z**c for a, b, c in powers])
    expected = solid_harmonics(points, order, dim=0)
    torch.testing.assert_close(harmonics_as_monomials(order) @ monomials, expected, rtol=1e-10, atol=1e-10)

    products = [torch.ones_like(x)]
    for lower, coordinate in monomial_factors(order)[1:].tolist():
        products.append(products[lower] * points[coordinate])
    torch.testing.assert_close(torch.stack(products), monomials)
