"""The table of results of a sweep (`deepdft-train -m …`)."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from deepdft.cli.provenance import write_text

__all__ = ["SweepResults", "sweep_rows"]

RESULTS = "results.csv"


class SweepResults(Callback):
    """Writes results.csv into the sweep's directory and prints it, one row per job, the best first."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Hydra calls this after each job, and nothing else if one of them fails."""
        if config.hydra.mode == RunMode.MULTIRUN:
            _write(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this when all jobs have ended."""
        directory = Path(config.hydra.sweep.dir)
        rows = _write(directory)
        if not rows:
            return
        table = Table(title=str(directory / RESULTS))
        for column in rows[0]:
            table.add_column(column)
        for row in rows:
            table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
        Console().print(table)


def _write(directory: Path) -> list[dict[str, Any]]:
    """Write the table as it is now; returns its rows."""
    rows = sweep_rows(directory)
    if rows:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_text(directory / RESULTS, text.getvalue())
    return rows


def sweep_rows(directory: Path) -> list[dict[str, Any]]:
    """One row per finished job: its number, its overrides, and its summary; the lowest error first."""
    jobs = []
    for summary in sorted(directory.glob("*/summary.json")):
        overrides = OmegaConf.load(summary.parent / ".hydra" / "overrides.yaml")
        settings = dict(str(override).partition("=")[::2] for override in overrides)
        jobs.append({"job": summary.parent.name} | settings | json.loads(summary.read_text()))
    columns = list(dict.fromkeys(column for job in jobs for column in job))
    rows = [{column: job.get(column, "") for column in columns} for job in jobs]
    return sorted(rows, key=lambda row: (row["val/eps_mae"] is None, row["val/eps_mae"]))
