"""The end of a training by time, which validations and schedules respect."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer

from deepdft.graph.batch import Batch
from deepdft.training.schedules import ProgressLR

__all__ = ["TimeLimit"]

UNSTEADY_STEPS = 10
"""First steps of a process, which compile and fill caches and are not representative."""
MEASURED_STEPS = 50
"""Steps after which the time per step is known well enough to predict their number."""


class TimeLimit(Timer):
    """Ends a training so that its last validation fits into the time, and shortens its schedule to it.

    The time before a resume counts. A validation that takes longer than expected is ended by `CheckpointOnInterrupt`.

    Args:
        duration: "DD:HH:MM:SS", or the arguments of a timedelta; None is no limit.
    """

    def __init__(self, duration: str | dict[str, int] | None = None) -> None:
        limit: str | timedelta | dict[str, int] | None = duration
        super().__init__(limit, interval="step", verbose=False)
        self._validation_seconds = 0.0  # of the last completed validation
        self._validation_began = 0.0  # on the clock of time_elapsed
        self._reference: tuple[int, float] | None = None  # step and time since which the time per step is measured
        self._first_step = 0
        self._elapsed = 0.0  # decided by the first process, the same on all
        self._duration_before: float | None = 0.0  # of the resumed run; 0 if there is none

    @property
    def _legacy_state_key(self) -> str:  # type: ignore[override]  # Lightning's declares a type
        return "Timer"

    @property
    def was_reached(self) -> bool:
        """Whether the run ended because the time was over, or too short for another step and its validation."""
        return self._duration is not None and self._elapsed + self._validation_seconds >= self._duration

    def state_dict(self) -> dict[str, Any]:
        """State to save: the time so far, and the time of a validation."""
        return super().state_dict() | {"validation_seconds": self._validation_seconds, "duration": self._duration}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        super().load_state_dict(state_dict)
        self._validation_seconds = state_dict.get("validation_seconds", 0.0)
        self._duration_before = state_dict.get("duration", 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._first_step, self._reference = trainer.global_step, None
        if self._duration_before not in (0.0, self._duration):  # a resumed run may have another limit
            self._read_clock(trainer)
            for schedule in _schedules(trainer):
                schedule.restart(self._elapsed / self._duration if self._duration else 0.0)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Let the schedule end with the time, if that comes before the last step."""
        if self._duration is None:
            return
        self._read_clock(trainer)
        step = trainer.global_step
        if step - self._first_step < UNSTEADY_STEPS:
            return
        if self._reference is None:
            self._reference = (step, self._elapsed)
        measured = step - self._reference[0]
        if measured < MEASURED_STEPS:
            return
        seconds_per_step = (self._elapsed - self._reference[1]) / measured
        remaining = max(self._duration - self._validation_seconds - self._elapsed, seconds_per_step)
        for schedule in _schedules(trainer):
            schedule.expect(remaining / seconds_per_step)

    def _read_clock(self, trainer: pl.Trainer) -> None:
        """Use the first process's time, so that all processes end, and change their learning rate, at the same step."""
        self._elapsed = self.time_elapsed()
        if trainer.world_size > 1:
            clock = torch.tensor(self._elapsed, device=trainer.strategy.root_device)
            torch.distributed.broadcast(clock, src=0)
            self._elapsed = float(clock)

    def _check_time_remaining(self, trainer: pl.Trainer) -> None:
        self._read_clock(trainer)
        if self.was_reached:
            trainer.should_stop = True

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the start of a validation."""
        super().on_validation_start(trainer, pl_module)
        self._validation_began = self.time_elapsed()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the duration of a validation."""
        super().on_validation_end(trainer, pl_module)
        if not trainer.sanity_checking:
            self._validation_seconds = self.time_elapsed() - self._validation_began
            if trainer.world_size > 1:
                seconds = torch.tensor(self._validation_seconds, device=trainer.strategy.root_device)
                torch.distributed.broadcast(seconds, src=0)
                self._validation_seconds = float(seconds)

    def is_over_in_validation(self, trainer: pl.Trainer) -> bool:
        """Whether a validation must be ended in the middle; all processes decide together.

        One that takes up to half as long again as the last one may end, and so may the first one of a run that has no
        time left, without which there would be no result.
        """
        if self._duration is None:
            return False
        self._read_clock(trainer)
        if self._validation_seconds == 0.0 and self._validation_began >= self._duration:
            return False
        return self._elapsed >= self._duration + 0.5 * self._validation_seconds


def _schedules(trainer: pl.Trainer) -> list[ProgressLR]:
    """Schedules that have an end."""
    found = [config.scheduler for config in trainer.lr_scheduler_configs]
    return [scheduler for scheduler in found if isinstance(scheduler, ProgressLR)]
