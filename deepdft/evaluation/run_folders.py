"""Search for the folders of training runs and evaluations below some paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["find_runs", "is_training", "short_names"]

MAX_DEPTH = 4
"""Levels below a given folder that are searched: runs/sweep/DATE/JOB below the folder of a project."""


def find_runs(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Folders of runs and evaluations, each once, and a line about each path that leads to none.

    Args:
        paths: run directories, output folders of evaluations, or folders with such in them (a sweep, a study), down
            to `MAX_DEPTH` levels. Hidden folders, and folders within a run or an evaluation, are not looked into.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if no path leads to a run.
    """
    found: dict[Path, None] = {}
    problems = []
    for path in map(Path, paths):
        folders, unreadable = _folders(path)
        found |= {folder.resolve(): None for folder in folders}
        problems += [f"{error.filename}: {error.strerror}; change its permissions" for error in unreadable]
        if folders or unreadable:
            continue
        if any(path.glob("*.part")):
            problems.append(
                f"{path}: this evaluation is not finished; to continue it, repeat its command with output={path}"
            )
        else:
            problems.append(
                f"{path}: neither a training run (config.yaml, metrics.csv) nor an evaluation (errors.csv, "
                f"summary.json), and no such folders in it, down to {MAX_DEPTH} levels"
            )
    if not found:
        raise ValueError(problems[0] if problems else "no runs are given")
    return list(found), problems


def _folders(path: Path) -> tuple[list[Path], list[OSError]]:
    """The folder itself if it is a run, else all runs below it; and the folders that could not be read."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such run directory or evaluation")
    found: list[Path] = []
    unreadable: list[OSError] = []
    for name, below, _ in os.walk(path, onerror=unreadable.append, followlinks=True):
        folder = Path(name)
        if is_training(folder) or _is_evaluation(folder):
            found.append(folder)
            below.clear()
        elif len(folder.relative_to(path).parts) == MAX_DEPTH:
            below.clear()
        else:
            below[:] = sorted(sub for sub in below if not sub.startswith("."))
    return found, unreadable


def is_training(folder: Path) -> bool:
    """Whether a folder is a run directory of deepdft-train."""
    return (folder / "config.yaml").is_file() and (folder / "metrics.csv").is_file()


def _is_evaluation(folder: Path) -> bool:
    return (folder / "errors.csv").is_file() and (folder / "summary.json").is_file()


def short_names(folders: Sequence[Path]) -> list[str]:
    """The shortest endings of the paths that distinguish all of them."""
    longest = max((len(folder.parts) for folder in folders), default=0)
    for length in range(1, longest):
        names = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]
