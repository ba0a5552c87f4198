"""Checkpoints are plain, say what is wrong with them, and cannot run code."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from deepdft.checkpoint import Checkpoint, build_model, load_checkpoint, save_checkpoint

CONFIG = {"_target_": "deepdft.models.schnet.SchNet", "hidden_size": 8, "n_interactions": 1}


@pytest.fixture
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(build_model(CONFIG).eval(), CONFIG, False, {"elements": [1, 6]})


def test_a_checkpoint_returns_with_its_weights_config_and_periodicity(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "model.ckpt", checkpoint)
    loaded = load_checkpoint(tmp_path / "model.ckpt")
    assert loaded.config == CONFIG
    assert loaded.pbc is False
    assert loaded.info["elements"] == [1, 6]
    assert not loaded.model.training
    for name, value in checkpoint.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value)
    assert not list(tmp_path.glob("*.part"))


def test_a_run_directory_stands_for_its_best_checkpoint_then_its_last(tmp_path: Path, checkpoint: Checkpoint) -> None:
    (tmp_path / "checkpoints").mkdir()
    save_checkpoint(tmp_path / "checkpoints/last.ckpt", checkpoint)
    assert load_checkpoint(tmp_path).info["path"].endswith("last.ckpt")
    save_checkpoint(tmp_path / "checkpoints/best.ckpt", checkpoint)
    assert load_checkpoint(tmp_path).info["path"].endswith("best.ckpt")


def test_what_is_no_checkpoint_is_named(tmp_path: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "absent.ckpt")
    with pytest.raises(FileNotFoundError, match=r"no checkpoints/best\.ckpt"):
        load_checkpoint(tmp_path)
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.ckpt"):
        load_checkpoint(tmp_path / "text.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="not a deepdft checkpoint"):
        load_checkpoint(tmp_path / "other.ckpt")
    torch.save({"schema": 99}, tmp_path / "future.ckpt")
    with pytest.raises(ValueError, match="schema 99"):
        load_checkpoint(tmp_path / "future.ckpt")
    save_checkpoint(tmp_path / "whole.ckpt", checkpoint)
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "whole.ckpt").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"cut\.ckpt: (damaged|refused)"):
        load_checkpoint(tmp_path / "cut.ckpt")


@pytest.mark.parametrize(
    ("made", "changed", "said"),
    [
        (
            {},
            {"hidden_size": 16},
            r"\d+ of another shape, such as \S+: \([\d, ]+\) in the file, \([\d, ]+\) in the model",
        ),
        ({}, {"n_interactions": 2}, r"\d+ missing in the file, such as atom_steps\.0\."),
        ({"n_interactions": 2}, {}, r"\d+ not of the model, such as atom_steps\.0\."),
    ],
)
def test_weights_that_do_not_fit_the_config_are_named(tmp_path: Path, made: dict, changed: dict, said: str) -> None:
    save_checkpoint(tmp_path / "wrong.ckpt", Checkpoint(build_model(CONFIG | made), CONFIG | changed))
    with pytest.raises(ValueError, match=r"wrong\.ckpt: the weights do not fit the model config: " + said) as caught:
        load_checkpoint(tmp_path / "wrong.ckpt")
    assert "\n" not in str(caught.value)


def test_weights_that_are_no_tensors_do_not_fit(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "odd.ckpt", checkpoint)
    content = torch.load(tmp_path / "odd.ckpt", weights_only=True)
    content["state_dict"] = dict.fromkeys(content["state_dict"], 1)
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(ValueError, match=r"odd\.ckpt: the weights do not fit"):
        load_checkpoint(tmp_path / "odd.ckpt")


class Hostile:
    def __reduce__(self) -> tuple:
        return os.system, ("touch hostile_was_here",)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"schema": 1, "model": Hostile()}, "hostile.ckpt")
    with pytest.raises(ValueError, match="refused"):
        load_checkpoint("hostile.ckpt")
    Path("plain.ckpt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match=r"plain\.ckpt"):
        load_checkpoint("plain.ckpt")
    assert not Path("hostile_was_here").exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.nn.Linear",
        "deepdft.models.schnet.torch.nn.Linear",  # leads out of the package through an import
        "deepdft.models.base.nn.Linear",
        "deepdft.inference.encoded.EncodedStructure",
        "deepdft.models.absent.Model",
        "deepdft.modelsx.Model",
    ],
)
def test_a_config_names_model_classes_of_trusted_packages_only(target: str) -> None:
    with pytest.raises(ValueError, match="_target_"):
        build_model({"_target_": target})
    with pytest.raises(ValueError, match="_target_"):
        build_model(CONFIG | {"hidden_size": {"_target_": target}})


@pytest.mark.parametrize("place", ["value", "key", "list"])
def test_a_config_is_plain_values_and_resolves_nothing(tmp_path: Path, place: str) -> None:
    made = tmp_path / "made"
    hostile = (
        f"${{oc.create:{{_target_:pathlib.Path.write_text,_args_:[{{_target_:pathlib.Path,_args_:[{made}]}},x]}}}}"
    )
    changes = {"value": {"cutoff": hostile}, "key": {hostile: 4.0}, "list": {"cutoff": [{"a": hostile}]}}
    with pytest.raises(ValueError, match="a model config is plain values, got the interpolation"):
        build_model(CONFIG | changes[place])
    assert not made.exists()


def test_a_module_that_is_no_density_model_is_refused() -> None:
    assert issubclass(nn.Linear, nn.Module)
    with pytest.raises(ValueError, match="not a DensityModel"):
        build_model({"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}, trusted=["torch"])
