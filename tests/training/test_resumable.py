"""Checkpoints that are complete or absent."""

import resource
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.demos.boring_classes import BoringModel

from deepdft.training.resumable import AtomicCheckpointIO


@pytest.mark.filterwarnings("ignore:.*LeafSpec")  # of torch, which Lightning uses
def test_a_checkpoint_never_lies_in_the_folder_of_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no such folder"))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        plugins=[AtomicCheckpointIO()],
    )
    trainer.fit(BoringModel())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("missing", [1, 48, 100, 1000, 20_000])
def test_a_disk_that_is_full_anywhere_in_a_checkpoint_is_reported(tmp_path: Path, missing: int) -> None:
    checkpoint = {"state_dict": {str(k): torch.zeros(1000) for k in range(50)}}
    file = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(checkpoint, file)
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - missing, hard))
    try:
        with pytest.raises(OSError, match=r"last\.ckpt: not written, file too large"):
            AtomicCheckpointIO().save_checkpoint(checkpoint, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
