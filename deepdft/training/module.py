"""The LightningModule: wraps any `DensityModel` with a loss, an optimizer and validation errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.utilities import GradClipAlgorithmType
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from deepdft.checkpoint import checkpoint_entries
from deepdft.graph.batch import Batch
from deepdft.graph.neighbors import atom_graph, probe_graph
from deepdft.models.base import DensityModel
from deepdft.nn.occupancies import Occupancies, occupancy_errors
from deepdft.training.metrics import DensityErrors

__all__ = ["LOSSES", "DensityModule"]

LOSSES: dict[str, Callable[[Tensor], Tensor]] = {"mse": torch.square, "l1": torch.abs}
"""Loss functions of errors in e/Å³, averaged over channels and over weighted points; "mse" is the paper's."""


class DensityModule(pl.LightningModule):
    """Trains a model on random grid points.

    Args:
        model: the model.
        model_config: plain config that builds it, stored in checkpoints.
        optimizer: makes the optimizer from the parameters.
        scheduler: makes a learning rate schedule from the optimizer; stepped after every training step.
        loss: "mse" or "l1".
        occupancy_weight: of the loss of PAW occupancies, in units of their spread, beside that of the density.
        pbc: the data's periodicity (None as stored), stored in checkpoints so that prediction follows it.
        info: plain values stored in checkpoints: data fingerprint, elements, …

    Raises:
        ValueError: if there is no such loss.
    """

    def __init__(
        self,
        model: DensityModel,
        *,
        model_config: Mapping[str, Any],
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler],
        loss: str = "mse",
        occupancy_weight: float = 0.01,
        pbc: bool | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"loss is one of {', '.join(LOSSES)}, got {loss!r}")
        self.model = model
        self.model_config = dict(model_config)
        self.loss = loss
        self.occupancy_weight = occupancy_weight
        self.pbc = pbc
        self.info = dict(info or {})
        self.errors = DensityErrors(model.channels, occupancies=model.has_occupancies)
        self._optimizer = optimizer
        self._scheduler = scheduler

    def forward(self, batch: Batch) -> tuple[Tensor, Occupancies | None]:
        """Predict what a batch has targets for; edges are built on the batch's device.

        Returns:
            Density (n_probes, n_channels) in e/Å³ at the probes, and PAW occupancies of the atoms, if the model
            predicts them.
        """
        states = self.model.encode(atom_graph(batch.structures, self.model.cutoff))
        probes = probe_graph(batch.structures, batch.probe_positions, batch.probe_structure, self.model.probe_cutoff)
        density = self.model.checked(self.model.decode(states, probes), probes.n_probes)
        return density, self.model.occupancies(states)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one step."""
        density, occupancies = self(batch)
        function = LOSSES[self.loss]
        errors = function(density - batch.targets)  # (n_probes, n_channels)
        loss = (errors if batch.weights is None else batch.weights[:, None] * errors).mean()
        if occupancies is not None and batch.occupancies is not None:
            differences, spread = occupancy_errors(occupancies, batch.occupancies)
            loss = loss + self.occupancy_weight * function(differences / spread).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients like Lightning, and also those of a fused optimizer unless mixed precision scales them."""
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler is None and gradient_clip_val:
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val, algorithm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stop with an error if the loss or a gradient is not finite, before it spoils the weights."""
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            return  # which skips such a step, and reduces the scale
        for name, parameter in self.named_parameters():
            if parameter.grad is not None and not torch.isfinite(parameter.grad.sum()):
                raise ValueError(
                    f"step {self.global_step}: the gradient of {name} is not finite; lower optimizer.lr or set "
                    "trainer.gradient_clip_val"
                )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Accumulate the errors of one structure at its fixed points."""
        density, occupancies = self(batch)
        squares = None
        if occupancies is not None and batch.occupancies is not None:
            differences, spread = (part.double() for part in occupancy_errors(occupancies, batch.occupancies))
            squares = differences.square().sum(), spread.square().sum()
        self.errors.update(density, batch.targets, squares)

    def on_validation_epoch_end(self) -> None:
        """Log the errors over all validation structures and ranks."""
        errors = self.errors.compute()
        self.errors.reset()
        for name, value in errors.items():  # the metric already reduces over ranks, so their mean is the value itself
            self.log(f"val/{name}", value.float(), prog_bar=name == "eps_mae", sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, and its schedule by step."""
        optimizer = self._optimizer(self.model.parameters())
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self._scheduler(optimizer), "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the entries that make Lightning's file one of our checkpoints."""
        checkpoint.update(checkpoint_entries(self.model, self.model_config, self.pbc), info=self.info)
