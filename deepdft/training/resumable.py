"""What a run is resumed from: checkpoints, Lightning's callbacks as configured now, and Ctrl-C."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint

from deepdft.graph.batch import Batch

__all__ = ["Checkpoints", "Interruptible", "Patience", "WholeCheckpoints", "moved"]


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


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are there whole or not at all, whatever ends the process or the machine.

    Lightning's are written where temporary files are, and copied from there if that is another file system.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write beside, then rename."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".part")
        with beside.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)


class Interruptible(Checkpoint):
    """Keeps the state of a training that Ctrl-C or SIGTERM ends, after the step or validation that is under way.

    A second Ctrl-C ends the training at once, and it goes back to its last validation. So does one of several
    processes, which would have to agree on the step.

    Args:
        file: the checkpoint that a run is resumed from.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.file = Path(file)
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen from here on, where Ctrl-C has its usual meaning."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        self.asked = False
        if trainer.world_size == 1 and in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            # Lightning would end a validation in its middle, and a step before all of its batches
            self._before = {which: signal.signal(which, self._ask) for which in (signal.SIGINT, signal.SIGTERM)}

    def _ask(self, which: int, *_: Any) -> None:
        if self.asked:
            if which == signal.SIGINT:
                raise KeyboardInterrupt
            return  # a scheduler may send SIGTERM to several processes that pass it on
        self.asked = True
        print("stopping after this step or validation; Ctrl-C again stops at once", file=sys.stderr, flush=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """End after a step that nothing else comes after: no validation, and no row of the log, which comes later."""
        n_batches = batch_idx + 1
        if trainer.should_stop or n_batches % (trainer.val_check_batch or math.inf) == 0:
            return  # after the validation
        every: int = cast(Any, trainer).log_every_n_steps  # Lightning sets it without declaring it
        logs = every > 1 and trainer.global_step % every == 0
        if self.asked and n_batches % trainer.accumulate_grad_batches == 0 and not logs:
            self._end(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End after a validation."""
        if self.asked and not trainer.sanity_checking:
            self._end(trainer)

    def _end(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.file)
        raise KeyboardInterrupt

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Not without telling who started the training, a sweep for example."""
        self._stop_listening()
        if self.asked:
            raise KeyboardInterrupt

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the process as it was."""
        self._stop_listening()

    def _stop_listening(self) -> None:
        for which, handler in self._before.items():
            if signal.getsignal(which) == self._ask:
                signal.signal(which, handler)
        self._before = {}
