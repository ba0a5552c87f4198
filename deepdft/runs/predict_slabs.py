"""The slabs of one large grid, predicted by this process or by many, and kept beside the output until all are there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deepdft.checkpoint import Checkpoint
from deepdft.clusters import Workers
from deepdft.inference.pieces import Chunked, Pieces
from deepdft.inference.slab_job import SlabJob, fingerprint, open_job, parts_folder

__all__ = ["Helpers", "joined_slabs"]


@dataclass(frozen=True, eq=False)
class Helpers:
    """Other processes that help, and what they need to know."""

    workers: Workers
    """Runs tasks in them."""
    checkpoint: Checkpoint
    """The model."""
    device: str = "cpu"
    """Name of the device that each of them uses."""
    trusted: tuple[str, ...] = ()
    """Packages outside deepdft whose model classes may be built."""


@dataclass(frozen=True)
class SlabTask:
    """Some slabs of a job, for any process that sees its folder."""

    folder: Path
    identity: str
    slabs: tuple[int, ...]
    device: str
    trusted: tuple[str, ...]

    def __call__(self) -> int:
        """Predict them, and return the number of their points."""
        job = open_job(self.folder, self.identity, self.device, self.trusted)
        for number in self.slabs:
            job.predict(job.pieces.slabs[number])
        return sum(job.pieces.slabs[number].n_points for number in self.slabs)


@contextmanager
def joined_slabs(
    pieces: Pieces,
    output: Path,
    *,
    memory: int | None = None,
    helpers: Helpers | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Chunked]:
    """Predict the slabs of a grid that are not there yet; yields what gives the whole grid chunk after chunk.

    The slabs are kept in a folder beside the output, which is removed if the block ends without an error.

    Args:
        pieces: of the grid.
        output: the file that the grid will be written to.
        memory: what was asked for; with another amount, a prediction starts again.
        helpers: other processes; None predicts here.
        progress: called with points done and points in all.

    Raises:
        ChildProcessError: if workers were lost again and again.
    """
    folder = parts_folder(output.absolute())
    identity = fingerprint(pieces.model, [pieces.box], pieces.order, pieces.pbc, memory)
    job = SlabJob.begin(folder, identity, pieces)
    tasks = job.tasks()
    n_points = pieces.box.n_points
    done = n_points - sum(slab.n_points for task in tasks for slab in task)
    if done:
        print(f"{folder}: {len(pieces.slabs) - sum(map(len, tasks))} of {len(pieces.slabs)} slabs were there")
    report = progress or (lambda done, total: None)
    report(done, n_points)
    if helpers is None:
        for slab in (slab for task in tasks for slab in task):
            job.predict(slab)
            done += slab.n_points
            report(done, n_points)
    elif tasks:
        job.share(helpers.checkpoint, pieces.order)
        of_all = [
            SlabTask(folder, identity, tuple(slab.number for slab in task), helpers.device, helpers.trusted)
            for task in tasks
        ]
        for _, outcome in helpers.workers(of_all):
            if isinstance(outcome, Exception):
                raise ChildProcessError(f"{folder}: a slab is missing: {outcome}; the same command continues")
            done += outcome
            report(done, n_points)
    yield partial(job.files.chunks, pieces.order)
    shutil.rmtree(folder)
