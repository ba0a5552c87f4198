"""Settings of Lightning's trainer that do not go together, and one of torch's that comes with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["check_trainer", "without_filling"]

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def check_trainer(config: Mapping[str, Any]) -> None:
    """Refuse what would fail later, or train something else than it says.

    Args:
        config: of a training.

    Raises:
        ValueError: if the precision is not one that batches have, a scaler cannot work with the optimizer, or a
            validation falls between the batches of one step.
    """
    trainer = config["trainer"]
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
    batches, every = trainer.get("accumulate_grad_batches") or 1, trainer.get("val_check_interval")
    if isinstance(every, int) and every % batches:
        raise ValueError(
            f"trainer.val_check_interval={every} counts batches, of which trainer.accumulate_grad_batches={batches} "
            "make a step: expected a multiple, so that no checkpoint is written within a step"
        )


@contextmanager
def without_filling() -> Iterator[None]:
    """Memory that is filled anyway is not filled with NaN first, as `deterministic` would have it (a twentieth)."""
    settings: Any = torch.utils.deterministic  # a module whose attribute the type checker does not know
    before = settings.fill_uninitialized_memory
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = before
