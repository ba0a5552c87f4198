"""Checks of Lightning's trainer settings that do not go together, and one setting of torch's that comes with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from deepdft.training.module import DensityModule

__all__ = ["check_optimizer", "check_trainer", "without_filling"]

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def check_trainer(config: Mapping[str, Any]) -> None:
    """Refuse settings that would fail later, or train something other than they say.

    Args:
        config: of a training.

    Raises:
        ValueError: if a number of steps is none, there is no such device, the precision is not one that batches have, a
            scaler cannot work with the optimizer, or a validation falls between the batches of one step.
    """
    trainer = config["trainer"]
    for name in ("max_steps", "val_check_interval", "accumulate_grad_batches", "log_every_n_steps"):
        if not (isinstance(trainer[name], int) and trainer[name] >= 1):
            raise ValueError(f"trainer.{name}={trainer[name]}: expected a whole number, at least 1")
    max_time = trainer["max_time"]
    if not (max_time is None or isinstance(max_time, Mapping) or re.fullmatch(r"\d+:\d\d:\d\d:\d\d", str(max_time))):
        raise ValueError(f'trainer.max_time={max_time}: expected days, hours, minutes and seconds, as "00:08:00:00"')
    if trainer["accelerator"] in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"trainer.accelerator={trainer['accelerator']}: torch finds no GPU here; trainer=cpu does without one, and "
            "trainer=auto takes one if there is"
        )
    precision = str(trainer.get("precision") or "32-true")
    if precision not in (*PRECISIONS, "32"):
        raise ValueError(
            f"trainer.precision={precision}: expected one of {', '.join(PRECISIONS)}; positions and densities stay in "
            "single precision"
        )
    if precision == "16-mixed" and trainer.get("gradient_clip_val") and config["optimizer"].get("fused"):
        raise ValueError(
            "trainer.gradient_clip_val clips gradients that 16-mixed has scaled, which a fused optimizer does not "
            "undo before: give optimizer.fused=false, or trainer.precision=bf16-mixed"
        )
    batches, every = trainer["accumulate_grad_batches"], trainer["val_check_interval"]
    if every % batches:
        raise ValueError(
            f"trainer.val_check_interval={every} counts batches, of which trainer.accumulate_grad_batches={batches} "
            "make a step: expected a multiple, so that no checkpoint is written within a step"
        )


def check_optimizer(module: DensityModule) -> None:
    """Make the optimizer and its schedule once, before anything of the run is written.

    Raises:
        ValueError: if their settings are refused.
    """
    try:
        module.configure_optimizers()
    except (TypeError, ValueError) as error:
        raise ValueError(f"the optimizer or its schedule refuses its settings: {error}") from error


@contextmanager
def without_filling() -> Iterator[None]:
    """Do not fill uninitialised memory with NaN, as `deterministic` would (it costs a twentieth of the time)."""
    settings: Any = torch.utils.deterministic  # a module whose attribute the type checker does not know
    before = settings.fill_uninitialized_memory
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = before
