"""Processes that share the structures of an evaluation; a single process is the same with no others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from deepdft.evaluation.process_count import n_processes, slurm_tasks

__all__ = ["Ranks", "is_lost_peer", "ranks"]

MEETING_TIME = timedelta(minutes=2)
"""Time for which processes wait for each other at the start."""

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The place of this process among all of an evaluation."""

    rank: int = 0
    """Index of this process."""
    world_size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Index of this process on its machine, which selects its GPU."""

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The items of this process; every item belongs to exactly one process."""
        return items[self.rank :: self.world_size]

    def from_first(self, value: T) -> T:
        """The value of the first process."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, items: list[T]) -> list[T]:
        """The items of all processes, the same list on each."""
        if self.world_size == 1:
            return items
        parts: list[list[T]] = [[] for _ in range(self.world_size)]
        dist.all_gather_object(parts, items)
        return [item for part in parts for item in part]


@contextmanager
def ranks() -> Iterator[Ranks]:
    """Join the processes that torchrun or srun has started; a single process is alone.

    Raises:
        ValueError: if not all of them come, or one of them ends before its work is done.
    """
    tasks = slurm_tasks()
    if n_processes() == 1:
        yield Ranks()
        return
    # structures differ in size: a process may wait long for the others
    timeout = timedelta(days=7)
    if tasks > 1:
        me = Ranks(int(os.environ["SLURM_PROCID"]), tasks, int(os.environ.get("SLURM_LOCALID", "0")))
        dist.init_process_group("gloo", store=_slurm_store(me), rank=me.rank, world_size=tasks, timeout=timeout)
    else:
        dist.init_process_group("gloo", timeout=timeout)
        me = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0")))
    try:
        yield me
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise ValueError(
            "another process of this evaluation has ended before its work was done; the same command, with the same "
            "output, continues"
        ) from error
    finally:
        dist.destroy_process_group()


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error comes from another process that has ended."""
    lost = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "ncclRemoteError", "Socket closed")
    return isinstance(error, dist.DistError) or any(words in str(error) for words in lost)


def _slurm_store(me: Ranks) -> Any:
    """The store at which the processes started by srun meet."""
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST") or "127.0.0.1"
    first = re.sub(r"\[(\d+).*?\]", r"\1", nodes).split(",")[0]  # n[01-04,07] and n01,n02 start with n01
    job, step = (int(re.sub(r"\D", "", os.environ.get(name, "")) or 0) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    port = int(os.environ.get("MASTER_PORT") or 15000 + (job + 1000 * step) % 10000)
    address = os.environ.get("MASTER_ADDR") or first
    try:
        return dist.TCPStore(  # type: ignore[attr-defined]
            address, port, me.world_size, me.rank == 0, timeout=MEETING_TIME
        )
    except (RuntimeError, dist.DistError) as error:
        raise ValueError(
            f"SLURM_NTASKS={me.world_size}, but not all of these processes have met at {address}:{port} within "
            f"{MEETING_TIME.seconds} s; start them with srun, or give --ntasks=1"
        ) from error
