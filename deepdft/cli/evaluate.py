"""deepdft-evaluate: errors of a model over the full grids of a density store, and the spread of densities."""

from __future__ import annotations

import os
import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from deepdft.cli.app import hydra_command, one_line_errors
from deepdft.cli.arguments import quote_list, quote_texts
from deepdft.cli.options import refuse_other_kinds
from deepdft.runs.directory import named_folder, refuse_training_run, with_run_dir
from deepdft.runs.evaluate import EVALUATIONS, evaluate
from deepdft.runs.evaluate_errors import PBC

__all__ = ["main"]

SUBSETS = ("train", "validation", "test", "all")


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
    evaluate(cfg)


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


if __name__ == "__main__":
    main()
