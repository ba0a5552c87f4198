"""Folders that the commands leave behind, read back: training runs and evaluations."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from deepdft.training.loggers import read_metrics

__all__ = ["EvaluationRun", "TrainingRun", "find_runs", "read_runs"]

DEEPEST = 4
"""Levels below a given folder down to which runs are looked for: runs/sweep/DATE/JOB below the folder of a project."""


@dataclass(frozen=True)
class TrainingRun:
    """A run directory of deepdft-train, finished or not."""

    name: str
    """Short, and different for each run of a report."""
    folder: Path
    """The run directory."""
    config: dict[str, Any]
    """The resolved config."""
    metrics: list[dict[str, str]]
    """Rows of metrics.csv, without empty fields."""
    run: dict[str, Any]
    """run.json: command, git, versions, data, batch size; empty where it is missing."""
    split: dict[str, int]
    """Structures for training, validation and testing; empty where split.json is missing."""
    summary: dict[str, Any]
    """summary.json; empty while the run is not finished."""

    @property
    def model(self) -> str:
        """Class of the model."""
        return str(self.config.get("model", {}).get("_target_", "?")).rpartition(".")[2]

    def curve(self, quantity: str = "val/eps_mae") -> tuple[list[int], list[float]]:
        """Training steps and a logged quantity."""
        rows = [row for row in self.metrics if quantity in row]
        return [int(row["step"]) + 1 for row in rows], [float(row[quantity]) for row in rows]

    @property
    def best(self) -> float:
        """Lowest validation ε_mae in %; not a number where nothing was validated."""
        return min((value for value in self.curve()[1] if math.isfinite(value)), default=math.nan)

    @property
    def steps(self) -> int:
        """Training steps so far."""
        return max((int(row["step"]) + 1 for row in self.metrics), default=0)


@dataclass(frozen=True)
class EvaluationRun:
    """An output folder of deepdft-evaluate."""

    name: str
    """Short, and different for each run of a report."""
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
        name = Path(root).name if root else "files"
        subset = self.summary.get("subset", "all")
        return name if subset == "all" else f"{name}, {subset}"

    def values(self, measure: str) -> dict[str, float]:
        """Structure → eps_mae or eps_mad in %; empty where it was not measured."""
        return {row["name"]: float(row[measure]) for row in self.rows if measure in row}

    def worst(self, count: int) -> list[dict[str, str]]:
        """Rows of the structures with the largest error, or spread where there is no model."""
        measure = "eps_mae" if "eps_mae" in self.summary else "eps_mad"
        return sorted(self.rows, key=lambda row: -float(row[measure]))[:count]

    def is_of(self, run: TrainingRun) -> bool:
        """Whether the evaluated model came out of a training run."""
        checkpoint = self.summary.get("checkpoint_file", self.summary.get("checkpoint"))
        return checkpoint is not None and run.folder.resolve() in (
            Path(checkpoint).resolve(),
            *Path(checkpoint).resolve().parents,
        )


def find_runs(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Folders of runs and evaluations, each once, and what is wrong with the paths that lead to none.

    Args:
        paths: run directories, output folders of evaluations, or folders with such in them (a sweep, a study), down
            to `DEEPEST` levels. Hidden folders, and folders within a run or an evaluation, are not looked into.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if no path leads to a run.
    """
    found: dict[Path, None] = {}
    problems = []
    for path in map(Path, paths):
        folders, unreadable = _folders(path)
        found |= {folder.resolve(): None for folder in folders}
        problems += [f"{error.filename}: {error.strerror}; give yourself the right to read it" for error in unreadable]
        if folders or unreadable:
            continue
        if any(path.glob("*.part")):
            problems.append(
                f"{path}: this evaluation is not finished; to go on, give its command again with output={path}"
            )
        else:
            problems.append(
                f"{path}: neither a training run (config.yaml, metrics.csv) nor an evaluation (errors.csv, "
                f"summary.json), and no such folders in it, down to {DEEPEST} levels"
            )
    if not found:
        raise ValueError(problems[0] if problems else "no runs are given")
    return list(found), problems


def read_runs(
    folders: Sequence[Path], names: Sequence[str] | None = None
) -> tuple[list[TrainingRun], list[EvaluationRun]]:
    """Runs and evaluations.

    Args:
        folders: found by `find_runs`.
        names: of the runs in this order; None for the shortest ends of their paths that differ.

    Raises:
        ValueError: if a file is damaged, or there are not as many names as runs.
    """
    if names is None:
        names = _short_names(folders)
    if len(names) != len(folders) or len(set(names)) < len(names):
        raise ValueError(
            f"names={list(names)}: expected {len(folders)} different ones, for {', '.join(map(str, folders))}"
        )
    named = list(zip(names, folders, strict=True))
    return (
        [_training(name, folder) for name, folder in named if _is_training(folder)],
        [_evaluation(name, folder) for name, folder in named if not _is_training(folder)],
    )


def _folders(path: Path) -> tuple[list[Path], list[OSError]]:
    """The folder itself if it is a run, else all runs below it; and the folders that could not be looked into."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such run directory or evaluation")
    found: list[Path] = []
    unreadable: list[OSError] = []
    for name, below, _ in os.walk(path, onerror=unreadable.append, followlinks=True):
        folder = Path(name)
        if _is_training(folder) or _is_evaluation(folder):
            found.append(folder)
            below.clear()
        elif len(folder.relative_to(path).parts) == DEEPEST:
            below.clear()
        else:
            below[:] = sorted(sub for sub in below if not sub.startswith("."))
    return found, unreadable


def _is_training(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and (folder / "metrics.csv").is_file()


def _is_evaluation(folder: Path) -> bool:
    return (folder / "errors.csv").is_file() and (folder / "summary.json").is_file()


def _short_names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell all of them apart."""
    longest = max((len(folder.parts) for folder in folders), default=0)
    for length in range(1, longest):
        names = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _training(name: str, folder: Path) -> TrainingRun:
    split = _json(folder / "split.json", missing={})
    return TrainingRun(
        name=name,
        folder=folder,
        config=cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))),
        metrics=read_metrics(folder / "metrics.csv"),
        run=_json(folder / "run.json", missing={}),
        split={part: len(members) for part, members in split.items()},
        summary=_json(folder / "summary.json", missing={}),
    )


def _evaluation(name: str, folder: Path) -> EvaluationRun:
    summary = _json(folder / "summary.json")
    if not {"eps_mae", "eps_mad"} & set(summary):
        raise ValueError(f"{folder / 'summary.json'}: neither eps_mae nor eps_mad is in it; evaluate again")
    with (folder / "errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    if len(rows) != summary.get("n_structures"):
        raise ValueError(
            f"{folder / 'errors.csv'}: {len(rows)} structures, but summary.json says "
            f"{summary.get('n_structures')}; evaluate again"
        )
    return EvaluationRun(name, folder, summary, rows)


def _json(path: Path, missing: Any = None) -> dict[str, Any]:
    """An object from a JSON file."""
    if missing is not None and not path.is_file():
        return dict(missing)
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); the file is damaged") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected an object, found {type(content).__name__}")
    return content
