"""Checkpoints: plain dictionaries inside Lightning's file, readable with `weights_only=True`.

A checkpoint holds `schema`, `model` (the plain config that builds the model), `pbc` (whether the model was trained
with periodic boundaries as stored (None), forced on or off) and `state_dict`, whose names start with "model.".
A run directory, a checkpoint file and a folder of a released DeepDFT model are all accepted as a path, and so is the
word free_atoms, the superposition of isolated atoms, which needs no training.
"""

from __future__ import annotations

import json
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate

from deepdft import bundled
from deepdft.models.base import DensityModel
from deepdft.models.baseline import OnBaseline
from deepdft.models.free_atoms import FreeAtoms
from deepdft.models.released import model_from_released

__all__ = [
    "BUNDLED",
    "FREE_ATOMS",
    "SCHEMA",
    "STATE_PREFIX",
    "Checkpoint",
    "build_model",
    "checkpoint_entries",
    "load_checkpoint",
    "load_weights",
    "model_name",
    "read_checkpoint_file",
    "save_checkpoint",
]

SCHEMA = 1
STATE_PREFIX = "model."
RELEASED_ARGUMENTS, RELEASED_WEIGHTS = "arguments.json", "best_model.pth"
"""Files of a folder that the released DeepDFT code has written."""
FREE_ATOMS = "free_atoms"
"""Names the free atoms where a checkpoint is expected, unless there is a file or folder of that name."""
BUNDLED = "bundled"
"""Names the model that comes with the package in the same way."""
TRUSTED_PACKAGES = ("deepdft.models",)
"""Packages whose classes a checkpoint may name; others only when the caller says so."""


@dataclass(frozen=True)
class Checkpoint:
    """A model with what is needed to use it and to write it again."""

    model: DensityModel
    """In evaluation mode, on the device asked for."""
    config: dict[str, Any]
    """Plain config with `_target_`; `build_model(config)` makes the same architecture."""
    pbc: bool | None = None
    """Periodic boundaries: None as the structure has them, False ignored, True forced on."""
    info: dict[str, Any] = field(default_factory=dict)
    """Where it comes from: path, step, data fingerprint, …"""


def build_model(config: Mapping[str, Any], *, trusted: Sequence[str] = ()) -> DensityModel:
    """Build a model from its plain config.

    Args:
        config: `_target_` and the constructor's arguments; with `baseline`, the model learns what that leaves
            (`deepdft.models.baseline`).
        trusted: packages beside deepdft.models whose classes may be built, e.g. ("my_package",).

    Raises:
        ValueError: if a `_target_` is missing, outside the trusted packages, or not a DensityModel, if there is no such
            baseline, if a value is an interpolation (`${…}`), or the constructor refuses an argument.
    """
    target = config.get("_target_")
    if not isinstance(target, str):
        raise ValueError(f"a model config needs _target_, the dotted path of a DensityModel, got {target!r}")
    _refuse_interpolations(config)
    for name in _targets(config):
        _check_target(name, (*TRUSTED_PACKAGES, *trusted))
    arguments = dict(config)
    baseline = arguments.pop("baseline", None)
    try:
        model = instantiate(arguments, _convert_="all")
    except InstantiationException as error:  # hydra's report of whatever the constructor raised
        raise ValueError(f"{target.rpartition('.')[2]}: {_first_line(error.__cause__ or error)}") from error
    if not isinstance(model, DensityModel):
        raise ValueError(f"{target} is a {type(model).__name__}, not a DensityModel")
    return model if baseline is None else OnBaseline(model, baseline)


def model_name(config: Mapping[str, Any]) -> str:
    """What a model config builds, as "SchNet" or "SchNet on fitted"."""
    name = str(config["_target_"]).rpartition(".")[2]
    baseline = config.get("baseline")
    return name if baseline is None else f"{name} on {baseline}"


