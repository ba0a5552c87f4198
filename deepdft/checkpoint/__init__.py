"""Checkpoints: plain dictionaries inside Lightning's file, readable with `weights_only=True`.

A checkpoint holds `schema`, `model` (the plain config that builds the model), `channels` (the densities it predicts),
`pbc` (whether the model was trained with periodic boundaries as stored (None), forced on or off), `info` (elements, the
kind of density, …; its entry "trust" is a plain `deepdft.inference.domain.Domain`) and `state_dict`, whose names start
with "model.".
"""

from deepdft.checkpoint.build import build_model, model_name
from deepdft.checkpoint.file import STATE_PREFIX, checkpoint_entries, read_checkpoint_file, verify_archive
from deepdft.checkpoint.load import (
    BUNDLED,
    FREE_ATOMS,
    Checkpoint,
    add_info,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)

__all__ = [
    "BUNDLED",
    "FREE_ATOMS",
    "STATE_PREFIX",
    "Checkpoint",
    "add_info",
    "build_model",
    "checkpoint_entries",
    "load_checkpoint",
    "load_weights",
    "model_name",
    "read_checkpoint_file",
    "save_checkpoint",
    "verify_archive",
]
