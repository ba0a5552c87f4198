"""The folder of a run or an evaluation, checked before Hydra writes into it."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deepdft.files import exclusive_lock

__all__ = [
    "is_first_process",
    "named_folder",
    "new_directory",
    "only_writer",
    "refuse_training_run",
    "run_directory_of",
    "with_run_dir",
]

OF_A_TRAINING = ("config.yaml", "metrics.csv", "checkpoints")
"""Files and folders that only deepdft-train makes."""


def with_run_dir(arguments: Sequence[str]) -> list[str]:
    """Replace `run_dir=DIR`, the key of the configs, by the key with which Hydra writes into the same folder."""
    return [f"hydra.run.dir={a.partition('=')[2]}" if a.startswith("run_dir=") else a for a in arguments]


def named_folder(arguments: Sequence[str], *keys: str) -> Path | None:
    """The folder named by the last override of some keys; None if there is none."""
    given = [a.partition("=")[2].strip("'\"") for a in arguments if a.partition("=")[0].lstrip("+") in keys]
    return Path(given[-1]) if given and given[-1] not in ("", "null") else None


def refuse_training_run(folder: Path | None, advice: str) -> None:
    """Refuse a folder that holds a training run.

    Args:
        folder: None is a new one.
        advice: what to do instead.

    Raises:
        ValueError: if there is a training run in it.
    """
    if folder is not None and is_first_process() and any((folder / name).exists() for name in OF_A_TRAINING):
        raise ValueError(f"{folder}: holds a training run; {advice}")


def run_directory_of(checkpoint: Path) -> Path | None:
    """The run directory that a checkpoint is, or lies in; None if it was moved out of one."""
    for folder in (checkpoint, checkpoint.resolve().parent.parent):
        if (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir():
            return folder
    return None


def new_directory(base: str | os.PathLike[str]) -> Path:
    """Make a folder below `base`, named by the time; runs that start in the same second get different ones."""
    stem = Path(base) / datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    stem.parent.mkdir(parents=True, exist_ok=True)
    directory, count = stem, 0
    while True:
        try:
            directory.mkdir()
        except FileExistsError:
            count += 1
            directory = stem.with_name(f"{stem.name}-{count}")
        else:
            return directory


def is_first_process() -> bool:
    """Whether this process is the one among all of a run, however they were started, that writes files."""
    return all(os.environ.get(rank, "0") == "0" for rank in ("LOCAL_RANK", "RANK", "SLURM_PROCID"))


_locked: set[Path] = set()


@contextmanager
def only_writer(folder: Path | None, purpose: str) -> Iterator[None]:
    """Make a folder and keep other processes from writing into it; the other processes of the same run are let in.

    Args:
        folder: None is one that is not made yet. One that this process has locked already is left to it.
        purpose: what is done there, in one word.

    Raises:
        ValueError: if another process writes there.
    """
    if folder is None or not is_first_process() or folder.resolve() in _locked:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder, purpose):
        _locked.add(folder.resolve())
        try:
            yield
        finally:
            _locked.discard(folder.resolve())