def _refuse_interpolations(config: Any) -> None:
    """A resolver could make a `_target_` of it after those that are written out have been looked at."""
    if isinstance(config, Mapping):
        config = [*config.keys(), *config.values()]
    if isinstance(config, str) and "${" in config:
        raise ValueError(f"a model config is plain values, got the interpolation {config!r}")
    if isinstance(config, list | tuple):
        for value in config:
            _refuse_interpolations(value)


def _targets(config: Any) -> Iterator[str]:
    """Every `_target_` at any depth."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            if key == "_target_":
                yield str(value)
            else:
                yield from _targets(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _targets(value)


def _check_target(name: str, packages: Sequence[str]) -> None:
    """Refuse names outside the packages, and names that lead out of them through an import (deepdft.x.os.system)."""
    refusal = (
        f"_target_ {name!r} is not a model class of {', '.join(packages)}; "
        "if you trust the file, name its package: trusted=[package]"
    )
    if not name.startswith(tuple(f"{package}." for package in packages)):
        raise ValueError(refusal)
    try:
        cls = get_class(name)
    except Exception as error:  # hydra wraps whatever the import raised
        raise ValueError(f"_target_ {name!r} cannot be imported: {error}") from error
    if not (cls.__module__.startswith(tuple(packages)) and issubclass(cls, torch.nn.Module)):
        raise ValueError(refusal)


def checkpoint_entries(model: DensityModel, config: Mapping[str, Any], pbc: bool | None) -> dict[str, Any]:
    """The entries that make a Lightning checkpoint (or any dict with a state_dict) ours."""
    return {"schema": SCHEMA, "model": dict(config), "channels": list(model.channels), "pbc": pbc}


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint for prediction, beside first and then renamed."""
    path = Path(path)
    content = checkpoint_entries(checkpoint.model, checkpoint.config, checkpoint.pbc) | {
        "state_dict": {STATE_PREFIX + name: value for name, value in checkpoint.model.state_dict().items()},
        "info": checkpoint.info,
    }
    beside = path.with_name(path.name + ".part")
    torch.save(content, beside)
    beside.replace(path)


def load_checkpoint(
    path: str | os.PathLike[str], *, device: torch.device | str = "cpu", trusted: Sequence[str] = ()
) -> Checkpoint:
    """Load a model from a checkpoint file, a run directory (its best checkpoint) or a released DeepDFT folder.

    Args:
        path: file or folder; where there is none of that name, "bundled" is the model that comes with the package, and
            "free_atoms" the superposition of free atoms.
        device: where the model goes.
        trusted: packages beside deepdft.models whose classes may be built.

    Raises:
        FileNotFoundError: if there is nothing of the kind at `path`.
        ValueError: if the file is not a checkpoint of this package or does not fit its own config.
    """
    path = Path(path)
    if str(path) == FREE_ATOMS and not path.exists():
        return _free_atoms(device)
    if str(path) == BUNDLED and not path.exists():
        path = bundled.MODEL
    released = path.parent if path.name == RELEASED_WEIGHTS else path
    if (released / RELEASED_ARGUMENTS).is_file():
        return _load_released(released, device)
    file = _checkpoint_file(path)
    content = read_checkpoint_file(file)
    model = build_model(content["model"], trusted=trusted)
    load_weights(model, content["state_dict"], file)
    info = {"path": str(file), "step": content.get("global_step")} | content.get("info", {})
    return Checkpoint(model.to(device).eval(), content["model"], content["pbc"], info)


def _free_atoms(device: torch.device | str) -> Checkpoint:
    model = FreeAtoms()
    config = {"_target_": f"{FreeAtoms.__module__}.{FreeAtoms.__qualname__}", "cutoff": model.cutoff}
    return Checkpoint(model.to(device).eval(), config, info={"path": FREE_ATOMS})


