"""Saves the state of a training when a signal, the clock or the end of its time interrupts it."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, WeightAveraging

from deepdft.graph.batch import Batch
from deepdft.training.time_limit import TimeLimit

__all__ = ["CheckpointOnInterrupt"]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that batch systems send before they kill, and that a terminal sends when it is closed."""
AGREE_EVERY = 10
"""Batches after which several processes ask each other whether one of them was told to stop."""
MESSAGE = b"stopping after this step; Ctrl-C again stops at once\n"
CONTINUE, KEEP, STOP = 0, 1, 2


class CheckpointOnInterrupt(Checkpoint):
    """Saves the state of a training that a signal ends, after the current step, and every few minutes.

    A validation that is interrupted is run again when the run is resumed. Several processes agree on the step. A second
    Ctrl-C stops at once; the run then resumes from the last state that was kept.

    Args:
        file: the checkpoint that a run is resumed from.
        minutes: between two checkpoints by the clock; None keeps them by validations only.
    """

    def __init__(self, file: str | os.PathLike[str], *, minutes: float | None = 10.0) -> None:
        if minutes is not None and not minutes > 0:
            raise ValueError(f"callbacks.interruptible.minutes={minutes}: expected a number above zero, or null")
        self.file = Path(file)
        self.minutes = minutes
        self.requested: signal.Signals | None = None
        """The signal that asked this process to stop."""
        self.validation_due: int | None = None
        """The step whose validation was interrupted."""
        self._max_steps: int | None = None  # of the config, where it is raised for a validation
        self._agreed = CONTINUE
        self._kept = time.monotonic()
        self._before: dict[signal.Signals, Any] = {}

    @property
    def _legacy_state_key(self) -> str:  # type: ignore[override]  # Lightning's declares a type
        return "Interruptible"

    def state_dict(self) -> dict[str, Any]:
        """State to save: whether a validation must be run first."""
        return {"validation_due": self.validation_due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.validation_due = state_dict.get("validation_due")

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle signals from now on, and let a run start whose last step is done but not validated."""
        self.requested, self._agreed, self._before = None, CONTINUE, {}
        self._listen(signal.SIGINT, (signal.default_int_handler,))  # ignored in the background of a script
        for which in STOP_SIGNALS:
            if which != signal.SIGTERM:
                self._listen(which, (signal.SIG_DFL,))
        if self.validation_due is not None and self.validation_due >= trainer.max_steps > 0:
            self._max_steps = trainer.max_steps
            trainer.fit_loop.epoch_loop.max_steps = self.validation_due + 1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Also handle SIGTERM from now on; a signal that came before the first step ends the training at once."""
        self._kept = time.monotonic()
        # SIGTERM is Lightning's by now, whose handler would end a step before all of its batches
        self._listen(signal.SIGTERM, (signal.getsignal(signal.SIGTERM),))
        if trainer.received_sigterm:
            self.requested = signal.SIGTERM
        if self.requested is not None and trainer.world_size == 1:
            raise KeyboardInterrupt

    def _listen(self, which: signal.Signals, where: tuple[Any, ...]) -> None:
        """Handle a signal, unless whoever started the process has given it another meaning."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(which) in where:
            before = signal.signal(which, self._request)
            self._before.setdefault(which, before)

    def _request(self, which: int, *_: Any) -> None:
        if self.requested is not None:
            if which == signal.SIGINT:
                raise KeyboardInterrupt
            return  # a scheduler may send SIGTERM to several processes that pass it on
        self.requested = signal.Signals(which)
        if os.environ.get("LOCAL_RANK", "0") == "0":
            os.write(2, MESSAGE)  # print itself might have been interrupted

    def _poll(self, trainer: pl.Trainer) -> None:
        """Ask all processes whether to stop or to save."""
        is_time = self.minutes is not None and time.monotonic() - self._kept > 60.0 * self.minutes
        wanted = STOP if self.requested is not None else KEEP if is_time and trainer.is_global_zero else CONTINUE
        if trainer.world_size > 1:
            all_wanted = torch.tensor(wanted, device=trainer.strategy.root_device)
            torch.distributed.all_reduce(all_wanted, torch.distributed.ReduceOp.MAX)
            wanted = int(all_wanted)
        self._agreed = max(self._agreed, wanted)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Save the state after a step that is followed by neither a validation nor a row of the log."""
        n_batches = batch_idx + 1
        if trainer.world_size == 1 or n_batches % AGREE_EVERY == 0:
            self._poll(trainer)
        if trainer.should_stop or n_batches % (trainer.val_check_batch or math.inf) == 0:
            return  # the validation follows
        every: int = cast(Any, trainer).log_every_n_steps  # Lightning sets it without declaring it
        logs = every > 1 and trainer.global_step % every == 0
        if self._agreed != CONTINUE and n_batches % trainer.accumulate_grad_batches == 0 and not logs:
            self._keep(trainer)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """End a validation in the middle; it is run again on resuming."""
        common = len(cast(Any, trainer).datamodule.split.validation) // trainer.world_size
        if trainer.sanity_checking or batch_idx >= common:
            return  # not all processes have this batch
        self._poll(trainer)
        callbacks: list[Any] = cast(Any, trainer).callbacks
        limit = next((callback for callback in callbacks if isinstance(callback, TimeLimit)), None)
        if self._agreed == STOP or (limit is not None and limit.is_over_in_validation(trainer)):
            for callback in callbacks:
                if isinstance(callback, WeightAveraging):
                    callback.on_validation_epoch_end(trainer, pl_module)  # restore the weights that are trained
            self.validation_due = trainer.global_step
            trainer.save_checkpoint(self.file)
            trainer.training = True  # so that Lightning ends the workers of both loaders
            raise KeyboardInterrupt

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Make Lightning repeat a validation that was not completed."""
        if self.validation_due == trainer.global_step:
            started = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            progress = {"total": started, "current": dict(started), "is_last_batch": False}
            checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = progress

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark the validation as complete, so that checkpoints written after it need not repeat it."""
        if self.validation_due == trainer.global_step and not trainer.sanity_checking:
            if self._max_steps is not None:
                trainer.fit_loop.epoch_loop.max_steps = self._max_steps
            self.validation_due = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop after a validation, if requested."""
        if trainer.sanity_checking:
            return
        self._kept = time.monotonic()  # another callback writes the same file
        if trainer.world_size > 1:
            self._poll(trainer)
        if self._agreed == STOP or (trainer.world_size == 1 and self.requested is not None):
            self._agreed = STOP
            self._keep(trainer)

    def _keep(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.file)
        self._kept = time.monotonic()
        if self._agreed == STOP:
            raise KeyboardInterrupt
        self._agreed = CONTINUE

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report to the caller, a sweep for example, that the training was interrupted."""
        self.stop_listening()
        if self.requested is not None and trainer.world_size == 1:
            raise KeyboardInterrupt

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the signal handlers of the process."""
        self.stop_listening()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the signal handlers of the process, also if there was nothing to train."""
        self.stop_listening()

    def stop_listening(self) -> None:
        """Restore the signal handlers; called again after training, since Lightning restores those that it found."""
        for which, handler in self._before.items():
            if signal.getsignal(which) in (self._request, signal.SIG_IGN):  # Lightning ignores SIGINT when it ends
                signal.signal(which, handler)
