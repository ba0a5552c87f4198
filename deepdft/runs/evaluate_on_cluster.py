"""Errors of the structures of a store, computed by the workers of a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from deepdft.checkpoint import Checkpoint, load_checkpoint
from deepdft.clusters import Workers
from deepdft.data.store import DensityStore
from deepdft.evaluation.errors import StructureErrors, evaluate_structure
from deepdft.inference.device import choose_device
from deepdft.runs.evaluation_settings import EvaluationSettings
from deepdft.runs.precision import matmul_precision

__all__ = ["errors_on_cluster"]


@dataclass(frozen=True)
class _ErrorsTask:
    """The errors of one structure, in any process that sees checkpoint and store."""

    checkpoint: str
    root: str
    device: str
    trusted: tuple[str, ...]
    pbc: bool | None
    label: str | None
    matmul_precision: str
    index: int

    def __call__(self) -> StructureErrors:
        """Predict and compare."""
        checkpoint, store = _opened(self.checkpoint, self.root, self.device, self.trusted)
        pbc = checkpoint.pbc if self.pbc is None else self.pbc
        with matmul_precision(self.matmul_precision):
            options: dict[str, Any] = {"pbc": pbc, "label": self.label, "info": checkpoint.info}
            return evaluate_structure(checkpoint.model, store, self.index, **options)


@lru_cache(maxsize=1)
def _opened(checkpoint: str, root: str, device: str, trusted: tuple[str, ...]) -> tuple[Checkpoint, DensityStore]:
    return load_checkpoint(checkpoint, device=choose_device(device), trusted=trusted), DensityStore(root)


def errors_on_cluster(
    settings: EvaluationSettings, workers: Workers, indices: Sequence[int]
) -> Iterator[StructureErrors]:
    """Errors of some structures, as workers come back with them.

    Args:
        settings: with `root` given.
        workers: run the tasks; they must see the checkpoint and the store.
        indices: of the structures in the store.

    Raises:
        ChildProcessError: if the workers of a structure were lost again and again.
    """
    path = Path(str(settings.checkpoint))
    checkpoint = str(path.absolute()) if path.exists() else str(settings.checkpoint)
    where = (checkpoint, str(Path(str(settings.root)).absolute()), settings.device, tuple(settings.trusted))
    how = (settings.pbc, settings.label, settings.matmul_precision)
    for task, outcome in workers([_ErrorsTask(*where, *how, index) for index in indices]):
        if isinstance(outcome, Exception):
            again = "the same command, with the same output, continues"
            raise ChildProcessError(f"structure {task.index}: {outcome}; {again}")
        yield outcome
