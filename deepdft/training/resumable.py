"""What a run is resumed from: Lightning's callbacks, as configured now and where the run lies now; and Ctrl-C."""

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
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint

from deepdft.graph.batch import Batch

__all__ = ["Checkpoints", "Interruptible", "Patience", "moved"]


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


class Interruptible(Checkpoint):
    """Keeps the state of a training that Ctrl-C or SIGTERM ends, after the step that is under way.

    A validation under way is finished too; a second Ctrl-C ends the training at once, and it goes back to its last
    validation. So does one of several processes, which would have to agree on the step.

    Args:
        file: the checkpoint that a run is resumed from.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.file = Path(file)
        self.asked = self._listening = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen from here on, where Ctrl-C has its usual meaning."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        self.asked = False
        self._listening = (
            trainer.world_size == 1 and in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._listening:
            signal.signal(signal.SIGINT, self._ask)

    def _ask(self, *_: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("stopping after this step or validation; Ctrl-C again stops at once", file=sys.stderr, flush=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Write the state and end, at a step that nothing else comes after: no validation, no row of the log."""
        if trainer.world_size > 1 or not (self.asked or trainer.received_sigterm):
            return
        n_batches = batch_idx + 1
        to_validate = trainer.should_stop or n_batches % (trainer.val_check_batch or math.inf) == 0
        if to_validate or n_batches % trainer.accumulate_grad_batches > 0:
            return
        if trainer.received_sigterm:  # Lightning ends after this step
            trainer.save_checkpoint(self.file)
            return
        every: int = cast(Any, trainer).log_every_n_steps  # Lightning sets it without declaring it
        if every <= 1 or trainer.global_step % every > 0:
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
        if self._listening and signal.getsignal(signal.SIGINT) == self._ask:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._listening = False
