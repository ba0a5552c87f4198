"""The trust record that training stores in its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from deepdft.checkpoint import add_info, load_checkpoint
from deepdft.data.datamodule import DensityDataModule
from deepdft.evaluation.trust_record import covering_indices, sampled_errors, trust_record
from deepdft.inference.assessment import TRUST

__all__ = ["add_trust_record"]


def add_trust_record(run_dir: Path, data: DensityDataModule, device: torch.device, trusted: Sequence[str]) -> None:
    """Calibrate the best checkpoint of a finished run on its validation structures, and store the record in it.

    Args:
        run_dir: of the run.
        data: it was trained on.
        device: where the model is evaluated.
        trusted: packages beside deepdft.models whose classes may be built.
    """
    if not any((run_dir / "checkpoints" / name).is_file() for name in ("best.ckpt", "last.ckpt")):
        return
    checkpoint = load_checkpoint(run_dir, device=device, trusted=trusted)
    store, model = data.store, checkpoint.model
    errors = sampled_errors(model, store, data.split.validation, pbc=data.pbc, label=data.label)
    training = [store.atoms(index) for index in covering_indices(store, data.split.train)]
    validation = [(store.atoms(index), error) for index, error in errors.items()]
    record = trust_record(model, training, validation, pbc=data.pbc) if validation else None
    if record is not None:
        add_info(Path(checkpoint.info["path"]), {TRUST: record})
