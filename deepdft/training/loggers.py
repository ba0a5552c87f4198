"""The CSV logger of a run directory."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.csv_logs import _ExperimentWriter
from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from deepdft.files import atomic_write

__all__ = ["MetricsCSV", "keep_metrics_until", "read_metrics"]


class _Writer(ExperimentWriter):
    """Appends to an existing file, which Lightning's writer would delete and replace with the next row."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir=log_dir)
        self._file = Path(self.metrics_file_path)
        if self._file.is_file():
            with self._file.open(newline="") as lines:
                self.metrics_keys = list(csv.DictReader(lines).fieldnames or [])

    def _check_log_dir_exists(self) -> None:
        """Nothing to do: existing files are kept."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        _write(self._file, fieldnames, read_metrics(self._file))


class MetricsCSV(CSVLogger):
    """Writes metrics.csv into a run directory, by the number of completed steps, and keeps existing rows.

    Args:
        save_dir: the run directory.
    """

    def __init__(self, save_dir: str | os.PathLike[str]) -> None:
        super().__init__(Path(save_dir), name="", version="", flush_logs_every_n_steps=1)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log by the number of completed steps, as the console does; Lightning counts from zero."""
        super().log_metrics(metrics, None if step is None else step + 1)

    def log_hyperparams(self, params: Any = None) -> None:
        """Nothing to do: the run directory holds the config already."""

    @property
    @rank_zero_experiment
    def experiment(self) -> _ExperimentWriter:
        """The writer, which has Lightning's type but keeps existing files."""
        if self._experiment is None:
            self._experiment = _Writer(log_dir=self.log_dir)
        return self._experiment


def read_metrics(file: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv, without empty fields; an absent file has none.

    A last line without its end, which a run that was killed leaves behind, is no row.
    """
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [{key: value for key, value in row.items() if value} for row in csv.DictReader(whole)]


def keep_metrics_until(file: Path, step: int) -> None:
    """Drop what an interrupted run logged after the step it is resumed from."""
    rows = [row for row in read_metrics(file) if int(row["step"]) <= step]
    if not file.is_file():
        return
    _write(file, sorted({key for row in rows for key in row} | {"step"}), rows)


def _write(file: Path, keys: list[str], rows: list[dict[str, str]]) -> None:
    with atomic_write(file) as beside, beside.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, fieldnames=keys)
        writer.writeheader()
        writer.writerows(rows)
