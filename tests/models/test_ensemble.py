"""An ensemble predicts the mean of its members, and its spread is their ε_mad."""

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

import deepdft
from deepdft.checkpoint import Checkpoint, build_model, load_checkpoint, save_checkpoint
from deepdft.density import DensityGrid, Grid
from deepdft.evaluation.errors import StructureErrors, structure_errors
from deepdft.evaluation.summary import calibrate
from deepdft.inference.predictor import Predictor
from deepdft.inference.uncertainty import predict_with_uncertainty
from deepdft.metrics import eps_mad, eps_mae
from deepdft.models.ensemble import Ensemble
from deepdft.runs.predict import PredictionFiles, predict_to_files

CONFIG = {"_target_": "deepdft.models.schnet.SchNet", "hidden_size": 8, "n_interactions": 2, "cutoff": 3.0}


def random_model(seed, **changes):
    torch.manual_seed(seed)
    return build_model({**CONFIG, **changes}).eval()


@pytest.fixture
def members():
    return [random_model(seed) for seed in range(3)]


@pytest.fixture
def files(tmp_path, members):
    for i, model in enumerate(members):
        info = {"elements": [[1, 6, 8], [1, 8], [1, 7, 8]][i], "valences_from": "here"}
        save_checkpoint(tmp_path / f"{i}.ckpt", Checkpoint(model, CONFIG, pbc=False, info=info))
    return [tmp_path / f"{i}.ckpt" for i in range(3)]


@pytest.fixture
def grid():
    return Grid(molecule("H2O", vacuum=2.0), (10, 12, 11))


def each(members, grid):
    """(K, n, C) densities of the members, one model at a time."""
    return np.stack(
        [Predictor(model, pbc=False).encode(grid.atoms).density(grid.points()).astype(float) for model in members]
    )


def test_the_prediction_is_the_mean_of_the_members(members, grid):
    found = Predictor(Ensemble(members).eval(), pbc=False).predict_points(grid.atoms, grid.points())
    np.testing.assert_allclose(found, each(members, grid)[:, :, 0].mean(axis=0), atol=1e-6)


def test_an_ensemble_is_a_model_of_two_channels_too(grid):
    members = [random_model(seed, channels=["total", "difference"]) for seed in range(2)]
    result = predict_with_uncertainty(Ensemble(members).eval(), grid, pbc=False)
    expected = each(members, grid).mean(axis=0)
    assert result.density.channel_names == ("total", "difference")
    np.testing.assert_allclose(result.density.channel("difference").ravel(), expected[:, 1], atol=1e-6)


def test_the_uncertainty_is_the_deviation_of_the_members(members, grid):
    result = predict_with_uncertainty(Ensemble(members, spread_scale=1.5).eval(), grid, pbc=False)
    densities = each(members, grid)[:, :, 0]
    np.testing.assert_allclose(result.density.values.ravel(), densities.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(result.std.values.ravel(), densities.std(axis=0, ddof=1), atol=1e-6)
    # eps_mad divides by the integral of a reference: the mean, as a density of its own
    with_mean = eps_mad(densities) * np.abs(densities[0]).sum() / np.abs(densities.mean(axis=0)).sum()
    assert result.spread == pytest.approx(with_mean, rel=1e-5)
    assert result.expected_eps_mae == pytest.approx(1.5 * with_mean, rel=1e-5)
    assert predict_with_uncertainty(Ensemble(members).eval(), grid, pbc=False).expected_eps_mae is None
    with pytest.raises(ValueError, match="SchNet is no ensemble"):
        predict_with_uncertainty(members[0], grid, pbc=False)


def test_an_evaluation_has_the_error_of_the_mean_and_the_spread(members, grid):
    generator = np.random.default_rng(0)
    reference = DensityGrid(generator.gamma(0.5, 0.2, grid.shape).astype(np.float32), grid.atoms)
    errors = structure_errors(Ensemble(members, spread_scale=2.0).eval(), reference, pbc=False)
    densities = each(members, grid)[:, :, 0]
    assert errors.eps_mae == pytest.approx(eps_mae(densities.mean(axis=0), reference.values.ravel()), rel=1e-5)
    spread = predict_with_uncertainty(Ensemble(members).eval(), grid, pbc=False).spread
    assert errors["spread"] == pytest.approx(spread, rel=1e-5)
    assert errors["expected_eps_mae"] == pytest.approx(2 * spread, rel=1e-5)
    single = structure_errors(members[0], reference, pbc=False)
    assert "spread" not in single.values


def test_several_checkpoints_are_an_ensemble_that_is_saved_as_one(files, members, grid, tmp_path):
    for given in (files, f"[{','.join(map(str, files))}]"):
        checkpoint = load_checkpoint(given)
        assert isinstance(checkpoint.model, Ensemble)
        assert (checkpoint.pbc, checkpoint.info["elements"]) == (False, [1, 8])
        assert checkpoint.info["valences_from"] == "here"
    save_checkpoint(tmp_path / "ensemble.ckpt", checkpoint)
    again = load_checkpoint(tmp_path / "ensemble.ckpt")
    points = grid.points()[::7]
    np.testing.assert_array_equal(
        Predictor(again.model, pbc=False).predict_points(grid.atoms, points),
        Predictor(checkpoint.model, pbc=False).predict_points(grid.atoms, points),
    )


def test_members_on_a_baseline_are_members_too(tmp_path):
    config = {**CONFIG, "baseline": "fitted"}
    for seed in range(2):
        torch.manual_seed(seed)
        save_checkpoint(tmp_path / f"{seed}.ckpt", Checkpoint(build_model(config), config))
    ensemble = load_checkpoint([tmp_path / "0.ckpt", tmp_path / "1.ckpt"])
    save_checkpoint(tmp_path / "both.ckpt", ensemble)
    again = load_checkpoint(tmp_path / "both.ckpt")
    for name, weight in ensemble.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], weight, rtol=0, atol=0)


