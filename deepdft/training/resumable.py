"""Lightning's callbacks, resumed as the run is configured now and where it lies now."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

__all__ = ["Checkpoints", "Patience", "moved"]


def moved(content: Any, before: str, now: str) -> Any:
    """Plain values at any depth, with the paths below one folder in another."""
    if isinstance(content, str):
        inside = content == before or content.startswith(before + os.sep)
        return now + content.removeprefix(before) if inside else content
    if isinstance(content, Mapping):
        return {moved(key, before, now): moved(value, before, now) for key, value in content.items()}
    if isinstance(content, list):
        return [moved(value, before, now) for value in content]
    return content


class Checkpoints(ModelCheckpoint):
    """ModelCheckpoint that knows the best one again after its folder was moved or copied."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().load_state_dict(moved(state_dict, str(state_dict["dirpath"]), str(self.dirpath)))


class Patience(EarlyStopping):
    """EarlyStopping with the patience that is configured, not the one that was."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    @property
    def has_ended_the_run(self) -> bool:
        """Whether there were so many validations without a better one."""
        return self.wait_count >= self.patience
