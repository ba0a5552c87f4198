"""The record of a training in its run directory: configuration, split, versions, command and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from deepdft.checkpoint import model_name
from deepdft.data.datamodule import DensityDataModule
from deepdft.files import write_json, write_text
from deepdft.runs.provenance import command_line, git_state, versions
from deepdft.training.module import DensityModule

__all__ = ["write_record"]


def write_record(
    config: dict[str, Any],
    run_dir: Path,
    data: DensityDataModule,
    split: Mapping[str, Sequence[str]],
    module: DensityModule,
    trainer: pl.Trainer,
) -> None:
    """Write config.yaml, split.json and run.json, and print in one line what is trained on what."""
    run_dir.mkdir(parents=True, exist_ok=True)
    write_text(run_dir / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
    write_json(run_dir / "split.json", split)
    per_step = data.structures_per_step * trainer.world_size * trainer.accumulate_grad_batches
    n_parameters = sum(parameter.numel() for parameter in module.model.parameters())
    write_json(
        run_dir / "run.json",
        {
            "command": command_line(),
            "git": git_state(),
            "versions": versions(),
            "data": {"root": str(data.root.resolve()), "fingerprint": data.store.fingerprint},
            "global_batch_size": {"structures": per_step, "probes": per_step * data.probes_per_structure},
            "n_parameters": n_parameters,
            "devices": trainer.world_size,
            "accelerator": type(trainer.accelerator).__name__,
            "torch_threads": torch.get_num_threads(),
        },
    )
    print(
        f"{model_name(config['model'])}, {n_parameters} parameters; {len(split['train'])} training and "
        f"{len(split['validation'])} validation structures; {per_step} structures × {data.probes_per_structure} "
        f"points a step on {trainer.world_size} × {type(trainer.accelerator).__name__}"
    )
