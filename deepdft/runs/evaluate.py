"""Errors of a model over the full grids of a density store, and the spread of densities, as a library."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.table import Table

from deepdft.data.store import DensityStore
from deepdft.evaluation.ensemble import StructureSpread
from deepdft.evaluation.errors import StructureErrors
from deepdft.evaluation.ranks import Ranks, ranks
from deepdft.files import write_json
from deepdft.runs.directory import new_directory, only_writer
from deepdft.runs.evaluate_ensemble import EnsembleEvaluation
from deepdft.runs.evaluate_errors import ErrorEvaluation
from deepdft.runs.evaluate_starts import StartEvaluation
from deepdft.runs.evaluation_settings import EvaluationSettings, with_data
from deepdft.runs.precision import matmul_precision
from deepdft.runs.provenance import command_line, git_state, versions
from deepdft.runs.rows import remove_parts

__all__ = ["EVALUATIONS", "Evaluation", "EvaluationKind", "evaluate", "run_evaluation"]


class EvaluationKind(Protocol):
    """A kind of evaluation, made from the settings and the rank of this process."""

    def __init__(self, settings: EvaluationSettings, process_group: Ranks) -> None:
        """Open the model and the data."""

    @property
    def title(self) -> str:
        """Title of the figures."""

    def run(self, process_group: Ranks, output: Path) -> int:
        """Do the work; returns the number of grid points processed."""

    def rows(self) -> tuple[list[StructureErrors], list[StructureSpread]]:
        """Errors and spread of each structure; a list is empty if that is not evaluated."""

    def summary(self) -> dict[str, Any]:
        """The content of summary.json: the figures and their provenance."""

    def write(self, output: Path) -> list[str]:
        """Write the table and the pictures; returns the names of the files."""

    def table(self, summary: dict[str, Any]) -> Table:
        """The table that the terminal shows."""

    def log(self, logger: Any, summary: dict[str, Any], output: Path) -> None:
        """Log figures and pictures."""


EVALUATIONS: dict[str, type[EvaluationKind]] = {
    "errors": ErrorEvaluation,
    "xc_ensemble": EnsembleEvaluation,
    "scf_start": StartEvaluation,
}


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation and the folder that holds it."""

    directory: Path
    """Folder of errors.csv, summary.json and the pictures."""
    summary: dict[str, Any]
    """The content of summary.json: figures over all structures (errors in %) and their provenance."""
    errors: list[StructureErrors]
    """The model's errors for each structure; empty without a model."""
    spreads: list[StructureSpread]
    """The spread of the densities of each structure; empty unless evaluation="xc_ensemble"."""
    table: Table
    """The figures for a terminal or a notebook."""
    files: list[str]
    """Names of the files in `directory`."""

    @property
    def eps_mae(self) -> float:
        """Mean over structures of ∫|ρ - ρ̂| / ∫|ρ|, in %.

        Raises:
            KeyError: if no model was evaluated.
        """
        return float(self.summary["eps_mae"]["mean"])

    @property
    def eps_mad(self) -> float:
        """Mean over structures of the spread of their densities, in %.

        Raises:
            KeyError: if no ensemble was evaluated.
        """
        return float(self.summary["eps_mad"]["mean"])


def evaluate(
    checkpoint: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    store: str | os.PathLike[str] | DensityStore | None = None,
    *,
    subset: str | None = None,
    split: str | Mapping[str, int] | None = None,
    limit: int | None = None,
    evaluation: str = "errors",
    densities: Sequence[str] | None = None,
    device: str = "auto",
    trusted: Sequence[str] = (),
    output: str | os.PathLike[str] | None = None,
) -> Evaluation:
    """Evaluate a model on full grids of reference densities; writes errors.csv, summary.json and pictures.

    Args:
        checkpoint: checkpoint file, run directory, released model folder, "bundled" or "free_atoms"; several are an
            ensemble.
        store: the reference densities; None for the data of the evaluated run, with its split.
        subset: "train", "validation", "test" or "all"; None for the test structures.
        split: split file, or numbers to draw; None for the split of the run, or the one stored with the data.
        limit: only the first structures of the subset.
        evaluation: "errors", or "xc_ensemble": the spread of several densities of each structure.
        densities: for "xc_ensemble", LABEL=SOURCE of each density in place of a store.
        device: "cpu", "cuda", "cuda:N" or "auto".
        trusted: packages outside deepdft whose model classes may be built.
        output: folder for the results; None for a new one below runs/evaluate.

    Raises:
        FileNotFoundError: if there is no such checkpoint or store.
        ValueError: if the arguments contradict each other, the model or the data.
    """
    settings = EvaluationSettings(
        evaluation=evaluation,
        checkpoint=_text(checkpoint),
        root=None if store is None else os.fspath(store.root if isinstance(store, DensityStore) else store),
        split=split,
        densities=densities,
        subset=subset,
        limit=limit,
        device=device,
        trusted=trusted,
    )
    result = run_evaluation(settings, new_directory("runs/evaluate") if output is None else Path(output))
    assert result is not None  # the first process has the result
    return result


def _text(checkpoint: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None) -> str | None:
    """A checkpoint, or several, in the form of the settings."""
    if checkpoint is None or isinstance(checkpoint, str | os.PathLike):
        return None if checkpoint is None else os.fspath(checkpoint)
    return f"[{','.join(os.fspath(one) for one in checkpoint)}]"


def run_evaluation(settings: EvaluationSettings, output: Path, logger: Any = None) -> Evaluation | None:
    """Evaluate into a folder; several processes, started by torchrun, share the structures.

    Args:
        settings: what is evaluated.
        output: folder of the results, in which an interrupted evaluation continues.
        logger: makes a W&B logger in a context, on the first process.

    Returns:
        The result on the first process, None on the others.
    """
    if settings.evaluation not in EVALUATIONS:
        raise ValueError(f"evaluation={settings.evaluation}: expected {' or '.join(EVALUATIONS)}")
    settings, message = with_data(settings)
    with (
        only_writer(output, "evaluation"),
        ranks() as process_group,
        matmul_precision(settings.matmul_precision),
    ):
        is_first = process_group.rank == 0
        if message is not None and is_first:
            print(message)
        with (
            only_writer(output if is_first else None, "evaluation"),
            logger() if logger is not None and is_first else nullcontext() as log,
        ):
            kind = EVALUATIONS[settings.evaluation](settings, process_group)
            output.mkdir(parents=True, exist_ok=True)
            start = time.monotonic()
            n_points = kind.run(process_group, output)
            if not is_first:
                return None
            seconds = time.monotonic() - start
            summary = kind.summary() | _provenance(settings, process_group, n_points, seconds)
            files = kind.write(output)
            write_json(output / "summary.json", summary)
            remove_parts(output)
            if log is not None:
                kind.log(log, summary, output)
    errors, spreads = kind.rows()
    return Evaluation(output, summary, errors, spreads, kind.table(summary), [*files, "summary.json"])


def _provenance(settings: EvaluationSettings, process_group: Ranks, n_points: int, seconds: float) -> dict[str, Any]:
    """Software, command and time behind the figures."""
    return {
        "evaluation": settings.evaluation,
        "processes": process_group.world_size,
        "command": command_line(),
        "git": git_state(),
        "versions": versions(),
        "seconds": round(seconds, 3),
        "points_per_second": round(n_points / seconds, 1),
    }
