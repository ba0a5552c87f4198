"""A training run, as `deepdft.train` returns it and as its directory stores it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepdft.inference.predictor import Predictor
from deepdft.training.loggers import read_metrics

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """A finished training run; as a path it is its directory, which is accepted wherever a checkpoint is."""

    directory: Path
    """The run directory: config.yaml, metrics.csv, split.json, checkpoints and more."""
    best: float
    """Lowest validation ε_mae in %; infinite if nothing was validated."""
    steps: int
    """Training steps."""
    seconds: float
    """Wall-clock time of the training."""
    ended_by: str
    """The setting that ended it, as key=value."""

    def __fspath__(self) -> str:
        return os.fspath(self.directory)

    @property
    def checkpoint(self) -> Path:
        """The checkpoint with the lowest validation error."""
        return self.directory / "checkpoints" / "best.ckpt"

    @property
    def metrics(self) -> list[dict[str, str]]:
        """Rows of metrics.csv, without empty fields."""
        return read_metrics(self.directory / "metrics.csv")

    def predictor(self, device: str = "cpu") -> Predictor:
        """The model with the lowest validation error, ready to predict."""
        return Predictor.from_checkpoint(self.checkpoint, device=device)

    def summary(self) -> dict[str, Any]:
        """The content of summary.json."""
        return {
            "val/eps_mae": self.best if math.isfinite(self.best) else None,
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "checkpoint": str(self.checkpoint),
            "ended_by": self.ended_by,
        }

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Run:
        """Open a finished run by its directory.

        Raises:
            FileNotFoundError: if there is no finished run.
        """
        directory = Path(directory)
        file = directory / "summary.json"
        if not file.is_file():
            raise FileNotFoundError(f"{directory}: no finished training run (no summary.json)")
        return cls.of_summary(directory, json.loads(file.read_text()))

    @classmethod
    def of_summary(cls, directory: Path, summary: Mapping[str, Any]) -> Run:
        """A run from the content of its summary.json."""
        best = summary["val/eps_mae"]
        return cls(
            directory,
            math.inf if best is None else float(best),
            int(summary["steps"]),
            float(summary.get("seconds", math.nan)),
            str(summary.get("ended_by", "trainer.max_steps")),
        )
