"""Checkpoints are plain, are checked when they are read, and cannot run code."""

import os
import pickle
import resource
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from deepdft.checkpoint import Checkpoint, build_model, load_checkpoint, save_checkpoint
from deepdft.errors import InputWarning

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
    ("made", "changed", "reported"),
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
def test_weights_that_do_not_fit_the_config_are_named(tmp_path: Path, made: dict, changed: dict, reported: str) -> None:
    save_checkpoint(tmp_path / "wrong.ckpt", Checkpoint(build_model(CONFIG | made), CONFIG | changed))
    with pytest.raises(
        ValueError, match=r"wrong\.ckpt: the weights do not fit the model config: " + reported
    ) as caught:
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


def rewritten(file: Path, compression: int = zipfile.ZIP_STORED, **changes: Any) -> None:
    """The same checkpoint with other content at the top, or its records stored otherwise."""
    content = torch.load(file, weights_only=True) | changes
    torch.save(content, file)
    if compression != zipfile.ZIP_STORED:
        with zipfile.ZipFile(file) as archive:
            records = {record.filename: archive.read(record) for record in archive.infolist()}
        with zipfile.ZipFile(file, "w", compression) as archive:
            for name, data in records.items():
                archive.writestr(name, data)


def test_a_flipped_bit_of_a_weight_is_found(tmp_path: Path, checkpoint: Checkpoint) -> None:
    """Every record of the archive, with its header, at a hundred places."""
    file = tmp_path / "model.ckpt"
    save_checkpoint(file, checkpoint)
    sound = file.read_bytes()
    expected = {name: value.clone() for name, value in checkpoint.model.state_dict().items()}
    rng = np.random.default_rng(0)
    messages = []
    for place in rng.integers(len(sound), size=150):
        damaged = bytearray(sound)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        try:
            loaded = load_checkpoint(file)
        except ValueError as error:
            messages.append(str(error))
            continue
        for name, value in loaded.model.state_dict().items():  # padding between records has no meaning
            assert torch.equal(value, expected[name]), (place, name)
        assert loaded.config == CONFIG
    assert len(messages) > 75
    assert all(message.startswith(f"{file}: ") and "\n" not in message for message in messages)


def test_a_compressed_archive_is_no_checkpoint(tmp_path: Path, checkpoint: Checkpoint) -> None:
    """A small file could become a large one."""
    file = tmp_path / "bomb.ckpt"
    save_checkpoint(file, checkpoint)
    rewritten(file, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"bomb\.ckpt: damaged or not a checkpoint: its records are compressed"):
        load_checkpoint(file)


def test_a_record_that_is_marked_as_a_folder_is_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    """torch read nothing of it, and left the weights as it had found their memory."""
    file = tmp_path / "marked.ckpt"
    save_checkpoint(file, checkpoint)
    data = bytearray(file.read_bytes())
    entry = data.index(b"PK\x01\x02", data.rindex(b"archive/data/0PK") if b"archive/data/0PK" in data else 0)
    data[entry + 38] |= 0x10  # external attributes
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"marked\.ckpt: damaged or not a checkpoint: one of its records is marked"):
        load_checkpoint(file)


def test_a_file_larger_than_any_checkpoint_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "sparse.ckpt"
    with file.open("wb") as stream:
        stream.truncate(2**36)
    with pytest.raises(ValueError, match=r"sparse\.ckpt: 68\.7 GB, a checkpoint has at most 4\.3 GB"):
        load_checkpoint(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 10**9}, "hidden_size=1000000000"),
        ({"n_interactions": 10**7}, "n_interactions=10000000"),
        ({"hidden_size": 50_000}, "a far larger model"),
        ({"n_interactions": 300_000}, "a far larger model"),
        ({"gaussian_width": 1e-9}, "the width of Gaussians"),
        ({"cutoff": float("inf")}, "cutoff=inf"),
        ({"cutoff": 1e5}, "cutoff is a distance"),
        ({"hidden_size": "8"}, "hidden_size must be a whole number"),
        ({"hidden_size": 8.0}, "hidden_size must be a whole number"),
        ({"hidden_size": None}, "hidden_size must be a whole number"),
        ({"hidden_size": [8]}, "hidden_size must be a whole number"),
        ({"cutoff": "4"}, "cutoff is a distance"),
        ({"gaussian_width": [0.1]}, "SchNet: "),
        ({"nothing": 1}, "SchNet: .*nothing"),
        ({"channels": 3}, "SchNet: .*"),
        ({"_partial_": True}, "not a DensityModel"),
        ({"baseline": 1}, "model.baseline=1"),
    ],
)
def test_a_config_of_another_size_or_type_is_refused_in_one_line(
    tmp_path: Path, checkpoint: Checkpoint, changes: dict[str, Any], message: str
) -> None:
    file = tmp_path / "wrong.ckpt"
    save_checkpoint(file, checkpoint)
    rewritten(file, model=CONFIG | changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=rf"wrong\.ckpt: .*{message}") as caught:
        load_checkpoint(file)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20, "kilobytes"


@pytest.mark.parametrize(
    "changes",
    [
        {"model": None},
        {"model": [1]},
        {"model": {"_target_": 5}},
        {"model": {"_target_": "deepdft.models.schnet"}},
        {"state_dict": None},
        {"state_dict": [1, 2]},
        {"state_dict": {1: torch.zeros(1)}},
        {"state_dict": {"model.embedding.weight": torch.zeros(119, 8).to_sparse()}},
        {"state_dict": {"model.embedding.weight": torch.zeros(119, 8, dtype=torch.complex64)}},
        {"state_dict": {"model.embedding.weight": torch.zeros(1).expand(2**40)}},
        {"pbc": 4},
        {"pbc": "yes"},
        {"info": [1]},
        {"channels": "total"},
        {"schema": "1"},
        {"schema": torch.zeros(2)},
    ],
)
def test_entries_of_another_type_are_refused_in_one_line(
    tmp_path: Path, checkpoint: Checkpoint, changes: dict[str, Any]
) -> None:
    file = tmp_path / "odd.ckpt"
    save_checkpoint(file, checkpoint)
    rewritten(file, **changes)
    with pytest.raises(ValueError, match=r"odd\.ckpt: ") as caught:
        load_checkpoint(file)
    assert "\n" not in str(caught.value)


def test_the_old_format_of_torch_is_read_with_a_warning(tmp_path: Path, checkpoint: Checkpoint) -> None:
    file = tmp_path / "model.ckpt"
    save_checkpoint(file, checkpoint)
    content = torch.load(file, weights_only=True)
    torch.save(content, file, _use_new_zipfile_serialization=False)
    with pytest.warns(InputWarning, match=r"model\.ckpt: .* no checksums"):
        loaded = load_checkpoint(file)
    assert torch.equal(loaded.model.embedding.weight, checkpoint.model.embedding.weight)
