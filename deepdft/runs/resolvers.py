"""Resolvers used by the configs: ${run_directory:RESUME,BASE} and ${bundled:NAME}."""

from __future__ import annotations

import os

from omegaconf import OmegaConf

from deepdft import bundled
from deepdft.runs.directory import new_directory

__all__ = ["register"]


def _run_directory(resume: str | None, base: str) -> str:
    """The directory of the run that is resumed, or a new one below `base`."""
    return os.fspath(new_directory(base)) if resume is None else str(resume)


def register() -> None:
    """Register the resolvers with OmegaConf; a second call changes nothing."""
    if not OmegaConf.has_resolver("run_directory"):
        # cached: the time is read once per config
        OmegaConf.register_new_resolver("run_directory", _run_directory, use_cache=True)
        OmegaConf.register_new_resolver("bundled", lambda name: os.fspath(bundled.path(name)))
