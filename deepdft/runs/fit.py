"""Fit a module, and report how a run that was interrupted or has lost a process is resumed."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl

from deepdft.checkpoint import read_checkpoint_file
from deepdft.data.datamodule import DensityDataModule
from deepdft.evaluation.ranks import is_lost_peer
from deepdft.runs.directory import is_first_process
from deepdft.runs.resume import checkpoint_to_resume
from deepdft.runs.slurm import requeue
from deepdft.runs.trainer_settings import without_filling
from deepdft.training.interrupt import CheckpointOnInterrupt
from deepdft.training.module import DensityModule
from deepdft.training.time_limit import TimeLimit

__all__ = ["fit"]


def fit(
    trainer: pl.Trainer, module: DensityModule, data: DensityDataModule, resume_from: Path | None, run_dir: Path
) -> None:
    """Train until the end or an interruption; W&B gets an exit code in every case.

    Raises:
        KeyboardInterrupt: if the run was interrupted, with the command that resumes it.
        ValueError: if another process of the run has ended.
    """
    exit_code = 1
    observer = logging.getLogger("lightning_fabric.strategies.launchers.subprocess_script")
    report = _ReportLostPeer(run_dir)
    observer.addHandler(report)
    observer.setLevel(logging.INFO)
    observer.propagate = False  # replaces Lightning's own message
    try:
        with without_filling():
            trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
        exit_code = 0
    except SystemExit as stop:  # Lightning's answer to an interrupt
        if not _time_is_over(trainer):
            _interrupted(trainer, run_dir, stop)
        exit_code = 0
    except RuntimeError as error:
        if trainer.world_size > 1 and is_lost_peer(error):
            raise ValueError(_lost_peer(run_dir)) from error
        raise
    finally:
        observer.removeHandler(report)
        for callback in cast(Any, trainer).callbacks:
            if isinstance(callback, CheckpointOnInterrupt):
                callback.stop_listening()
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish(exit_code=exit_code)


def _lost_peer(run_dir: Path) -> str:
    """The message for a run that has lost one of its processes."""
    return (
        f"another process of this run has ended (killed, or out of memory): deepdft-train "
        f"resume={os.path.relpath(run_dir)} continues after step {_last_step(run_dir)}"
    )


class _ReportLostPeer(logging.Handler):
    """Prints why the run ends when Lightning kills the first process because another has ended."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self.run_dir = run_dir

    def emit(self, record: logging.LogRecord) -> None:
        """Report in one line."""
        if "terminated with code" in record.getMessage():
            print(f"error: {_lost_peer(self.run_dir)}", file=sys.stderr, flush=True)


def _time_is_over(trainer: pl.Trainer) -> bool:
    """Whether a training stopped only because `trainer.max_time` was reached during a validation."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it without declaring it
    stopped = any(isinstance(callback, CheckpointOnInterrupt) and callback.requested for callback in callbacks)
    limits = [callback for callback in callbacks if isinstance(callback, TimeLimit)]
    return not stopped and any(limit.was_reached for limit in limits)


def _interrupted(trainer: pl.Trainer, run_dir: Path, stop: SystemExit) -> None:
    """Report how to resume an interrupted run, and requeue its SLURM job if SLURM announced its time limit."""
    if not is_first_process():
        sys.exit(130)  # the first process reports it
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    if any(getattr(callback, "requested", None) == signal.SIGUSR1 for callback in callbacks):
        requeue()
    last, reached = _last_step(run_dir), trainer.global_step
    where = f"after step {last}"
    if last < reached:
        where += f" of {reached}, the last state that was saved"
    raise KeyboardInterrupt(f"deepdft-train resume={os.path.relpath(run_dir)} ({where})") from stop


def _last_step(run_dir: Path) -> int:
    """The step from which a run would be resumed."""
    checkpoint = checkpoint_to_resume(run_dir)
    return 0 if checkpoint is None else int(read_checkpoint_file(checkpoint)["global_step"])
