"""Density files → a density store: parallel over shards, and resumable.

plan.json in `.conversion/` says what was begun; each finished shard leaves a record there; then index.json is
written and `.conversion/` removed. A conversion that is killed at any time goes on from the finished shards.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from deepdft.data.convert_plan import Plan, Task
from deepdft.data.index import WORK_FOLDER, Rejected, discard, read_record, write_index, write_text
from deepdft.data.splits import SPLIT_FILE, split_names
from deepdft.data.store import DensityStore
from deepdft.data.unfinished import alone, begin, discard_plan_on_failure, is_complete, write_rejected
from deepdft.data.workers import end_with_parent, sigint_blocked, sigint_deferred
from deepdft.data.writer import Compression, ShardWriter
from deepdft.io import DensityFormatError

__all__ = ["DamagedMembersError", "convert", "store_split"]

POLL = 0.2  # seconds between looks at the workers

Progress = Callable[[int], None]
"""Called now and then with the number of members that are done."""


class DamagedMembersError(ValueError):
    """Members of the source cannot be read, and were not to be skipped."""


def convert(
    plan: Plan,
    output: Path,
    *,
    workers: int = 1,
    skip_damaged: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> DensityStore:
    """Make a store, or finish one that was begun.

    Args:
        plan: what goes into it.
        output: folder of the store; made if it does not exist.
        workers: processes; 1 converts in this one.
        skip_damaged: list damaged members in rejected.csv instead of stopping.
        provenance: further content of index.json.
        progress: called with the number of members that are done.

    Raises:
        DamagedMembersError: naming all members that are known to be damaged.
        ValueError: if the output was begun with another plan, or is something else.
        ChildProcessError: if a worker was killed.
    """
    if workers < 1:
        raise ValueError(f"workers={workers}: expected at least 1")
    if is_complete(output, plan.identity):
        return _finished(output)
    (output / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
    with alone(output, "deepdft-convert"):
        if is_complete(output, plan.identity):  # another process has just come to its end
            return _finished(output)
        begin(output, plan.purpose, what="conversion")
        todo = [task for task in plan.tasks if not _is_made(output, task, skip_damaged)]
        for task in todo:
            discard(output, task.shard)
        done = sum(len(task.members) for task in plan.tasks) - sum(len(task.members) for task in todo)
        report = progress or (lambda count: None)
        report(done)
        job = _Job(output, plan.label, plan.compression, skip_damaged, plan.pbc)
        with discard_plan_on_failure(output):
            damaged = _run(job, todo, min(workers, len(todo)), lambda count: report(done + count))
            if damaged:
                raise DamagedMembersError(_describe_damaged(damaged))
            return _finish(output, plan, provenance or {})


def _finished(output: Path) -> DensityStore:
    shutil.rmtree(output / WORK_FOLDER, ignore_errors=True)  # there if a run was killed at its very end
    return DensityStore(output)


def _is_made(output: Path, task: Task, skip_damaged: bool) -> bool:
    """Whether a shard is there, made from the source as it is now."""
    record = read_record(output, task.shard)
    return record is not None and record.made_from == task.identity and (skip_damaged or not record.rejected)


def _describe_damaged(damaged: Sequence[Rejected]) -> str:
    listed = "; ".join(f"{member.name} ({member.reason})" for member in sorted(damaged, key=lambda m: m.position))
    return (
        f"{len(damaged)} damaged members: {listed}; mend the source, or leave them out with on_error=skip "
        "(finished shards are kept)"
    )


class _Job:
    """What every shard has in common; cheap to pickle."""

    def __init__(
        self, output: Path, label: str, compression: Compression, skip_damaged: bool, pbc: bool | None
    ) -> None:
        self.output = output
        self.label = label
        self.compression = compression
        self.skip_damaged = skip_damaged
        self.pbc = pbc

    def convert(self, task: Task, tick: Callable[[], None]) -> list[Rejected]:
        """Make a shard.

        Returns:
            The damaged members; if there are any and they are not to be skipped, the shard is not made.
        """
        damaged: list[Rejected] = []
        writer = ShardWriter(
            self.output, task.shard, labels=[self.label], compression=self.compression, made_from=task.identity
        )
        try:
            with writer:
                for offset, (member, name) in enumerate(zip(task.members, task.names, strict=True)):
                    try:
                        density = member.read(pbc=self.pbc)
                    except DensityFormatError as error:
                        rejected = Rejected(task.first + offset, name, str(member.source), str(error))
                        writer.reject(rejected)
                        damaged.append(rejected)
                    else:
                        writer.add(name, density)
                    tick()
                if damaged and not self.skip_damaged:
                    raise DamagedMembersError
        except DamagedMembersError:
            return damaged
        return []


def _run(job: _Job, todo: Sequence[Task], workers: int, report: Progress) -> list[Rejected]:
    """Make shards; returns the damaged members if they are not to be skipped."""
    if workers <= 1:
        return _run_here(job, todo, report)
    return _run_in_processes(job, todo, workers, report)


def _run_here(job: _Job, todo: Sequence[Task], report: Progress) -> list[Rejected]:
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        report(count)

    for task in todo:
        if damaged := job.convert(task, tick):
            return damaged
    return []


def _run_in_processes(job: _Job, todo: Sequence[Task], workers: int, report: Progress) -> list[Rejected]:
    context = multiprocessing.get_context("spawn")
    # one counter a shard, each written by one process: no lock that a killed worker could hold for ever
    counts = context.RawArray("q", len(todo))
    stop = context.RawValue("b", 0)
    with sigint_deferred() as heed_ctrl_c:

        def look() -> None:
            heed_ctrl_c()
            report(sum(counts))

        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=(counts, stop))
        try:
            with sigint_blocked():  # a worker that is just starting would die of Ctrl-C with a traceback
                futures = [pool.submit(_convert_in_worker, job, task, slot) for slot, task in enumerate(todo)]
            return _watch(futures, look)
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a worker was killed, perhaps for lack of memory; run the same command again with fewer workers: "
                "finished shards are kept"
            ) from error
        finally:
            stop.value = 1
            pool.shutdown(cancel_futures=True)


def _watch(futures: Sequence[Future[list[Rejected]]], look: Callable[[], None]) -> list[Rejected]:
    """Wait for all shards; after a damaged member, only for those that are being made."""
    damaged: list[Rejected] = []
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=POLL, return_when=FIRST_COMPLETED)
        look()
        damaged += [member for future in done if not future.cancelled() for member in future.result()]
        if damaged:
            pending = {future for future in pending if not future.cancel()}
    return damaged


_counts: Any = None
_stop: Any = None


def _begin_worker(counts: Any, stop: Any) -> None:
    """Share the counters, and end with the parent however it ends; Ctrl-C is left to it (`sigint_blocked`)."""
    global _counts, _stop  # shared memory reaches a pool's tasks in no other way
    _counts, _stop = counts, stop
    end_with_parent()


def _convert_in_worker(job: _Job, task: Task, slot: int) -> list[Rejected]:
    def tick() -> None:
        _counts[slot] += 1
        if _stop.value:
            raise InterruptedError("the conversion was stopped")

    return job.convert(task, tick)


def _finish(output: Path, plan: Plan, provenance: Mapping[str, Any]) -> DensityStore:
    """Write rejected.csv and the index, and clear up."""
    records = [record for task in plan.tasks if (record := read_record(output, task.shard))]
    for shard in {path.name for path in output.glob("shard-*.h5")} - {record.file for record in records}:
        (output / shard).unlink()  # of a source that was cut into more of them before it was mended
    write_rejected(output, records)
    write_index(
        output,
        records,
        labels=[plan.label],
        compression=plan.compression.as_dict(),
        provenance={**plan.provenance(), **provenance},
    )
    shutil.rmtree(output / WORK_FOLDER)
    return DensityStore(output)


def store_split(store: DensityStore, split: Path) -> dict[str, list[str]]:
    """Keep a split with the data, by name.

    Returns:
        The names in each part.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not fit the data.
    """
    names = split_names(split, store)
    write_text(store.root / SPLIT_FILE, json.dumps(names, indent=1) + "\n")
    return names
