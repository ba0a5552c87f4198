"""The table of results of a sweep (`deepdft-train -m …`)."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

__all__ = ["SweepResults", "sweep_rows"]


class SweepResults(Callback):
    """Writes results.csv into the sweep's directory and prints it, one row per job, the best first."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this when all jobs have ended."""
        directory = Path(config.hydra.sweep.dir)
        rows = sweep_rows(directory)
        if not rows:
            return
        file = directory / "results.csv"
        with file.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        table = Table(title=str(file))
        for column in rows[0]:
            table.add_column(column)
        for row in rows:
            table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
        Console().print(table)


def sweep_rows(directory: Path) -> list[dict[str, Any]]:
    """One row per finished job: its number, its overrides, and its summary; the lowest error first."""
    jobs = []
    for summary in sorted(directory.glob("*/summary.json")):
        overrides = OmegaConf.load(summary.parent / ".hydra" / "overrides.yaml")
        settings = dict(str(override).partition("=")[::2] for override in overrides)
        jobs.append({"job": summary.parent.name} | settings | json.loads(summary.read_text()))
    columns = list(dict.fromkeys(column for job in jobs for column in job))
    rows = [{column: job.get(column, "") for column in columns} for job in jobs]
    return sorted(rows, key=lambda row: row["val/eps_mae"])