def test_what_is_no_ensemble_is_refused(files, members, tmp_path):
    with pytest.raises(ValueError, match="one comes twice"):
        load_checkpoint([files[0], files[0]])
    with pytest.raises(ValueError, match="at least two models, got 1"):
        load_checkpoint([files[0]])
    with pytest.raises(ValueError, match=r"same cutoff, got 3\.0, 4\.0"):
        Ensemble([members[0], random_model(0, cutoff=4.0)])
    save_checkpoint(tmp_path / "periodic.ckpt", Checkpoint(members[1], CONFIG, pbc=None))
    with pytest.raises(ValueError, match=r"alike, got pbc=false in .*0\.ckpt, pbc=null in .*periodic\.ckpt"):
        load_checkpoint([files[0], tmp_path / "periodic.ckpt"])
    with pytest.raises(ValueError, match="spread_scale is a number above zero"):
        Ensemble(members, spread_scale=-1.0)


def row(spread, error, expected=None):
    terms = {"eps_mae": (error, 100.0), "spread": (spread, 100.0)}
    if expected is not None:
        terms["expected_eps_mae"] = (expected, 100.0)
    return StructureErrors(0, "s", "H2O", 3, 100, 100.0, terms)


def test_the_calibration_is_the_median_ratio_of_error_and_spread():
    fit = calibrate([row(1.0, 1.0), row(2.0, 3.0), row(4.0, 20.0)])
    assert (fit["spread_scale"], fit["fitted"]) == (pytest.approx(1.5), True)
    assert fit["rank_correlation"] == pytest.approx(1.0)
    assert fit["coverage_1.5"] == pytest.approx(2 / 3)  # 1.5 for 1, 3 for 3, 6 for 20
    assert fit["coverage_2"] == pytest.approx(2 / 3)
    given = calibrate([row(1.0, 1.0, 1.9), row(2.0, 3.0, 7.0)])
    assert (given["fitted"], given["coverage_1.5"], given["coverage_2"]) == (False, 0.0, 0.5)
    assert given["rank_correlation"] is None  # of two
    assert calibrate([StructureErrors(0, "s", "H2O", 3, 100, 100.0, {"eps_mae": (1.0, 100.0)})]) is None


def test_atoms_outside_the_cell_do_not_matter(members):
    atoms = ase.Atoms("OH", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], cell=np.eye(3) * 6, pbc=False)
    result = predict_with_uncertainty(Ensemble(members).eval(), Grid(atoms, (8, 8, 8)), pbc=False)
    assert (result.std.values >= 0).all()
    assert np.isfinite(result.spread)


@pytest.mark.parametrize(("name", "beside"), [("x.cube", "x_std.cube"), ("CHGCAR", "std.CHGCAR")])
def test_the_uncertainty_is_written_beside_the_density_and_reported(members, tmp_path, capsys, name, beside):
    ensemble = Ensemble(members, spread_scale=2.0).eval()
    predictor, atoms = Predictor(ensemble, pbc=False), molecule("H2O")
    files = PredictionFiles(
        output=tmp_path / name, source="water", model="three", checkpoint="[a,b,c]", uncertainty=True, picture=False
    )
    predict_to_files(predictor, [atoms], files, shape=(10, 12, 11), vacuum=2.0)
    density, std = (deepdft.read_density(tmp_path / file) for file in (name, beside))
    expected = predict_with_uncertainty(ensemble, density.grid, pbc=False)
    np.testing.assert_allclose(density.values, expected.density.values, atol=1e-4)
    np.testing.assert_allclose(std.values, expected.std.values, atol=1e-4)
    assert f"expected ε_mae {expected.expected_eps_mae:.2g} %" in capsys.readouterr().out
    single = Predictor(members[0], pbc=False)
    with pytest.raises(ValueError, match="SchNet is no ensemble"):
        predict_to_files(single, [atoms], files, shape=(10, 12, 11), vacuum=2.0)
