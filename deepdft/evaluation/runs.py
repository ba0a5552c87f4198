"""Training runs and evaluations, read back from their folders."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deepdft.evaluation.run_folders import is_training, short_names
from deepdft.files import read_json
from deepdft.measures import MEASURES, Measure
from deepdft.training.loggers import read_metrics

__all__ = ["STATISTICS", "EvaluationRun", "Runs", "TrainingRun", "read_runs"]

STATISTICS = ("mean", "median", "p99", "max", "pooled")
"""Statistics of ε_mae and ε_mad that a summary has."""
NUMBERS = {"n_atoms", "n_points", "n_electrons", "eps_mad", *(measure.name for measure in MEASURES)}
"""Columns of errors.csv that hold numbers, or are empty where a measure is not defined."""


@dataclass(frozen=True)
class TrainingRun:
    """A run directory of deepdft-train, finished or not."""

    name: str
    """Short name, unique in a report."""
    folder: Path
    """The run directory."""
    config: dict[str, Any]
    """The resolved config."""
    metrics: list[dict[str, str]]
    """Rows of metrics.csv, without empty fields."""
    run: dict[str, Any]
    """run.json: command, git, versions, data, batch size; empty if it is missing."""
    split: dict[str, int]
    """Structures for training, validation and testing; empty if split.json is missing."""
    summary: dict[str, Any]
    """summary.json; empty while the run is not finished."""

    @property
    def model(self) -> str:
        """Class of the model."""
        return str(self.config.get("model", {}).get("_target_", "?")).rpartition(".")[2]

    def curve(self, quantity: str = "val/eps_mae") -> tuple[list[int], list[float]]:
        """Training steps, and a logged quantity at these."""
        rows = [row for row in self.metrics if quantity in row]
        return [int(row["step"]) for row in rows], [float(row[quantity]) for row in rows]

    @property
    def best(self) -> float:
        """Lowest validation ε_mae in %; NaN if nothing was validated."""
        return min((value for value in self.curve()[1] if math.isfinite(value)), default=math.nan)

    @property
    def steps(self) -> int:
        """Training steps so far."""
        return max((int(row["step"]) for row in self.metrics), default=0)


@dataclass(frozen=True)
class EvaluationRun:
    """An output folder of deepdft-evaluate."""

    name: str
    """Short name, unique in a report."""
    folder: Path
    """The output folder."""
    summary: dict[str, Any]
    """summary.json."""
    rows: list[dict[str, str]]
    """Rows of errors.csv."""

    @property
    def data(self) -> str:
        """Name of the data set, with the subset unless it is the whole."""
        root = self.summary.get("data", {}).get("root")
        name = Path(str(root)).name if root else "files"
        subset = self.summary.get("subset", "all")
        return name if subset == "all" else f"{name}, {subset}"

    def values(self, measure: str) -> dict[str, float]:
        """Structure → value of a measure, for structures for which it is defined."""
        return {row["name"]: float(row[measure]) for row in self.rows if row.get(measure)}

    def has(self, measure: Measure) -> bool:
        """Whether the evaluation has a measure."""
        return measure.name in self.summary

    def worst(self, count: int) -> list[dict[str, str]]:
        """Rows of the structures with the largest error, or spread if there is no model."""
        measure = "eps_mae" if "eps_mae" in self.summary else "eps_mad"
        return sorted(self.rows, key=lambda row: -float(row[measure]))[:count]

    def is_of(self, run: TrainingRun) -> bool:
        """Whether the evaluated model comes from a training run."""
        checkpoint = self.summary.get("checkpoint_file") or self.summary.get("checkpoint")
        return isinstance(checkpoint, str) and run.folder.resolve() in (
            Path(checkpoint).resolve(),
            *Path(checkpoint).resolve().parents,
        )


@dataclass(frozen=True)
class Runs:
    """The content of a report."""

    trainings: list[TrainingRun]
    """Training runs."""
    evaluations: list[EvaluationRun]
    """Evaluations."""
    problems: list[str]
    """One line about each folder that could not be read and was left out."""


def read_runs(folders: Sequence[Path], names: Sequence[str] | None = None) -> Runs:
    """Read runs and evaluations; folders with damaged files are left out and reported.

    Args:
        folders: found by `find_runs`.
        names: names of the runs in this order; None for the shortest ends of their paths that differ.

    Raises:
        ValueError: if there are not as many names as runs, or none of the folders can be read.
    """
    if names is None:
        names = short_names(folders)
    if len(names) != len(folders) or len(set(names)) < len(names):
        raise ValueError(
            f"names={list(names)}: expected {len(folders)} different ones, for {', '.join(map(str, folders))}"
        )
    trainings, evaluations, problems = [], [], []
    for name, folder in zip(names, folders, strict=True):
        try:
            if is_training(folder):
                trainings.append(_training(name, folder))
            else:
                evaluations.append(_evaluation(name, folder))
        except (OSError, ValueError) as error:
            problems.append(" ".join(str(error).split()))
    if folders and not (trainings or evaluations):
        raise ValueError("; ".join(problems))
    return Runs(trainings, evaluations, problems)


def _training(name: str, folder: Path) -> TrainingRun:
    split = _json(folder / "split.json")
    for part, members in split.items():
        if not isinstance(members, list):
            raise ValueError(f"{folder / 'split.json'}: damaged: entry {part!r} is not a list of structures")
    summary = _json(folder / "summary.json")
    seconds = summary.get("seconds", 0.0)
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise ValueError(f"{folder / 'summary.json'}: damaged: seconds is {seconds!r}, expected a number")
    return TrainingRun(
        name=name,
        folder=folder,
        config=_config(folder / "config.yaml"),
        metrics=_metrics(folder / "metrics.csv"),
        run=_json(folder / "run.json"),
        split={part: len(members) for part, members in split.items()},
        summary=summary,
    )


def _config(path: Path) -> dict[str, Any]:
    """The settings of a run."""
    try:
        config = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{path}: damaged, not a config: {str(error).splitlines()[0]}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model", {}), dict):
        raise ValueError(f"{path}: damaged, not the config of a training run: expected settings with a model")
    return cast(dict[str, Any], config)


def _metrics(path: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv, whose values are checked to be numbers."""
    try:
        rows = read_metrics(path)
        for row in rows:
            int(row["step"])
            float(row.get("val/eps_mae", "nan"))
    except KeyError as error:
        raise ValueError(f"{path}: damaged: a row has no step") from error
    except (ValueError, TypeError, csv.Error) as error:
        raise ValueError(f"{path}: damaged: {error}") from error
    return rows


