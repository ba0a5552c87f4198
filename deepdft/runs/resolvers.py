"""Resolvers used by the configs: ${run_directory:RESUME,BASE} and ${bundled:NAME}."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from omegaconf import OmegaConf

from deepdft import bundled

__all__ = ["register"]


def _run_directory(resume: str | None, base: str) -> str:
    """The directory of the run that is resumed, or a new one below `base`, named by the time and made at once.

    So no other run that begins in the same second has it too.
    """
    if resume is not None:
        return str(resume)
    stem = Path(base) / datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    stem.parent.mkdir(parents=True, exist_ok=True)
    directory, count = stem, 0
    while True:
        try:
            directory.mkdir()
        except FileExistsError:
            count += 1
            directory = stem.with_name(f"{stem.name}-{count}")
        else:
            return os.fspath(directory)


def register() -> None:
    """Make the resolvers known to OmegaConf; a second call changes nothing."""
    if not OmegaConf.has_resolver("run_directory"):
        # cached: the time is read once per config
        OmegaConf.register_new_resolver("run_directory", _run_directory, use_cache=True)
        OmegaConf.register_new_resolver("bundled", lambda name: os.fspath(bundled.path(name)))
