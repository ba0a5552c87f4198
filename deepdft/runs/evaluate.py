"""Errors of a model over the full grids of a density store, and the spread of densities."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from deepdft.runs.evaluate_ensemble import EnsembleEvaluation
from deepdft.runs.evaluate_errors import ErrorEvaluation
from deepdft.runs.rows import remove_parts
from deepdft.runs.provenance import command_line, git_state, versions, write_json
from deepdft.evaluation.ranks import Ranks, ranks

__all__ = ["EVALUATIONS", "Evaluation", "evaluate"]


class Evaluation(Protocol):
    """One kind of evaluation; it is made from the config and this process among all."""

    def __init__(self, cfg: DictConfig, me: Ranks) -> None:
        """Check the config and open model and data."""

    def run(self, me: Ranks, output: Path) -> int:
        """Do the work; returns the number of grid points dealt with."""

    def summary(self) -> dict[str, Any]:
        """The figures with where they come from."""

    def write(self, output: Path) -> list[str]:
        """Write table and pictures; returns the names of the files."""

    def table(self, summary: dict[str, Any]) -> Table:
        """The figures for the terminal."""

    def log(self, logger: Any, summary: dict[str, Any], output: Path) -> None:
        """Figures and pictures for W&B."""


EVALUATIONS: dict[str, type[Evaluation]] = {"errors": ErrorEvaluation, "xc_ensemble": EnsembleEvaluation}


def evaluate(cfg: DictConfig) -> None:
    """Evaluate as the config says, into `run_dir`.

    Raises:
        ValueError: if the config contradicts itself, the model or the data.
    """
    with ranks() as me, _wandb(cfg, me) as logger:
        evaluation = EVALUATIONS[cfg.evaluation](cfg, me)
        output = Path(cfg.run_dir)
        output.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        n_points = evaluation.run(me, output)
        if me.rank > 0:
            return
        summary = evaluation.summary() | _provenance(cfg, me, n_points, time.monotonic() - began)
        files = evaluation.write(output)
        write_json(output / "summary.json", summary)
        remove_parts(output)
        if logger is not None:
            evaluation.log(logger, summary, output)
        Console().print(evaluation.table(summary))
        print(f"{', '.join(files)} and summary.json are in {output}")


def _provenance(cfg: DictConfig, me: Ranks, n_points: int, seconds: float) -> dict[str, Any]:
    """How the figures came to be, and how long it took."""
    return {
        "evaluation": cfg.evaluation,
        "processes": me.world_size,
        "command": command_line(),
        "git": git_state(),
        "versions": versions(),
        "seconds": round(seconds, 3),
        "points_per_second": round(n_points / seconds, 1),
    }


@contextmanager
def _wandb(cfg: DictConfig, me: Ranks) -> Iterator[Any]:
    """The W&B logger on the first process where it is on; the run ends with an exit code whatever happens."""
    loggers = cfg.get("logger") or {}  # logger=null leaves the group out
    if loggers.get("wandb") is None or me.rank > 0:
        yield None
        return
    logger = instantiate(loggers["wandb"], job_type="evaluate")
    exit_code = 1
    try:
        yield logger
        exit_code = 0
    finally:
        logger.experiment.finish(exit_code=exit_code)