def _evaluation(name: str, folder: Path) -> EvaluationRun:
    file = folder / "summary.json"
    summary = _json(file)
    found = [measure for measure in ("eps_mae", "eps_mad") if measure in summary]
    if not found:
        raise ValueError(f"{file}: neither eps_mae nor eps_mad is in it; evaluate again")
    for measure in found:
        statistics = summary[measure]
        if not isinstance(statistics, dict) or not all(_is_number(statistics.get(key)) for key in STATISTICS):
            raise ValueError(f"{file}: damaged: {measure} lacks a number for {', '.join(STATISTICS)}")
    if "eps_mad" in found and not isinstance(summary.get("functionals"), list):
        raise ValueError(f"{file}: damaged: no list of functionals")
    if not isinstance(summary.get("data"), dict):
        raise ValueError(f"{file}: damaged: no entry 'data'")
    rows = _errors(folder / "errors.csv", found)
    if len(rows) != summary.get("n_structures"):
        raise ValueError(
            f"{folder / 'errors.csv'}: {len(rows)} structures, but summary.json says "
            f"{summary.get('n_structures')}; evaluate again"
        )
    return EvaluationRun(name, folder, summary, rows)


def _errors(path: Path, measures: Sequence[str]) -> list[dict[str, str]]:
    """Rows of errors.csv with names, formulas and numbers."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            missing = [column for column in ("name", "formula", *measures) if row.get(column) is None]
            if missing:
                raise ValueError(f"a row has no {missing[0]}")
            for column, text in row.items():
                if column in NUMBERS and text:
                    float(text)
            for measure in measures:
                float(row[measure])
    except (ValueError, TypeError, csv.Error) as error:
        raise ValueError(f"{path}: damaged: {error}") from error
    return rows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _json(path: Path) -> dict[str, Any]:
    """An object from a JSON file, empty if there is no file; malformed provenance is left out."""
    if not path.is_file():
        return {}
    content = cast(dict[str, Any], read_json(path))
    command, git = content.get("command"), content.get("git")
    if command is not None and not (isinstance(command, list) and all(isinstance(word, str) for word in command)):
        raise ValueError(f"{path}: damaged: command is not a list of words")
    if git is not None and not isinstance(git, dict):
        raise ValueError(f"{path}: damaged: git is not an object")
    return content
