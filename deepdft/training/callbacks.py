"""Callbacks of training: throughput, a line per validation, a picture of a density slice."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import RichProgressBarTheme
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor

from deepdft.data.datamodule import DensityDataModule
from deepdft.graph.batch import Batch
from deepdft.inference.encoded import EncodedStructure
from deepdft.models.base import DensityModel
from deepdft.plotting import compare_predicted, save

__all__ = ["DensityPicture", "Progress", "Throughput", "ValidateAtEnd"]


class ValidateAtEnd(pl.Callback):
    """Validates, and so writes a checkpoint, after the last step, even if it falls between two validations."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Ask the trainer to stop, which makes it validate first."""
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True


class Throughput(pl.Callback):
    """Logs steps/s, probes/s (over all devices) and the share of the time spent waiting for data.

    Args:
        every: steps between two logs; a validation in between is left out of the count.
    """

    def __init__(self, *, every: int = 50) -> None:
        self.every = every
        self._restart()

    def _restart(self, step: int = 0) -> None:
        self.began = self.batch_ended = time.perf_counter()
        self.waited = 0.0
        self.first_step = step
        self.probes = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._restart(trainer.global_step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restart the clock: validation does not count."""
        self._restart(trainer.global_step)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Count the time since the end of the last step as waiting for this batch."""
        self.waited += time.perf_counter() - self.batch_ended

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the step, and log at the interval; if gradients are accumulated, only once per step."""
        self.batch_ended = time.perf_counter()
        self.probes += batch.n_probes
        steps = trainer.global_step - self.first_step
        if steps > 0 and trainer.global_step % self.every == 0:
            elapsed = self.batch_ended - self.began
            pl_module.log_dict(
                {
                    "throughput/steps_per_second": steps / elapsed,
                    "throughput/probes_per_second": self.probes * trainer.world_size / elapsed,
                    "throughput/data_share": self.waited / elapsed,
                }
            )
            self._restart(trainer.global_step)


class DensityPicture(pl.Callback):
    """Reference, prediction and difference on a plane of the first validation structure.

    Goes to loggers that take images (W&B) at every validation, and into the run directory at the end.

    Args:
        directory: where density.png is written.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.file = Path(directory) / "density.png"

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw; listed before weight averaging, so that the averaged weights are still in place."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if loggers and self._draw(trainer, pl_module):
            for logger in loggers:
                logger.log_image("density", [str(self.file)], step=trainer.global_step)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw at the end of the run, however it ended; the model holds the averaged weights by now."""
        self._draw(trainer, pl_module)

    def _draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        """Whether this process draws, and there is something to draw."""
        data: DensityDataModule = cast(Any, trainer).datamodule  # Lightning sets it without declaring it
        if not trainer.is_global_zero or not data.split.validation:
            return False
        position = data.split.validation[0]
        reference = data.store.density(position, label=data.label)
        structure = EncodedStructure(cast(DensityModel, pl_module.model), reference.atoms, pbc=data.pbc)
        figure = compare_predicted(reference, structure.total, name=data.store.names[position])
        save(figure, self.file)
        return True


class Progress(RichProgressBar):
    """Lightning's rich progress bar over all steps of the run, with a line that stays for every validation."""

    def __init__(self, **options: Any) -> None:
        super().__init__(theme=RichProgressBarTheme(metrics_format=".3g"), **options)  # enough digits for small losses

    @property
    def total_train_batches(self) -> int | float:
        """All steps of the run, including those before it was resumed."""
        steps = self.trainer.max_steps
        return steps * self.trainer.accumulate_grad_batches if steps > 0 else float("inf")

    def _get_train_description(self, current_epoch: int) -> str:
        return "training"  # there are no epochs to count

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the errors, on rank 0 only, like the bar itself."""
        super().on_validation_end(trainer, pl_module)
        if self.is_disabled or trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics
        print(f"step {trainer.global_step:>7}  {_line(metrics)}", flush=True)


def _line(metrics: dict[str, Tensor]) -> str:
    """The validation errors as text."""
    texts = {"val/eps_mae": "ε_mae {:.2f} %", "val/mae": "MAE {:.2e} e/Å³", "val/rmse": "RMSE {:.2e} e/Å³"}
    return "  ".join(text.format(metrics[key].item()) for key, text in texts.items() if key in metrics)
