"""deepdft-report: one HTML page and Markdown tables that compare training runs and evaluations."""

from __future__ import annotations

import shlex
import sys
import warnings
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from deepdft.cli.app import hydra_command, one_line_errors
from deepdft.cli.arguments import positional_list
from deepdft.errors import InputWarning

__all__ = ["main"]


@one_line_errors
def main() -> None:
    """Entry point of deepdft-report."""
    sys.argv[1:] = positional_list(sys.argv[1:], "runs")
    _run()


@hydra_command("report")
def _run(cfg: DictConfig) -> None:
    from deepdft.evaluation.page import write_report
    from deepdft.evaluation.run_folders import find_runs
    from deepdft.evaluation.runs import read_runs

    for key in ("runs", "names"):
        if not isinstance(cfg[key], ListConfig) and cfg[key] is not None:
            raise ValueError(f"{key}={cfg[key]}: expected a list, as {key}=[a,b]")
    if not cfg.runs:
        raise ValueError("runs are required: deepdft-report RUN…, with run directories and evaluation folders")
    if not isinstance(cfg.worst, int) or cfg.worst < 0:
        raise ValueError(f"worst={cfg.worst}: a number of structures, 0 or more")
    names = None if cfg.names is None else [str(name) for name in cfg.names]
    folders, problems = find_runs([Path(run) for run in cfg.runs])
    runs = read_runs(folders, names)
    for problem in [*problems, *runs.problems]:
        warnings.warn(f"left out: {problem}", InputWarning, stacklevel=2)
    output = Path(cfg.output)
    output.mkdir(parents=True, exist_ok=True)
    made = f"{datetime.now():%Y-%m-%d %H:%M}, {shlex.join(['deepdft-report', *map(str, cfg.runs)])}"
    write_report(output, runs.trainings, runs.evaluations, title=str(cfg.title), subtitle=made, worst=cfg.worst)
    counts = f"{len(runs.trainings)} training runs and {len(runs.evaluations)} evaluations"
    print(f"{counts} are compared in {output}/report.html")
    print(f"the tables alone, as Markdown: {output}/report.md")


if __name__ == "__main__":
    main()
