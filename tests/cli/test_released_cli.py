"""A folder of the released code, through the commands: predicted with, evaluated, exported, trained on."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from deepdft import read_density
from deepdft.checkpoint import load_checkpoint
from deepdft.inference.predictor import Predictor

FIXTURES = Path(__file__).parents[1] / "models/fixtures"
Run = Callable[..., None]


@pytest.fixture(params=["schnet", "painn"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def released(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "released"
    folder.mkdir()
    with np.load(FIXTURES / f"released_{kind}_molecule.npz") as file:
        (folder / "arguments.json").write_text(str(file["arguments"]))
        weights = {name[8:]: torch.from_numpy(file[name]) for name in file.files if name.startswith("weights/")}
    torch.save({"model": weights, "step": 5}, folder / "best_model.pth")
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0.119\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(command: str, *overrides: object) -> None:
        monkeypatch.setattr(sys, "argv", [f"deepdft-{command}", *map(str, overrides)])
        importlib.import_module(f"deepdft.cli.{command}").main()

    return run


def test_it_predicts_and_becomes_our_checkpoint(released: Path, run: Run) -> None:
    grid = ["structure=water.xyz", "spacing=0.6", "picture=false"]
    run("predict", f"checkpoint={released}", *grid, "output=first.h5", "export_checkpoint=ours.ckpt")
    run("predict", "checkpoint=ours.ckpt", *grid, "output=second.h5")
    first, second = read_density("first.h5"), read_density("second.h5")
    np.testing.assert_array_equal(second.values, first.values)
    expected = Predictor.from_checkpoint(released).predict(first.atoms, shape=first.values.shape)
    assert np.ptp(first.values) > 1e-4
    np.testing.assert_allclose(first.values, expected.values, rtol=0.0, atol=1e-6)


def test_it_is_evaluated(released: Path, run: Run, tiny_store: Path) -> None:
    where = ["data=qm9_demo", f"data.root={tiny_store}", "output=evaluation"]
    run("evaluate", f"checkpoint={released}", *where, "limit=1")
    summary = json.loads(Path("evaluation/summary.json").read_text())
    assert (summary["n_structures"], summary["step"], summary["pbc"]) == (1, 5, False)
    assert np.isfinite(summary["eps_mae"]["mean"])


def test_training_begins_from_it(kind: str, released: Path, run: Run, tiny_store: Path) -> None:
    model = [f"model={kind}_released", "model.hidden_size=8", "model.n_interactions=2", f"init={released}"]
    still = ["trainer=cpu", "trainer.max_steps=1", "optimizer.lr=0", "data.num_workers=0", "callbacks.picture=null"]
    run("train", *model, *still, "data=qm9_demo", f"data.root={tiny_store}", "hydra.run.dir=run")
    found, expected = load_checkpoint("run").model.state_dict(), load_checkpoint(released).model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
