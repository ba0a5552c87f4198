"""Errors over full grids, against sums written out directly."""

import csv

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

from deepdft.density import DensityGrid
from deepdft.evaluation.errors import evaluate, structure_errors, write_csv
from deepdft.models.base import DensityModel


class Constant(DensityModel):
    """The same density everywhere."""

    def __init__(self, value=0.25):
        super().__init__(cutoff=3.0)
        self.value = torch.nn.Parameter(torch.tensor(value))
        self.largest = 0

    def encode(self, atoms):
        return None

    def decode(self, states, probes):
        self.largest = max(self.largest, probes.n_probes)
        return self.value.expand(probes.n_probes, 1)


class Listed:
    """As much of a store as an evaluation uses."""

    def __init__(self, densities):
        self.densities = densities
        self.names = [f"structure {i}" for i in range(len(densities))]
        self.labels = []

    def density(self, index, label=None):
        self.labels.append(label)
        return self.densities[index]


def random_density(seed=0, shape=(7, 8, 9)):
    cell = [[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.5, -1.0, 6.0]]
    values = np.random.default_rng(seed).gamma(0.5, 0.5, shape).astype(np.float32)
    return DensityGrid(values, ase.Atoms("CHOH", positions=np.eye(4, 3) * 2, cell=cell, pbc=True))


def test_the_errors_of_a_structure_are_the_sums_of_their_definitions():
    reference = random_density()
    errors = structure_errors(Constant(), reference, index=3, name="CH2O")
    rho = reference.values.astype(np.float64)
    voxel = 4.0 * 5.0 * 6.0 / rho.size
    assert errors.eps_mae == pytest.approx(100 * np.abs(0.25 - rho).sum() / rho.sum(), rel=1e-10)
    assert errors["mae"] == pytest.approx(np.abs(0.25 - rho).mean(), rel=1e-10)
    assert errors["rmse"] == pytest.approx(np.sqrt(((0.25 - rho) ** 2).mean()), rel=1e-10)
    assert errors["electron_error"] == pytest.approx(0.25 * 120.0 - rho.sum() * voxel, rel=1e-10)
    assert errors.n_electrons == pytest.approx(rho.sum() * voxel, rel=1e-10)
    absolute, density = errors.terms["eps_mae"]
    assert absolute == pytest.approx(np.abs(0.25 - rho).sum() * voxel, rel=1e-10)
    assert density == pytest.approx(rho.sum() * voxel, rel=1e-10)
    assert errors.n_electrons_predicted == pytest.approx(0.25 * 120.0, rel=1e-6)
    assert (errors.index, errors.name, errors.formula) == (3, "CH2O", "CH2O")
    assert (errors.n_atoms, errors.n_points) == (4, 504)


def test_the_scaled_error_is_that_of_a_prediction_with_the_right_number_of_electrons():
    density = random_density()
    rho = density.values.astype(np.float64)
    expected = 100 * np.abs(rho.mean() - rho).sum() / rho.sum()
    for value in (0.25, 3.0):  # any constant is scaled to the mean
        assert structure_errors(Constant(value), density)["eps_mae_scaled"] == pytest.approx(expected, rel=1e-7)
    assert structure_errors(Constant(0.0), density)["eps_mae_scaled"] == pytest.approx(100.0)
    negative = structure_errors(Constant(-1.0), density)
    assert negative["eps_mae_scaled"] == negative.eps_mae


def test_a_prediction_of_zero_is_wrong_by_100_percent():
    assert structure_errors(Constant(0.0), random_density()).eps_mae == pytest.approx(100.0)


def test_a_negative_reference_counts_with_its_absolute_value():
    density = random_density()
    density.values[:3] *= -1
    rho = density.values.astype(np.float64)
    expected = 100 * np.abs(0.25 - rho).sum() / np.abs(rho).sum()
    assert structure_errors(Constant(), density).eps_mae == pytest.approx(expected, rel=1e-10)


def test_points_are_predicted_in_slices_and_none_is_left_out(monkeypatch):
    whole = structure_errors(Constant(), random_density(shape=(9, 10, 11)))
    monkeypatch.setattr("deepdft.chunks.CPU.edges_searched", 1)
    model = Constant()
    sliced = structure_errors(model, random_density(shape=(9, 10, 11)))
    assert model.largest == 256
    assert sliced.eps_mae == pytest.approx(whole.eps_mae, rel=1e-12)


def test_sums_do_not_lose_small_errors_beside_large_densities():
    values = np.full((50, 50, 50), 0.25, dtype=np.float32)
    values[::2] += np.float32(2.0**-20)
    density = DensityGrid(values, ase.Atoms("H", cell=np.eye(3) * 5, pbc=True))
    assert structure_errors(Constant(), density)["mae"] == pytest.approx(2.0**-21, rel=1e-12)


def test_a_prediction_that_is_not_finite_is_named():
    with pytest.raises(ValueError, match="water: the predicted density is not finite"):
        structure_errors(Constant(float("nan")), random_density(), name="water")


def test_a_reference_of_zero_is_named():
    density = DensityGrid(np.zeros((4, 4, 4)), molecule("H2O", vacuum=2.0))
    with pytest.raises(ValueError, match="water: the reference density is zero"):
        structure_errors(Constant(), density, name="water")


def test_an_evaluation_visits_the_positions_it_is_given_and_passes_the_label_on():
    store = Listed([random_density(seed) for seed in range(4)])
    rows = list(evaluate(Constant(), store, [3, 1], label="PBE"))
    assert [row.index for row in rows] == [3, 1]
    assert [row.name for row in rows] == ["structure 3", "structure 1"]
    assert store.labels == ["PBE", "PBE"]
    assert rows[0].eps_mae == pytest.approx(structure_errors(Constant(), random_density(3)).eps_mae)


def test_the_table_has_the_promised_columns_and_exact_numbers(tmp_path):
    row = structure_errors(Constant(), random_density(), name="a, b")
    write_csv(tmp_path / "errors.csv", [row])
    with (tmp_path / "errors.csv").open(newline="") as file:
        (read,) = csv.DictReader(file)
    assert tuple(read) == (
        *("name", "formula", "n_atoms", "n_points", "n_electrons"),
        *("eps_mae", "eps_mae_scaled", "mae", "rmse", "electron_error", "hartree_error"),
    )
    assert read["name"] == "a, b"
    assert float(read["eps_mae"]) == row.eps_mae
