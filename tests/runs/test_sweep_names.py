"""Jobs of a sweep are a group of W&B runs, named by what differs."""

import sys
from pathlib import Path

import pytest

from deepdft.cli.app import hydra_command
from deepdft.runs.wandb import one_wandb_run


def test_jobs_of_a_sweep_are_one_group_with_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("WANDB_MODE", "WANDB_DISABLED"):
        monkeypatch.delenv(variable, raising=False)
    seen = []

    def task(cfg) -> float:
        one_wandb_run(cfg)
        seen.append((cfg.logger.wandb.group, cfg.logger.wandb.name, cfg.logger.wandb.id))
        return 0.0

    arguments = ["-m", "logger=wandb", "seed=1,2", "hydra.sweep.dir=study"]
    monkeypatch.setattr(sys, "argv", ["deepdft-train", *arguments])
    hydra_command("train")(task)()
    assert [group for group, _, _ in seen] == ["study", "study"]
    assert [name for _, name, _ in seen] == ["logger=wandb,seed=1", "logger=wandb,seed=2"]
    assert len({identifier for _, _, identifier in seen}) == 2
