"""Validation structures calibrate a checkpoint, and an evaluation says how well errors were expected."""

import csv

import pytest
import torch

import deepdft
from deepdft.checkpoint import Checkpoint, build_model, load_checkpoint, save_checkpoint
from deepdft.data.store import Store
from deepdft.evaluation.errors import StructureErrors, evaluate
from deepdft.evaluation.summary import calibrate
from deepdft.evaluation.trust_record import covering_indices, evenly_spread, sampled_errors

pytestmark = pytest.mark.filterwarnings("ignore::deepdft.errors.InputWarning")  # random weights miscount electrons
CONFIG = {"_target_": "deepdft.models.schnet.SchNet", "hidden_size": 8, "n_interactions": 2, "cutoff": 3.0}


def checkpoint(folder, seed=0):
    torch.manual_seed(seed)
    path = folder / f"{seed}.ckpt"
    save_checkpoint(path, Checkpoint(build_model(CONFIG), CONFIG, pbc=False, info={"elements": [1, 6, 7, 8, 9]}))
    return path


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_validation_structures_calibrate_a_single_model(tiny_store, tmp_path):
    calibration = deepdft.evaluate(checkpoint(tmp_path), tiny_store, subset="validation", output=tmp_path / "v")
    first = table(tmp_path / "v" / "errors.csv")
    assert "expected_eps_mae" not in first[0]
    record = load_checkpoint(tmp_path / "v" / "calibrated.ckpt").info["trust"]
    assert record["expected"]["n_structures"] == len(first) == calibration.summary["n_structures"]
    deepdft.evaluate(tmp_path / "v" / "calibrated.ckpt", tiny_store, subset="train", output=tmp_path / "t")
    rows = table(tmp_path / "t" / "errors.csv")
    predictor = deepdft.Predictor.from_checkpoint(tmp_path / "v" / "calibrated.ckpt")
    store = Store(tiny_store)
    for row in rows:
        trust = predictor.trust(store.atoms(store.index_of(row["name"])))
        assert float(row["expected_eps_mae"]) == pytest.approx(trust.expected_eps_mae, rel=1e-5)
        assert float(row["novelty"]) == pytest.approx(trust.novelty.max(), abs=1e-5)
        assert float(row["outside"]) == trust.outside
    assert {"calibration.png", "errors.csv", "summary.json"} <= {path.name for path in (tmp_path / "t").iterdir()}
    assert "calibrated.ckpt" not in {path.name for path in (tmp_path / "t").iterdir()}


def test_what_is_outside_has_no_expected_error_in_the_table(tiny_store, tmp_path):
    deepdft.evaluate(checkpoint(tmp_path), tiny_store, subset="validation", output=tmp_path / "v")
    info = load_checkpoint(tmp_path / "v" / "calibrated.ckpt").info
    config = load_checkpoint(tmp_path / "v" / "calibrated.ckpt")
    info["trust"]["limit"] = 1e-9  # whatever is no training atom is outside
    save_checkpoint(tmp_path / "strict.ckpt", Checkpoint(config.model, config.config, config.pbc, info))
    result = deepdft.evaluate(tmp_path / "strict.ckpt", tiny_store, output=tmp_path / "t")
    rows = table(tmp_path / "t" / "errors.csv")
    assert "expected_eps_mae" not in rows[0]
    assert all(float(row["novelty"]) > 1 for row in rows)
    assert [row["outside"] for row in rows] == ["1.0", "1.0"]
    assert result.summary["outside"]["mean"] == 1.0
    assert "calibration" not in result.summary


def test_an_ensemble_gets_a_record_and_the_factor_of_its_spread(tiny_store, tmp_path):
    members = [checkpoint(tmp_path, seed) for seed in range(2)]
    deepdft.evaluate(members, tiny_store, subset="validation", output=tmp_path / "v")
    calibrated = load_checkpoint(tmp_path / "v" / "calibrated.ckpt")
    assert calibrated.model.spread_scale > 0
    assert calibrated.info["trust"]["projection"].shape[0] == 16  # the invariants of both members
    calibrated.info["trust"]["limit"] = 1e-9
    save_checkpoint(tmp_path / "strict.ckpt", calibrated)
    strict = deepdft.evaluate(tmp_path / "strict.ckpt", tiny_store, output=tmp_path / "t")
    assert "calibration" not in strict.summary  # no factor is fitted to what is outside


def structure(name, eps_mae, expected=None):
    terms = {"eps_mae": (eps_mae, 100.0)}
    if expected is not None:
        terms["expected_eps_mae"] = (expected, 100.0)
    return StructureErrors(0, name, "H2O", 3, 100, 100.0, terms)


def test_structures_outside_are_counted_and_left_out_of_the_coverage():
    found = calibrate([structure("a", 1.0, 1.0), structure("b", 2.0, 4.5), structure("c", 9.0), structure("d", 3, 2)])
    assert (found["n_expected"], found["n_outside"], found["spread_scale"]) == (3, 1, None)
    assert found["coverage_2"] == pytest.approx(2 / 3)
    assert found["rank_correlation"] == pytest.approx(0.5)


def test_errors_at_some_points_are_those_of_the_grid_where_it_is_small(tiny_store, tmp_path):
    model, store = load_checkpoint(checkpoint(tmp_path)).model, Store(tiny_store)
    sampled = sampled_errors(model, store, [0, 3], pbc=False)
    for row in evaluate(model, store, [0, 3], pbc=False):
        assert sampled[row.index] == pytest.approx(row.eps_mae, rel=1e-5)


def test_the_chosen_training_structures_have_all_elements(tiny_store):
    store = Store(tiny_store)
    chosen = covering_indices(store, range(len(store)), count=5)
    assert len(chosen) <= 5
    assert store.elements(chosen) == store.elements(range(len(store)))
    assert evenly_spread([5, 6, 7, 8, 9], 3) == [5, 7, 9]
