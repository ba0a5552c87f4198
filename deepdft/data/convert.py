"""Density files → a density store: parallel over shards, and resumable.

The plan is recorded in `.conversion/`, where each finished shard leaves a record too; then index.json is written and
`.conversion/` removed. A conversion that is killed at any time resumes from the finished shards.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from deepdft.data.convert_plan import Plan, Settings, Task, make_plan
from deepdft.data.electrons import warn_of_implausible_electron_counts
from deepdft.data.kind import DensityKind
from deepdft.data.records import Rejected, discard, read_record
from deepdft.data.splits import SplitSpec, check_split, store_split
from deepdft.data.store import Store
from deepdft.data.unfinished import finish, finished_store, unfinished
from deepdft.data.workers import end_with_parent, sigint_blocked, sigint_deferred
from deepdft.data.writer import Compression, ShardWriter
from deepdft.density import DensityGrid
from deepdft.errors import DensityFormatError

__all__ = ["DamagedMembersError", "check_settings", "convert", "run_plan"]

POLL_SECONDS = 0.2
"""Seconds between two checks of the workers."""

Progress = Callable[[int], None]
"""Called repeatedly with the number of members done so far."""
Cluster = Callable[[Sequence[Any]], Iterable[tuple[Any, Any]]]
"""Runs tasks in other processes; gives each with its result, or with the exception of a worker that was lost."""

ON_ERROR = ("stop", "skip")


class DamagedMembersError(ValueError):
    """Members of the source cannot be read, and were not to be skipped."""


def convert(  # noqa: PLR0913  the options of the command
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    split: SplitSpec | None = None,
    workers: int = 1,
    on_error: Literal["stop", "skip"] = "stop",
    label: str = "PBE",
    compression: Compression | Literal["none", "bitshuffle", "zfp"] = "none",
    pbc: bool | None = None,
    channels: Sequence[str] | None = None,
    kind: str | Mapping[str, Any] | DensityKind | None = None,
    shard_size: float = 1e9,
    progress: Progress | None = None,
) -> Store:
    """Make a density store of density files, or finish one whose conversion was interrupted.

    Example:
        store = deepdft.convert("densities.tar", "data/mine", split={"validation": 50, "test": 100, "seed": 0})

    Args:
        source: a tar, a .txt list of tars, a folder, a density file, a store, or a list of these, in order.
        output: folder of the store; made if it does not exist.
        split: a JSON file of names or indices, or numbers of structures to draw, {"validation": n, "test": n,
            "seed": s}; kept with the data.
        workers: processes; 1 converts in this one. More need `if __name__ == "__main__":` in a script.
        on_error: "stop" at damaged members, naming them all, or "skip" and list them in rejected.csv.
        label: name of the density, e.g. of its functional; of stores with several densities, the one to take.
        compression: "none" (fastest to read), "bitshuffle" (lossless) or "zfp" (lossy), or a `Compression`.
        pbc: whether the structures repeat; None leaves it as the files have it.
        channels: channels to keep beside "total", such as "difference"; None keeps all.
        kind: what the densities are, for instance "VASP, PBE, PAW 5.4"; see `DensityKind`.
        shard_size: bytes of source files in a shard, at most.
        progress: called with the number of members that are done.

    Returns:
        The store.

    Raises:
        FileNotFoundError: if a source does not exist.
        DamagedMembersError: naming all members that are known to be damaged.
        ValueError: if a setting is wrong, or the output was started with another plan or is something else.
        ChildProcessError: if a worker was killed.
    """
    check_settings(on_error=on_error, split=split)
    sources = [source] if isinstance(source, str | os.PathLike) else list(source)
    plan = make_plan(
        sources,
        label=label,
        compression=Compression(compression) if isinstance(compression, str) else compression,
        shard_size=shard_size,
        pbc=pbc,
        channels=channels,
        kind=kind,
    )
    store = run_plan(plan, Path(output), workers=workers, skip_damaged=on_error == "skip", progress=progress)
    if split is not None:
        store_split(store, split)
    warn_of_implausible_electron_counts(store)
    return store


def check_settings(*, on_error: str, split: SplitSpec | None) -> None:
    """Refuse wrong settings that are not part of the plan, before anything is read.

    Raises:
        FileNotFoundError: if there is no such split file.
        ValueError: if a setting is wrong.
    """
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error={on_error}: expected {' or '.join(ON_ERROR)}")
    if split is not None:
        check_split(split)  # so that a mistake in it shows now, not after hours


def run_plan(
    plan: Plan,
    output: Path,
    *,
    workers: int = 1,
    cluster: Cluster | None = None,
    skip_damaged: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Store:
    """Make the store of a plan, or finish one that was started.

    Args:
        plan: what goes into it.
        output: folder of the store; made if it does not exist.
        workers: processes; 1 converts in this one.
        cluster: from `deepdft.clusters`, makes the shards in other processes that see the source and the output; None
            makes them in processes of this machine.
        skip_damaged: list damaged members in rejected.csv instead of stopping.
        provenance: further content of index.json.
        progress: called with the number of members that are done.

    Raises:
        DamagedMembersError: naming all members that are known to be damaged.
        ValueError: if the output was started with another plan, or is something else.
        ChildProcessError: if a worker was killed.
    """
    if workers < 1:
        raise ValueError(f"workers={workers}: expected at least 1")
    if (store := finished_store(output, plan.identity)) is not None:
        return store
    with unfinished(output, plan.purpose, what="conversion"):
        if (store := finished_store(output, plan.identity)) is not None:  # another process has just finished it
            return store
        todo = [task for task in plan.tasks if not _is_made(output, task, skip_damaged)]
        for task in todo:
            discard(output, task.shard)
        done = plan.n_members - sum(len(task.members) for task in todo)
        report = progress or (lambda count: None)
        report(done)
        make = partial(make_shard, output=output.absolute(), settings=plan.settings, skip_damaged=skip_damaged)
        if cluster is None:
            damaged = _run(make, todo, min(workers, len(todo)), lambda count: report(done + count))
        else:
            damaged = _run_on_cluster(make, todo, cluster, lambda count: report(done + count))
        if damaged:
            raise DamagedMembersError(_describe_damaged(damaged))
        records = [record for task in plan.tasks if (record := read_record(output, task.shard))]
        return finish(
            output,
            records,
            labels=[plan.settings.label],
            compression=plan.settings.compression.as_dict(),
            provenance={**plan.provenance(), **(provenance or {})},
        )


def _is_made(output: Path, task: Task, skip_damaged: bool) -> bool:
    """Whether a shard exists that was made from the source as it is now."""
    record = read_record(output, task.shard)
    return record is not None and record.made_from == task.identity and (skip_damaged or not record.rejected)


def _describe_damaged(damaged: Sequence[Rejected]) -> str:
    listed = "; ".join(f"{member.name} ({member.reason})" for member in sorted(damaged, key=lambda m: m.index))
    return (
        f"{len(damaged)} damaged members: {listed}; correct the source, or leave them out with on_error=skip "
        "(finished shards are kept)"
    )


def make_shard(
    task: Task, tick: Callable[[], None], *, output: Path, settings: Settings, skip_damaged: bool
) -> list[Rejected]:
    """Make one shard.

    Args:
        task: what goes into it.
        tick: called after each member.
        output: folder of the store.
        settings: how structures are stored.
        skip_damaged: whether the shard is made without damaged members.

    Returns:
        The damaged members; if there are any and they are not to be skipped, the shard is not made.
    """
    damaged: list[Rejected] = []
    try:
        with ShardWriter(
            output, task.shard, labels=[settings.label], compression=settings.compression, made_from=task.identity
        ) as writer:
            for offset, (member, name) in enumerate(zip(task.members, task.names, strict=True)):
                try:
                    density = member.read(pbc=settings.pbc)
                except (ValueError, OSError) as error:
                    reason = str(error) if isinstance(error, DensityFormatError) else f"{member.label}: {error}"
                    damaged.append(Rejected(task.first + offset, name, str(member.source), reason))
                    writer.reject(damaged[-1])
                else:
                    writer.add(name, _kept(density, settings, writer.drop))
                tick()
            if damaged and not skip_damaged:
                raise DamagedMembersError
    except DamagedMembersError:
        return damaged
    return []


def _kept(density: DensityGrid, settings: Settings, drop: Callable[[str], None]) -> DensityGrid:
    """A density with only the channels that are to be kept; `drop` counts the others."""
    wanted = settings.channels
    kept = {name: values for name, values in density.channels.items() if wanted is None or name in wanted}
    for name in sorted(density.channels.keys() - kept.keys()):
        drop(f"channel {name}")
    for name in sorted(density.info.keys() - {"comment"}):
        drop(name.replace("_", " "))
    return replace(density, channels=kept)


def _run(make: Callable[..., list[Rejected]], todo: Sequence[Task], workers: int, report: Progress) -> list[Rejected]:
    """Make shards; returns the damaged members if they are not to be skipped."""
    if workers > 1:
        return _run_in_processes(make, todo, workers, report)
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        report(count)

    for task in todo:
        if damaged := make(task, tick):
            return damaged
    return []


@dataclass(frozen=True, eq=False)
class _Shard:
    """What makes one shard, in any process."""

    make: Callable[..., list[Rejected]]
    task: Task
    folder: Path
    """The folder that relative paths of the source start from."""

    def __call__(self) -> list[Rejected]:
        """Make it; returns the damaged members."""
        os.chdir(self.folder)
        return self.make(self.task, lambda: None)


def _run_on_cluster(
    make: Callable[..., list[Rejected]], todo: Sequence[Task], cluster: Cluster, report: Progress
) -> list[Rejected]:
    """Make shards in processes of a cluster; after damaged members, none that has not been started.

    Raises:
        ChildProcessError: if the workers of a shard were lost again and again.
    """
    count = 0
    damaged: list[Rejected] = []
    for shard, outcome in cluster([_Shard(make, task, Path.cwd()) for task in todo]):
        if isinstance(outcome, Exception):
            raise ChildProcessError(
                f"shard {shard.task.shard}: {outcome}; run the same command again: finished shards are kept"
            )
        count += len(shard.task.members)
        report(count)
        damaged += outcome
        if damaged:
            break
    return damaged


def _run_in_processes(
    make: Callable[..., list[Rejected]], todo: Sequence[Task], workers: int, report: Progress
) -> list[Rejected]:
    context = multiprocessing.get_context("spawn")
    # one counter per shard, each written by one process: no lock that a killed worker could hold for ever
    counts = context.RawArray("q", len(todo))
    stop = context.RawValue("b", 0)
    with sigint_deferred() as check_interrupt:

        def poll() -> None:
            check_interrupt()
            report(sum(counts))

        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=(counts, stop))
        try:
            with sigint_blocked():  # a worker that is just starting would end with a traceback on Ctrl-C
                futures = [pool.submit(_make_in_worker, make, task, slot) for slot, task in enumerate(todo)]
            return _watch(futures, poll)
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a worker was killed, perhaps for lack of memory; run the same command again with fewer workers: "
                "finished shards are kept"
            ) from error
        finally:
            stop.value = 1
            pool.shutdown(cancel_futures=True)


def _watch(futures: Sequence[Future[list[Rejected]]], poll: Callable[[], None]) -> list[Rejected]:
    """Wait for all shards; after a damaged member, only for those that are already being made."""
    damaged: list[Rejected] = []
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        poll()
        damaged += [member for future in done if not future.cancelled() for member in future.result()]
        if damaged:
            pending = {future for future in pending if not future.cancel()}
    return damaged


_counts: Any = None
_stop: Any = None


def _begin_worker(counts: Any, stop: Any) -> None:
    """Initialise a worker: share the counters, and end with the parent however it ends, which also gets Ctrl-C."""
    global _counts, _stop  # a pool's tasks can get shared memory in no other way
    _counts, _stop = counts, stop
    end_with_parent()


def _make_in_worker(make: Callable[..., list[Rejected]], task: Task, slot: int) -> list[Rejected]:
    def tick() -> None:
        _counts[slot] += 1
        if _stop.value:
            raise InterruptedError("the conversion was stopped")

    return make(task, tick)
