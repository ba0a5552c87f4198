"""Measures of a density and its spin density, against sums written out directly."""

import ase
import numpy as np
import pytest
import torch

from deepdft.comparison import Comparison, PointSums
from deepdft.density import Grid
from deepdft.measures import EPS_MAE, MEASURES, flatten, measures_of, summarise

GRID = Grid(ase.Atoms("NO", [[2, 2, 2], [3, 2, 2]], cell=[[5, 0, 0], [1, 6, 0], [0, 0, 7]], pbc=True), (6, 7, 8))


def compare(seed=0, moment=1.0):
    """Random densities of two channels and their prediction on a grid."""
    generator = np.random.default_rng(seed)
    reference = {"total": generator.gamma(1.0, 0.1, 336), "difference": moment * generator.normal(0.01, 0.05, 336)}
    predicted = {name: values + generator.normal(0, 0.02, 336) for name, values in reference.items()}
    sums = {name: PointSums.over(predicted[name], reference[name]) for name in reference}
    return Comparison(sums, grid=GRID, predicted=predicted, reference=reference), predicted, reference


def value(name, comparison):
    (measure,) = [measure for measure in MEASURES if measure.name == name]
    terms = measure.terms(comparison)
    return None if terms is None else measure.value(*terms)


def test_the_measures_of_the_spin_density_are_the_integrals_of_their_definitions():
    comparison, predicted, reference = compare()
    p, m, voxel = predicted["difference"], reference["difference"], 210.0 / 336
    expected = {
        "eps_mae_difference": 100 * np.abs(p - m).sum() / np.abs(m).sum(),
        "difference_error_per_electron": 100 * np.abs(p - m).sum() / reference["total"].sum(),
        "moment": voxel * m.sum(),
        "moment_error": voxel * (p - m).sum(),
        "absolute_moment": voxel * np.abs(m).sum(),
        "absolute_moment_error": voxel * (np.abs(p).sum() - np.abs(m).sum()),
    }
    assert {m.name for m in MEASURES if m.channel == "difference"} == set(expected)
    assert {name: value(name, comparison) for name in expected} == pytest.approx(expected, rel=1e-12)


def test_without_a_moment_there_is_no_relative_error_of_the_spin_density_but_one_per_electron():
    comparison, predicted, reference = compare(moment=0.0)
    assert value("eps_mae_difference", comparison) is None
    per_electron = 100 * np.abs(predicted["difference"]).sum() / reference["total"].sum()
    assert value("difference_error_per_electron", comparison) == pytest.approx(per_electron)


def test_sums_over_chunks_add_up_and_are_the_same_in_torch():
    _, predicted, reference = compare()
    p, r = predicted["total"], reference["total"]
    whole = PointSums.over(p, r)
    chunks = PointSums.over(p[:100], r[:100]) + PointSums.over(p[100:], r[100:])
    tensors = PointSums.over(torch.from_numpy(p), torch.from_numpy(r))
    for name, expected in vars(whole).items():
        assert getattr(chunks, name) == pytest.approx(expected, rel=1e-12)
        assert float(getattr(tensors, name)) == pytest.approx(expected, rel=1e-12)


def test_crystals_have_no_dipole_error_and_molecules_have_one():
    comparison, predicted, reference = compare()
    assert value("dipole_error", comparison) is None
    atoms = GRID.atoms.copy()
    atoms.pbc = False
    grid = Grid(atoms, GRID.shape)
    molecule = Comparison(comparison.sums, grid=grid, predicted=predicted, reference=reference)
    centre = (7 * atoms.positions[0] + 8 * atoms.positions[1]) / 15
    error = predicted["total"] - reference["total"]
    expected = np.linalg.norm(error @ (grid.points() - centre)) * grid.voxel_volume
    assert value("dipole_error", molecule) == pytest.approx(expected, rel=1e-10)


def test_the_hartree_error_is_per_electron_of_the_reference():
    comparison, _, reference = compare()
    numerator, electrons = next(m for m in MEASURES if m.name == "hartree_error").terms(comparison)
    assert electrons == pytest.approx(reference["total"].sum() * 210.0 / 336)
    assert numerator > 0


def test_points_without_a_grid_have_only_what_needs_no_grid():
    names = [measure.name for measure in measures_of(["total"], whole_grid=False)]
    assert names == ["eps_mae", "mae", "rmse"]
    assert [m.name for m in measures_of(["total"])] == [m.name for m in MEASURES if m.channel == "total"]


def test_names_labels_and_definitions_are_complete_and_unique():
    for attribute in ("name", "label", "meaning"):
        found = [getattr(measure, attribute) for measure in MEASURES]
        assert len(set(found)) == len(found)
        assert all(found)
    assert all(measure.unit for measure in MEASURES)


def test_a_summary_has_statistics_over_structures_and_the_pooled_value():
    found = summarise(EPS_MAE, [(1.0, 100.0), (6.0, 200.0)])
    assert found == pytest.approx({"mean": 2.0, "median": 2.0, "p99": 1 + 0.99 * 2, "max": 3.0, "pooled": 700 / 300})
    flat = flatten({"eps_mae": found, "rmse": 0.5, "n_structures": 2}, MEASURES)
    assert flat["eps_mae_pooled"] == found["pooled"]
    assert flat["rmse"] == 0.5
    assert "n_structures" not in flat
