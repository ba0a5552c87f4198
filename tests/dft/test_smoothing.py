"""Convolution with a Gaussian: exact for Gaussians, which it widens, in any cell and on any grid."""

import itertools

import numpy as np
import pytest
from scipy.integrate import quad

from deepdft.density import grid_points
from deepdft.dft.smoothing import RadialSmoother, add_around, smooth_periodic

SKEW = np.array([[3.0, 0.0, 0.0], [1.3, 2.9, 0.0], [0.8, -0.6, 3.4]])
LEFT_HANDED = SKEW[[1, 0, 2]]


def images(cell: np.ndarray, shape: tuple[int, int, int], centre: np.ndarray) -> np.ndarray:
    """(27 or more images, points, 3) from a centre and its images to the points of a grid."""
    points = grid_points(cell, shape, np.zeros(3))
    shifts = np.array(list(itertools.product(range(-3, 4), repeat=3))) @ cell
    return points - centre - shifts[:, None]


def gaussian(offsets: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-0.5 * np.sum(offsets**2, axis=-1) / width**2) / (2 * np.pi * width**2) ** 1.5


@pytest.mark.parametrize("cell", [np.eye(3) * 3.2, SKEW, LEFT_HANDED], ids=["cubic", "skew", "left-handed"])
@pytest.mark.parametrize("shape", [(20, 24, 22), (21, 24, 23)], ids=["even", "odd"])
def test_a_periodic_gaussian_becomes_wider(cell: np.ndarray, shape: tuple[int, int, int]) -> None:
    first, sigma, centre = 0.4, 0.25, np.array([0.3, -0.2, 1.7])
    values = gaussian(images(cell, shape, centre), first).sum(axis=0).reshape(shape)
    expected = gaussian(images(cell, shape, centre), np.hypot(first, sigma)).sum(axis=0).reshape(shape)
    np.testing.assert_allclose(smooth_periodic(values, cell, sigma), expected, atol=2e-5)


def test_the_integral_is_kept_for_any_values() -> None:
    values = np.random.default_rng(0).random((9, 10, 11))
    for cell in (SKEW, LEFT_HANDED):
        assert smooth_periodic(values, cell, 0.3).mean() == pytest.approx(values.mean(), rel=1e-12)


def solid_gaussians(offsets: np.ndarray, width: float) -> list[np.ndarray]:
    """1, z, and x² - y² times a Gaussian: degrees 0, 1 and 2."""
    x, y, z = np.moveaxis(offsets, -1, 0)
    shape = gaussian(offsets, width)
    return [shape, z * shape, (x**2 - y**2) * shape]


LM = [0, 2, 8]  # where the three stand among nine functions


def harmonics(directions: np.ndarray, count: int) -> np.ndarray:
    x, y, z = directions.T
    values = np.zeros((len(directions), count))
    for index, value in zip(LM, (np.ones_like(x), z, x**2 - y**2), strict=True):
        if index < count:
            values[:, index] = value
    return values


@pytest.mark.parametrize("order", [0, 1, 2])
def test_atomic_functions_of_any_order_become_wider(order: int) -> None:
    """r^l Y_lm Gauss(a) convolved with Gauss(σ) is (a²/b²)^l r^l Y_lm Gauss(b), b² = a² + σ²."""
    width, sigma = 0.15, 0.1
    radii = np.linspace(0, 1.2, 400)
    weights = radii**2 * (radii[1] - radii[0])
    functions = np.zeros((9, 400))
    functions[LM[order]] = radii**order * np.exp(-0.5 * (radii / width) ** 2) / (2 * np.pi * width**2) ** 1.5
    smoother = RadialSmoother(radii, weights, sigma)
    shape, centre = (32, 30, 34), np.array([0.1, 2.8, 3.3])  # it reaches across three faces
    values = np.zeros(shape)
    add_around(values, SKEW, centre, smoother(functions), smoother.cutoff, harmonics)
    wider = np.hypot(width, sigma)
    expected = solid_gaussians(images(SKEW, shape, centre), wider)[order].sum(axis=0).reshape(shape)
    np.testing.assert_allclose(values, expected * (width / wider) ** (2 * order), atol=1e-5 * expected.max())


def test_a_cell_smaller_than_the_function_collects_all_images() -> None:
    width, cell = 0.8, np.eye(3) * 0.9
    radii = np.linspace(0, 5.0, 600)
    function = np.exp(-0.5 * (radii / width) ** 2) / (2 * np.pi * width**2) ** 1.5
    smoother = RadialSmoother(radii, radii**2 * radii[1], 0.1)
    values = np.zeros((6, 6, 6))
    add_around(values, cell, np.full(3, 0.1), smoother(function[None]), smoother.cutoff, harmonics)
    np.testing.assert_allclose(values, 1 / 0.9**3, rtol=1e-3)


def test_a_sharp_shell_keeps_its_integral_on_a_coarse_grid() -> None:
    """An electron in a shell as sharp as 3s of a transition metal, anywhere between the points of 0.2 Å."""
    decay, edge, n = 20.0, 4.0, 20  # 1/Å, Å, points
    radii = np.linspace(0, 1.0, 4000)
    norm = 4 * np.pi * quad(lambda r: r**4 * np.exp(-decay * r), 0, 1.0)[0]
    function = radii**2 * np.exp(-decay * radii) / norm
    smoother = RadialSmoother(radii, radii**2 * radii[1], 0.1)
    for centre in [np.zeros(3), np.full(3, 0.1), *np.random.default_rng(0).uniform(0, 0.2, (4, 3))]:
        values = np.zeros((n, n, n))
        add_around(values, np.eye(3) * edge, centre, smoother(function[None]), smoother.cutoff, harmonics)
        assert values.sum() * (edge / n) ** 3 == pytest.approx(1.0, abs=2e-3)
    distances = np.linalg.norm(grid_points(np.eye(3) * edge, (n, n, n), np.full(3, -2.0)), axis=1)
    sampled = np.interp(distances, radii, function, right=0.0).sum() * (edge / n) ** 3
    assert abs(sampled - 1.0) > 0.1, "sampled at points it is lost"