def _load_released(folder: Path, device: torch.device | str) -> Checkpoint:
    """A model in the form in which the released DeepDFT code stores it."""
    file = folder / RELEASED_WEIGHTS
    if not file.is_file():
        raise FileNotFoundError(f"{folder}: {RELEASED_ARGUMENTS} without {RELEASED_WEIGHTS}, which holds the weights")
    try:
        arguments = json.loads((folder / RELEASED_ARGUMENTS).read_text())
    except ValueError as error:
        raise ValueError(f"{folder / RELEASED_ARGUMENTS}: not JSON: {error}") from error
    content = _load_plain(file)
    if not isinstance(arguments, dict) or not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise ValueError(f"{folder}: not a released DeepDFT model (expected an entry 'model' in {RELEASED_WEIGHTS})")
    try:
        model, config, pbc = model_from_released(arguments, content["model"])
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    info = {"path": str(folder), "released": True, "step": content.get("step")}
    return Checkpoint(model.to(device).eval(), config, pbc, info)


def _checkpoint_file(path: Path) -> Path:
    """The file itself, or the best (else the last) checkpoint of a run directory."""
    if path.is_file():
        return path
    candidates = [path / "checkpoints" / "best.ckpt", path / "checkpoints" / "last.ckpt"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if path.is_dir():
        raise FileNotFoundError(
            f"{path}: no checkpoints/best.ckpt or last.ckpt (a run directory) and no arguments.json (a released model)"
        )
    raise FileNotFoundError(
        f"{path}: no such checkpoint; expected a .ckpt file, a run directory, a released model, {BUNDLED} or "
        f"{FREE_ATOMS}"
    )


def read_checkpoint_file(file: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a checkpoint file, checked to be ours.

    Raises:
        ValueError: if the file is damaged, holds pickled objects, or is of another kind or schema.
    """
    content = _load_plain(file)
    if not isinstance(content, dict) or "schema" not in content:
        raise ValueError(f"{file}: not a deepdft checkpoint (no 'schema' entry)")
    if content["schema"] != SCHEMA:
        raise ValueError(f"{file}: checkpoint schema {content['schema']}, this version reads {SCHEMA}; update deepdft")
    return content


def _load_plain(file: str | os.PathLike[str]) -> Any:
    """What torch saved in a file, refused if it is more than tensors and plain values."""
    try:
        with warnings.catch_warnings():  # about pickle protocols of files that are refused anyway
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file}: refused, it holds more than tensors and plain values: {_first_line(error)}"
        ) from error
    except Exception as error:  # whatever the bytes of a foreign file lead torch to
        raise ValueError(f"{file}: damaged or not a checkpoint: {_first_line(error)}") from error


def load_weights(model: DensityModel, state_dict: Mapping[str, torch.Tensor], file: Path) -> None:
    """Copy the weights of a checkpoint into a model.

    Args:
        model: of the same architecture.
        state_dict: the checkpoint's, with names that start with "model.".
        file: it is from, for the message.

    Raises:
        ValueError: if they do not fit, with what does not.
    """
    weights = {
        name.removeprefix(STATE_PREFIX): value for name, value in state_dict.items() if name.startswith(STATE_PREFIX)
    }
    try:
        model.load_state_dict(weights)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{file}: the weights do not fit the model config: {_misfits(model, weights) or _first_line(error)}; the "
            "config was changed, or the file is from another version of the model, which has to be trained anew"
        ) from error


def _misfits(model: DensityModel, weights: Mapping[str, object]) -> str:
    """How many weights are not there, not known or of another shape, and the first of each."""
    expected, found = (
        {name: tuple(value.shape) for name, value in of.items() if isinstance(value, torch.Tensor)}
        for of in (model.state_dict(), weights)
    )
    both = [name for name in expected if name in found and expected[name] != found[name]]
    odd = {
        "missing in the file": sorted(expected.keys() - found.keys()),
        "not of the model": sorted(found.keys() - expected.keys()),
        "of another shape": [f"{name}: {found[name]} in the file, {expected[name]} in the model" for name in both],
    }
    return ", ".join(f"{len(names)} {what}, such as {names[0]}" for what, names in odd.items() if names)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
