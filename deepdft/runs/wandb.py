"""Weights & Biases, an optional logger: its errors become one line; its own environment variables switch it off."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from deepdft.runs.command import sweep

__all__ = ["one_wandb_run", "wandb_errors"]


def one_wandb_run(cfg: DictConfig, stored: Mapping[str, Any] | None = None) -> None:
    """Give the W&B run of a config an id: that of the resumed run, or a new one.

    With WANDB_MODE=disabled, or WANDB_DISABLED=true, in the environment the logger is left out.

    Args:
        cfg: of a command, changed in place.
        stored: config of the run that is resumed.
    """
    wandb = (cfg.get("logger") or {}).get("wandb")
    if wandb is None:
        return
    with open_dict(cfg):
        if os.environ.get("WANDB_MODE") == "disabled" or os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1"):
            cfg.logger.wandb = None
        elif wandb.get("id") is None:
            before = ((stored or {}).get("logger") or {}).get("wandb") or {}
            cfg.logger.wandb.id = before.get("id") or secrets.token_hex(4)
            _name_sweep_job(cfg.logger.wandb)


def _name_sweep_job(wandb: DictConfig) -> None:
    """In a sweep, group the runs under the name of its folder, each named by its overrides."""
    if (hydra := sweep()) is None:
        return
    if wandb.get("group") is None:
        wandb.group = Path(hydra.sweep.dir).name
    if wandb.get("name") is None:
        wandb.name = hydra.job.override_dirname or str(hydra.job.num)


@contextmanager
def wandb_errors() -> Iterator[None]:
    """Turn errors of W&B (no account, no network, refused settings) into a one-line ValueError."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("wandb."):
            raise
        reason = " ".join(str(error).split())
        raise ValueError(
            f"W&B: {type(error).__name__}: {reason}; logger.wandb.offline=true keeps the log in the run directory, "
            "logger=csv does without W&B"
        ) from error
