"""deepdft-evaluate: errors of a model over the full grids of a density store, and the spread of densities."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from deepdft.cli.app import hydra_command, one_line_errors
from deepdft.cli.arguments import quote_list, quote_texts
from deepdft.evaluation.process_count import n_processes
from deepdft.runs.compose import with_open_mappings
from deepdft.runs.directory import named_folder, refuse_training_run, with_run_dir
from deepdft.runs.helpers import workers_of
from deepdft.runs.wandb import one_wandb_run, wandb_errors

__all__ = ["main"]


@one_line_errors
def main() -> None:
    """Entry point of deepdft-evaluate."""
    arguments = with_run_dir([quote_list(argument, "densities") for argument in sys.argv[1:]])
    refuse_training_run(named_folder(arguments, "output", "hydra.run.dir"), "give another output")
    sys.argv[1:] = with_open_mappings(quote_texts(arguments, "checkpoint", "output", "data.root", "hydra.run.dir"))
    _run()


@hydra_command("evaluate", interrupted="the same command with output=<the folder it wrote into>")
def _run(cfg: DictConfig) -> None:
    from deepdft.runs.evaluate import run_evaluation
    from deepdft.runs.evaluation_settings import EvaluationSettings

    if any(override.lstrip("+").startswith("data.pbc=") for override in HydraConfig.get().overrides.task):
        raise ValueError(
            "data.pbc is a setting of training; a model is evaluated with the periodic boundaries it was trained with, "
            "unless pbc=true or pbc=false is given"
        )
    if cfg.output is None and n_processes() > 1:
        raise ValueError("several processes need one folder: give output=<folder>")
    one_wandb_run(cfg)
    wandb = (cfg.get("logger") or {}).get("wandb")  # logger=null leaves the group out
    result = run_evaluation(EvaluationSettings(**_settings(cfg)), Path(cfg.run_dir), wandb and partial(_wandb, wandb))
    if result is not None:
        Console().print(result.table)
        print(f"{', '.join(result.files)} are in {result.directory}")


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """The fields of `EvaluationSettings`."""
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    data = config.get("data") or {}
    root = data.get("root")
    others = ("data", "logger", "output", "run_dir", "cluster", "workers")
    return {key: value for key, value in config.items() if key not in others} | {
        "root": None if root == "???" else root,
        "split": data.get("split"),
        "label": data.get("label"),
        "cluster": workers_of(cfg),
    }


@contextmanager
def _wandb(config: DictConfig) -> Iterator[Any]:
    """Context with the W&B logger; its run gets an exit code in every case."""
    with wandb_errors():
        logger = instantiate(config, job_type="evaluate")
        run = logger.experiment
    exit_code = 1
    try:
        yield logger
        exit_code = 0
    finally:
        run.finish(exit_code=exit_code)


if __name__ == "__main__":
    main()
