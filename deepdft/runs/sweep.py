"""The table of results of a sweep (`deepdft-train -m …`)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deepdft.files import write_text

__all__ = ["SweepResults", "sweep_rows"]

RESULTS = "results.csv"
ERROR = "val/eps_mae"
OF_JOB = ("job", "checkpoint")
"""Keys that always differ; the table shows only the number of the job, which names the folder of its checkpoint."""
NARROWEST = 8
"""Smallest width in characters of a folded column of the table on the terminal."""


class SweepResults(Callback):
    """Writes results.csv into the sweep's directory and prints what differs, one row per job, the best first."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Update the table; Hydra calls this after each job, even if it failed."""
        if config.hydra.mode == RunMode.MULTIRUN:
            _write(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table; Hydra calls this when all jobs have ended."""
        directory = Path(config.hydra.sweep.dir)
        rows = _write(directory)
        if not rows:
            return
        console, table = Console(), _table(rows, str(directory / RESULTS))
        # rich drops columns if there is no room for all; a terminal wraps lines that are too long
        console.width = max(console.width, 1 + sum(3 + (column.min_width or 0) for column in table.columns))
        console.print(table)


def _table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Table of the error, the job, and the settings that differ between jobs."""
    differ = [key for key in rows[0] if len({str(row[key]) for row in rows}) > 1 and key not in (ERROR, *OF_JOB)]
    columns = {key: [key, *(_shown(row[key]) for row in rows)] for key in (ERROR, "job", *differ)}
    table = Table(title=title)
    for key, texts in columns.items():
        longest, is_whole = max(map(len, texts)), key == ERROR
        least = longest if is_whole else min(NARROWEST, longest)
        table.add_column(key, overflow="fold", no_wrap=is_whole, min_width=least)
    for row in list(zip(*columns.values(), strict=True))[1:]:
        table.add_row(*map(escape, row))
    return table


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write(directory: Path) -> list[dict[str, Any]]:
    """Write the table of the jobs finished so far; returns its rows."""
    rows = sweep_rows(directory)
    if rows:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_text(directory / RESULTS, text.getvalue())
    return rows


def sweep_rows(directory: Path) -> list[dict[str, Any]]:
    """One row per finished job with its number, overrides and summary; the lowest error first."""
    jobs = []
    for summary in sorted(directory.glob("*/summary.json")):
        overrides = OmegaConf.load(summary.parent / ".hydra" / "overrides.yaml")
        settings = dict(str(override).partition("=")[::2] for override in overrides)
        jobs.append({"job": summary.parent.name} | settings | json.loads(summary.read_text()))
    columns = list(dict.fromkeys(column for job in jobs for column in job))
    rows = [{column: job.get(column, "") for column in columns} for job in jobs]
    return sorted(rows, key=lambda row: (row[ERROR] is None, row[ERROR]))
