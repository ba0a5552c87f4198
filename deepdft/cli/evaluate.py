"""deepdft-evaluate: errors of a model over the full grids of a density store, and the spread of densities."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from deepdft.cli.app import hydra_command, one_line_errors
from deepdft.cli.arguments import quote_list, quote_texts
from deepdft.cli.evaluation_ensemble import EnsembleEvaluation
from deepdft.cli.evaluation_errors import PBC, ErrorEvaluation
from deepdft.cli.evaluation_rows import remove_parts
from deepdft.cli.options import refuse_other_kinds
from deepdft.cli.provenance import command_line, git_state, versions, write_json
from deepdft.cli.run_folder import named_folder, refuse_training_run, with_run_dir
from deepdft.evaluation.ranks import Ranks, ranks

__all__ = ["main"]

SUBSETS = ("train", "validation", "test", "all")


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


@one_line_errors
def main() -> None:
    """Entry point of deepdft-evaluate."""
    arguments = with_run_dir([quote_list(argument, "densities") for argument in sys.argv[1:]])
    refuse_training_run(named_folder(arguments, "output", "hydra.run.dir"), "give another output")
    sys.argv[1:] = quote_texts(arguments, "checkpoint", "output", "data.root", "hydra.run.dir")
    _run()


@hydra_command("evaluate", interrupted="give the same command with output=<the folder it wrote into>")
def _run(cfg: DictConfig) -> None:
    _check(cfg)
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


def _check(cfg: DictConfig) -> None:
    """Refuse what makes no sense before anything is loaded."""
    if cfg.evaluation not in EVALUATIONS:
        raise ValueError(
            f"evaluation={cfg.evaluation}: there is no such evaluation; expected {' or '.join(EVALUATIONS)}"
        )
    refuse_other_kinds(cfg, counts=["limit", "pictures"], lists=["trusted"])
    if cfg.evaluation == "errors" and cfg.densities is not None:
        raise ValueError(
            "densities= is of evaluation=xc_ensemble; for the errors of a model make a store of the files first: "
            "deepdft-convert source=FILES output=STORE, then data.root=STORE subset=all"
        )
    if cfg.subset not in (None, *SUBSETS):
        raise ValueError(f"subset={cfg.subset}: expected one of {', '.join(SUBSETS)}")
    if cfg.limit is not None and cfg.limit < 1:
        raise ValueError(f"limit={cfg.limit}: a number of structures, at least 1, or null")
    if cfg.pbc not in PBC:
        raise ValueError(f"pbc={cfg.pbc}: expected null (as the model was trained), true or false")
    if any(override.lstrip("+").startswith("data.pbc=") for override in HydraConfig.get().overrides.task):
        raise ValueError(
            "data.pbc is a setting of training; a model is evaluated with the periodic boundaries it was trained with, "
            "unless pbc=true or pbc=false is given"
        )
    if cfg.output is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("several processes need one folder: give output=<folder>")


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


if __name__ == "__main__":
    main()
