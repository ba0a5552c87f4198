"""`DensityGrid`: positions of grid points, electron count, and what is refused."""

import ase
import numpy as np
import pytest

import deepdft
from deepdft.density import DensityGrid, grid_points, volume

CELL = np.array([[4.0, 0.0, 0.0], [2.5, 4.5, 0.3], [-1.0, 1.5, 5.0]])
ATOMS = ase.Atoms("H", cell=CELL)


def test_points_are_counted_with_z_fastest_from_the_origin():
    density = DensityGrid(np.zeros((2, 3, 4)), ATOMS, origin=np.array([1.0, 2.0, 3.0]))
    points = density.points().reshape(2, 3, 4, 3)
    for i, j, k in np.ndindex(2, 3, 4):
        expected = [1.0, 2.0, 3.0] + i / 2 * CELL[0] + j / 3 * CELL[1] + k / 4 * CELL[2]
        np.testing.assert_allclose(points[i, j, k], expected, atol=1e-12)


@pytest.mark.parametrize("chosen", [slice(5, 11), np.array([3, 0, 23]), slice(None, None, 7)])
def test_some_points_are_those_of_all(chosen):
    density = DensityGrid(np.zeros((2, 3, 4)), ATOMS)
    np.testing.assert_array_equal(density.points(chosen), density.points()[chosen])


def test_points_of_an_empty_choice():
    assert grid_points(CELL, (2, 2, 2), np.zeros(3), np.arange(0)).shape == (0, 3)


@pytest.mark.parametrize("hand", [1, -1])
def test_the_integral_does_not_depend_on_handedness_and_is_summed_in_float64(hand):
    atoms = ase.Atoms("H", cell=CELL * [hand, 1, 1])
    density = DensityGrid(np.full((30, 40, 50), 0.1, dtype=np.float32), atoms)
    assert volume(atoms.cell) == pytest.approx(4.0 * (4.5 * 5.0 - 0.3 * 1.5))
    assert density.n_electrons == pytest.approx(float(np.float32(0.1)) * volume(CELL), rel=1e-12)
    assert density.voxel_volume == pytest.approx(volume(CELL) / 60000)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((2, 3)), {}, r"got shape \(2, 3\)"),
        (np.zeros((2, 0, 3)), {}, r"got shape \(2, 0, 3\)"),
        (np.zeros((2, 2, 2), dtype=int), {}, "floating-point"),
        (np.zeros((2, 2, 2)), {"origin": np.zeros(2)}, "origin"),
        (np.zeros((2, 2, 2)), {"channels": {"difference": np.zeros((2, 2, 3))}}, "'difference' has shape"),
    ],
)
def test_wrong_shapes_are_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        DensityGrid(values, ATOMS, **options)


def test_a_cell_without_volume_is_refused():
    with pytest.raises(ValueError, match="need a cell with a volume"):
        DensityGrid(np.zeros((2, 2, 2)), ase.Atoms("H", cell=[1.0, 1.0, 0.0]))


def test_a_density_shows_itself_in_one_line():
    density = DensityGrid(np.ones((2, 3, 4)), ATOMS, channels={"difference": np.zeros((2, 3, 4))})
    electrons = abs(np.linalg.det(CELL))
    assert repr(density) == f"DensityGrid(H, 2 × 3 × 4 points, {electrons:.4f} electrons, channels difference)"


def test_the_package_lists_its_public_names():
    assert {"Predictor", "read_density", "DensityGrid"} <= set(dir(deepdft))
