"""Models from checkpoint files, run directories and folders of released DeepDFT models.

A run directory, a checkpoint file and a folder of a released DeepDFT model are all accepted as a path, and so is the
word free_atoms, the superposition of isolated atoms, which needs no training.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from deepdft import bundled
from deepdft.checkpoint.build import build_model_for
from deepdft.checkpoint.file import (
    STATE_PREFIX,
    checkpoint_entries,
    first_line,
    load_plain,
    plain_weights,
    read_checkpoint_file,
)
from deepdft.files import atomic_write, read_json
from deepdft.models.base import DensityModel
from deepdft.models.ensemble import Ensemble
from deepdft.models.free_atoms import FreeAtoms
from deepdft.models.released import model_from_released
from deepdft.models.with_baseline import WithBaseline
from deepdft.models.with_occupancies import WithOccupancies

__all__ = ["BUNDLED", "FREE_ATOMS", "Checkpoint", "add_info", "load_checkpoint", "load_weights", "save_checkpoint"]

RELEASED_ARGUMENTS, RELEASED_WEIGHTS = "arguments.json", "best_model.pth"
"""Files of a folder that the released DeepDFT code has written."""
FREE_ATOMS = "free_atoms"
"""Name of the free atoms where a checkpoint is expected, unless there is a file or folder with this name."""
BUNDLED = "bundled"
"""Name of the model that comes with the package, likewise."""


@dataclass(frozen=True)
class Checkpoint:
    """A model with what is needed to use it and to write it again."""

    model: DensityModel
    """The model, in evaluation mode, on the requested device."""
    config: dict[str, Any]
    """Plain config with `_target_`; `build_model(config)` makes the same architecture."""
    pbc: bool | None = None
    """Periodic boundaries: None as the structure has them, False ignored, True forced on."""
    info: dict[str, Any] = field(default_factory=dict)
    """Origin of the model: path, step, data fingerprint, …"""


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint for prediction, whole or not at all."""
    content = checkpoint_entries(checkpoint.model, checkpoint.config, checkpoint.pbc) | {
        "state_dict": {STATE_PREFIX + name: value for name, value in checkpoint.model.state_dict().items()},
        "info": checkpoint.info,
    }
    _write(path, content)


def add_info(file: Path, entries: Mapping[str, Any]) -> None:
    """Add entries to the info of a checkpoint file; everything else, such as the state of its training, is kept.

    Raises:
        ValueError: if the file is no checkpoint.
    """
    content = read_checkpoint_file(file)
    _write(file, content | {"info": {**content["info"], **entries}})


