"""`DensityGrid`: positions of grid points, electron count, and what is refused."""

import ase
import numpy as np
import pytest

import deepdft
from deepdft.density import DensityGrid, Grid, grid_points, volume

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
        (np.zeros((2, 2, 2)), {"origin": [0.0, np.nan, 0.0]}, "three finite numbers in Å"),
        (np.zeros((2, 2, 2)), {"channels": {"difference": np.zeros((2, 2, 3))}}, "'difference' has shape"),
        (np.zeros((2, 2, 2)), {"channels": {"total": np.zeros((2, 2, 2))}}, "'total' is `values`"),
        (
            np.zeros((2, 2, 2)),
            {"atom_arrays": {"occupancies": np.zeros((2, 3))}},
            r"'occupancies' of 1 atoms .*\(2, 3\)",
        ),
        (np.zeros((2, 2, 2)), {"atom_arrays": {"occupancies": np.zeros(1)}}, r"\(n_atoms, n_max\), got shape \(1,\)"),
    ],
)
def test_wrong_shapes_are_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        DensityGrid(values, ATOMS, **options)


@pytest.mark.parametrize("cell", [[1.0, 1.0, 0.0], [1.0, 1.0, np.nan], [1e200, 1e200, 1e200]])
def test_a_cell_without_finite_volume_is_refused(cell):
    with pytest.raises(ValueError, match="need a cell with a volume"):
        DensityGrid(np.zeros((2, 2, 2)), ase.Atoms("H", cell=cell))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 0), (2, 3, -1), (2, 3, 4.0), (2, 3, 4, 5)])
def test_the_shape_of_a_grid_is_three_positive_integers(shape):
    with pytest.raises(ValueError, match="at least one point along each edge, got shape"):
        Grid(ATOMS, shape)


def test_a_grid_counts_its_points_either_way():
    grid = Grid(ATOMS, (2, 3, 4), np.array([1.0, 2.0, 3.0]))
    assert (grid.n_points, grid.shape) == (24, (2, 3, 4))
    all_points = grid.points().reshape(2, 3, 4, 3)
    np.testing.assert_array_equal(grid.points(order="F").reshape(4, 3, 2, 3).transpose(2, 1, 0, 3), all_points)
    np.testing.assert_array_equal(grid.points(slice(3, 9), order="F"), grid.points(order="F")[3:9])
    np.testing.assert_allclose(all_points[1, 2, 3] - all_points[0, 1, 2], grid.steps.sum(axis=0), atol=1e-12)


def test_a_grid_has_steps_and_volumes():
    grid = Grid(ATOMS, (2, 3, 4))
    np.testing.assert_allclose(grid.steps, CELL / [[2.0], [3.0], [4.0]])
    np.testing.assert_allclose(grid.spacing, [2.0, np.sqrt(2.5**2 + 4.5**2 + 0.3**2) / 3, np.sqrt(1 + 2.25 + 25) / 4])
    assert grid.volume == pytest.approx(24 * grid.voxel_volume) == pytest.approx(24 * abs(np.linalg.det(grid.steps)))


def test_a_density_has_a_grid_and_named_channels():
    values = np.random.default_rng(0).random((2, 3, 4))
    density = DensityGrid(values, ATOMS, [1.0, 2.0, 3.0], channels={"difference": -values})
    np.testing.assert_array_equal(density.grid.points(), density.points())
    assert density.channel_names == ("total", "difference")
    np.testing.assert_array_equal(density.channel("total"), values)
    np.testing.assert_array_equal(density.stacked(), np.stack([values, -values], axis=-1))
    np.testing.assert_array_equal(density.stacked(["difference"]), -values[..., None])
    with pytest.raises(ValueError, match=r"no channel 'up', only total, difference"):
        density.channel("up")


def test_arrays_of_the_atoms_become_floating_point():
    density = DensityGrid(np.zeros((2, 2, 2)), ATOMS, atom_arrays={"occupancies": [[1, 2, 3]]})
    np.testing.assert_array_equal(density.atom_arrays["occupancies"], np.array([[1.0, 2.0, 3.0]]))


def test_a_density_shows_itself_in_one_line():
    density = DensityGrid(np.ones((2, 3, 4)), ATOMS, channels={"difference": np.zeros((2, 3, 4))})
    electrons = abs(np.linalg.det(CELL))
    assert repr(density) == f"DensityGrid(H, 2 × 3 × 4 points, {electrons:.4f} electrons, channels difference)"


def test_the_package_lists_its_public_names():
    assert {"Predictor", "read_density", "DensityGrid"} <= set(dir(deepdft))
