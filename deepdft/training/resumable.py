"""Checkpoints that are written whole or not at all, and callbacks that resume with today's settings."""

from __future__ import annotations

import importlib
import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from deepdft.files import atomic_write

__all__ = ["AtomicCheckpointIO", "ResumableEarlyStopping", "ResumableModelCheckpoint", "rebase_paths"]


def rebase_paths(content: Any, before: str, now: str) -> Any:
    """Plain values at any depth, with paths below one folder moved to another."""
    if isinstance(content, str):
        inside = content == before or content.startswith(before + os.sep)
        return now + content.removeprefix(before) if inside else content
    if isinstance(content, Mapping):
        return {rebase_paths(key, before, now): rebase_paths(value, before, now) for key, value in content.items()}
    if isinstance(content, list):
        return [rebase_paths(value, before, now) for value in content]
    return content


class ResumableModelCheckpoint(ModelCheckpoint):
    """ModelCheckpoint that finds the best one again after its folder was moved or copied."""

    @property
    def _legacy_state_key(self) -> str:  # type: ignore[override]  # Lightning's declares a type
        return self.state_key.replace(type(self).__qualname__, "Checkpoints", 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        super().load_state_dict(rebase_paths(state_dict, str(state_dict["dirpath"]), str(self.dirpath)))


class ResumableEarlyStopping(EarlyStopping):
    """EarlyStopping that resumes with the configured patience rather than the stored one."""

    @property
    def _legacy_state_key(self) -> str:  # type: ignore[override]  # Lightning's declares a type
        return self.state_key.replace(type(self).__qualname__, "Patience", 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    @property
    def has_ended_the_run(self) -> bool:
        """Whether `patience` validations have passed without an improvement."""
        return self.wait_count >= self.patience


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are written whole or not at all, whatever ends the process or the machine.

    Lightning's are written where temporary files are, and copied from there if that is another file system.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write to a temporary file in the same folder, then rename it."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # torch.save replaces an error of the disk by its own, which lacks the reason
        torch.save(checkpoint, content)
        with atomic_write(path) as beside:
            beside.write_bytes(content.getbuffer())

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint; states of callbacks from older versions get the keys of today."""
        checkpoint: dict[str, Any] = super().load_checkpoint(*args, **kwargs)
        states = checkpoint.get("callbacks")
        if isinstance(states, dict):
            checkpoint["callbacks"] = {_name_today(key): state for key, state in states.items()}
        return checkpoint


def _name_today(state_key: str) -> str:
    """Key of a callback's state (class name and arguments) with the class name of today."""
    name, brace, arguments = state_key.partition("{")
    today = {"Timer": "TimeLimit"} | {old: path.rpartition(".")[2] for old, path in _RENAMED.items()}
    return today.get(name, name) + brace + arguments


_RENAMED = {
    "Checkpoints": "deepdft.training.resumable.ResumableModelCheckpoint",
    "Patience": "deepdft.training.resumable.ResumableEarlyStopping",
    "WholeCheckpoints": "deepdft.training.resumable.AtomicCheckpointIO",
    "Interruptible": "deepdft.training.interrupt.CheckpointOnInterrupt",
}


def __getattr__(name: str) -> Any:
    """Classes under their names in configs of older runs."""
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, now = _RENAMED[name].rpartition(".")
    warnings.warn(f"{__name__}.{name} is called {module}.{now} now", DeprecationWarning, stacklevel=2)
    return getattr(importlib.import_module(module), now)