def _write(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    saved = io.BytesIO()  # torch reports a full disk without the system's reason
    torch.save(content, saved)
    with atomic_write(path) as beside:
        beside.write_bytes(saved.getbuffer())


def load_checkpoint(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    device: torch.device | str = "cpu",
    trusted: Sequence[str] = (),
) -> Checkpoint:
    """Load a model from a checkpoint file, a run directory (its best checkpoint) or a released DeepDFT folder.

    Args:
        path: file or folder; where there is none of that name, "bundled" is the model that comes with the package, and
            "free_atoms" the superposition of free atoms. Several, as a list or as the text "[a,b,c]", are an ensemble.
        device: where the model goes.
        trusted: packages beside deepdft.models whose classes may be built.

    Raises:
        FileNotFoundError: if there is nothing of the kind at `path`.
        ValueError: if the file is not a checkpoint of this package or does not fit its own config.
    """
    several = _several(path)
    if several is not None:
        return _load_ensemble(several, device, trusted)
    path = Path(cast(str, path))
    if str(path) == FREE_ATOMS and not path.exists():
        return _free_atoms(device)
    if str(path) == BUNDLED and not path.exists():
        path = bundled.MODEL
    released = path.parent if path.name == RELEASED_WEIGHTS else path
    if (released / RELEASED_ARGUMENTS).is_file():
        return _load_released(released, device)
    file = _checkpoint_file(path)
    content = read_checkpoint_file(file)
    weights = plain_weights(content["state_dict"], file, STATE_PREFIX)
    try:
        model = build_model_for(weights, content["model"], trusted=trusted)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    load_weights(model, content["state_dict"], file)
    info = {"path": str(file), "step": content.get("global_step")} | content["info"]
    return Checkpoint(model.to(device).eval(), content["model"], content["pbc"], info)


def _several(path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str] | None:
    """The checkpoints of an ensemble; None for a single one."""
    if not isinstance(path, str | os.PathLike):
        return [os.fspath(one) for one in path]
    text = os.fspath(path)
    if not (text.startswith("[") and text.endswith("]")) or Path(text).exists():
        return None
    return [one.strip().strip("'\"") for one in text[1:-1].split(",")]


def _load_ensemble(paths: Sequence[str], device: torch.device | str, trusted: Sequence[str]) -> Checkpoint:
    """Several checkpoints as one model.

    Raises:
        ValueError: if they cannot be members of one ensemble.
    """
    if len(set(paths)) < len(paths):
        raise ValueError(f"checkpoint=[{','.join(paths)}]: one comes twice; an ensemble has different models")
    loaded = [load_checkpoint(path, device=device, trusted=trusted) for path in paths]
    names = {path: checkpoint.pbc for path, checkpoint in zip(paths, loaded, strict=True)}
    if len(set(names.values())) > 1:
        raise ValueError(
            "the models of an ensemble treat periodic boundaries alike, got "
            + ", ".join(f"pbc={json.dumps(pbc)} in {path}" for path, pbc in names.items())
        )
    try:
        model = Ensemble([checkpoint.model for checkpoint in loaded])
    except ValueError as error:
        raise ValueError(f"checkpoint=[{','.join(paths)}]: {error}") from error
    config = {
        "_target_": f"{Ensemble.__module__}.{Ensemble.__qualname__}",
        "models": [_member_config(checkpoint.config) for checkpoint in loaded],
    }
    info = {"path": f"[{','.join(paths)}]"} | _common_info([checkpoint.info for checkpoint in loaded])
    return Checkpoint(model.to(device).eval(), config, loaded[0].pbc, info)


def _member_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A model's config as an argument of another; what is a key of whole configs becomes a model around it."""
    own = dict(config)
    for key, wrapper, argument in (
        ("baseline", WithBaseline, "baseline"),
        ("occupancies", WithOccupancies, "partial_waves"),
    ):
        if (value := own.pop(key, None)) is not None:
            own = {"_target_": f"{wrapper.__module__}.{wrapper.__qualname__}", "model": own, argument: value}
    return own


def _common_info(infos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Entries that all members of an ensemble share, and the elements that all of them know."""
    first = infos[0]
    shared = first.keys() - {"trust"}  # of one member: the ensemble gets its own record when it is calibrated
    common = {key: first[key] for key in shared if all(info.get(key) == first[key] for info in infos)}
    if all("elements" in info for info in infos):
        common["elements"] = sorted(set.intersection(*(set(info["elements"]) for info in infos)))
    return common


def _free_atoms(device: torch.device | str) -> Checkpoint:
    model = FreeAtoms()
    config = {"_target_": f"{FreeAtoms.__module__}.{FreeAtoms.__qualname__}", "cutoff": model.cutoff}
    return Checkpoint(model.to(device).eval(), config, info={"path": FREE_ATOMS})


def _load_released(folder: Path, device: torch.device | str) -> Checkpoint:
    """Load a model in the form in which the released DeepDFT code stores it."""
    file = folder / RELEASED_WEIGHTS
    if not file.is_file():
        raise FileNotFoundError(f"{folder}: {RELEASED_ARGUMENTS} without {RELEASED_WEIGHTS}, which holds the weights")
    arguments = read_json(folder / RELEASED_ARGUMENTS)
    content = load_plain(file)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise ValueError(f"{folder}: not a released DeepDFT model (expected an entry 'model' in {RELEASED_WEIGHTS})")
    try:
        model, config, pbc = model_from_released(arguments, plain_weights(content["model"], file))
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


def load_weights(model: DensityModel, state_dict: Mapping[str, torch.Tensor], file: Path) -> None:
    """Copy the weights of a checkpoint into a model.

    Args:
        model: of the same architecture.
        state_dict: the checkpoint's, with names that start with "model.".
        file: it is from, for the message.

    Raises:
        ValueError: if they do not fit, with what does not.
    """
    weights = plain_weights(state_dict, file, STATE_PREFIX)
    try:
        model.load_state_dict(weights)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{file}: the weights do not fit the model config: {_misfits(model, weights) or first_line(error)}; the "
            "config was changed, or the file is from another version of the model, which has to be trained again"
        ) from error


def _misfits(model: DensityModel, weights: Mapping[str, object]) -> str:
    """Number of weights that are missing, unknown or of another shape, with an example of each."""
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
