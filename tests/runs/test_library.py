"""Training and evaluation from Python, without a command line."""

import json
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import deepdft
from deepdft.runs.compose import compose, from_settings

SETTINGS = {
    "model": "schnet",
    "model.hidden_size": 8,
    "model.n_interactions": 2,
    "scheduler": "constant",
    "trainer": "cpu",
    "trainer.max_steps": 4,
    "trainer.val_check_interval": 2,
    "trainer.enable_progress_bar": False,
    "data.probes_per_structure": 50,
    "data.num_workers": 0,
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tiny_store: Path) -> deepdft.Run:
    return deepdft.train(SETTINGS | {"data.root": str(tiny_store), "run_dir": "run"})


@pytest.mark.filterwarnings("ignore::deepdft.errors.InputWarning")  # of a model trained for four steps
def test_a_run_is_trained_read_back_evaluated_and_predicts(run: deepdft.Run, tiny_store: Path) -> None:
    assert run.steps == 4
    assert run.ended_by == "trainer.max_steps=4"
    again = deepdft.Run.open("run")
    assert (again.best, again.steps, again.metrics) == (run.best, 4, run.metrics)
    store = deepdft.Store(tiny_store)
    assert run.predictor().predict(store.atoms(0), spacing=0.5).values.ndim == 3
    result = deepdft.evaluate(run, subset="validation", device="cpu", output="results")
    split = json.loads(Path("run/split.json").read_text())
    assert [row.name for row in result.errors] == split["validation"]
    assert result.eps_mae == pytest.approx(sum(row.eps_mae for row in result.errors) / len(result.errors))
    assert all(Path("results", name).is_file() for name in result.files)


@pytest.mark.filterwarnings("ignore:.*LeafSpec")
def test_a_run_started_in_python_is_resumed_with_its_own_settings(run: deepdft.Run, tiny_store: Path) -> None:
    whole = deepdft.train(SETTINGS | {"data.root": str(tiny_store), "run_dir": "whole", "trainer.max_steps": 8})
    config = compose("train", ["resume=run", "trainer.max_steps=8"])  # as the command line does
    assert (config.model.hidden_size, config.data.probes_per_structure) == (8, 50)
    assert deepdft.train(config).steps == 8
    assert deepdft.train({"resume": "run", "trainer.max_steps": 8}).steps == 8  # is finished
    validated = [row["val/eps_mae"] for row in whole.metrics if "val/eps_mae" in row]
    assert [row["val/eps_mae"] for row in run.metrics if "val/eps_mae" in row] == validated
    new = compose("train", ["from=run", "run_dir=new"])
    assert (new.model, new.optimizer, new.run_dir) == (config.model, config.optimizer, "new")
    with pytest.raises(ValueError, match=r"model\.hidden_size: 8 → 16"):
        deepdft.train({"resume": "run", "model.hidden_size": 16})


def test_a_composed_config_may_be_changed_and_is_left_as_it_is(tiny_store: Path) -> None:
    overrides = [f"{key}={value}" for key, value in SETTINGS.items()]
    config = compose("train", [*overrides, f"data.root={tiny_store}"])
    config.trainer.max_steps = 2
    before = config.copy()
    assert deepdft.train(config).steps == 2
    assert config == before


def test_a_dictionary_chooses_groups_and_sets_values_as_the_command_line_does(tiny_store: Path) -> None:
    nested = {"data": {"root": "data/mine"}, "model": "painn", "trainer": {"max_steps": 7}, "callbacks.ema": None}
    composed = compose("train", ["data.root=data/mine", "model=painn", "trainer.max_steps=7", "callbacks.ema=null"])
    assert isinstance(composed, DictConfig)
    assert from_settings(nested) == composed


@pytest.mark.parametrize("settings", [{"modle": "schnet"}, {"trainer": {"max_step": 3}}])
def test_unknown_settings_are_refused_by_name(settings: dict) -> None:
    with pytest.raises(ValueError, match=r"there is no option '(modle|trainer\.max_step)'"):
        from_settings(settings)


def test_a_run_is_not_trained_over_another(run: deepdft.Run, tiny_store: Path) -> None:
    with pytest.raises(ValueError, match="holds a training run; resume it with resume=run"):
        deepdft.train(SETTINGS | {"data.root": str(tiny_store), "run_dir": "run"})


def test_every_public_name_can_be_imported() -> None:
    for name in deepdft.__all__:
        assert getattr(deepdft, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        deepdft.nothing  # noqa: B018


def test_a_command_that_has_ended_or_another_program_of_hydra_changes_nothing(
    run: deepdft.Run, tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra keeps its config for the whole process; its overrides are not those of a run started in Python."""
    state = HydraConfig.instance()
    hydra = OmegaConf.create({"overrides": {"task": ["trainer.max_steps=4"]}, "mode": "MULTIRUN"})
    monkeypatch.setattr(state, "cfg", OmegaConf.create({"hydra": hydra}))
    assert HydraConfig.initialized()
    assert deepdft.train({"resume": "run", "trainer.max_steps": 6}).steps == 6
