"""Several processes that share the structures of an evaluation; one process is the same with nobody else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist

__all__ = ["Ranks", "ranks"]

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among all of them."""

    rank: int = 0
    """Index of this process."""
    world_size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Index of this process on its machine: which GPU it uses."""

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The items of this process; every item belongs to exactly one."""
        return items[self.rank :: self.world_size]

    def from_first(self, value: T) -> T:
        """The value that the first process has."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, items: list[T]) -> list[T]:
        """The items of all processes; the same list on each."""
        if self.world_size == 1:
            return items
        parts: list[list[T]] = [[] for _ in range(self.world_size)]
        dist.all_gather_object(parts, items)
        return [item for part in parts for item in part]


@contextmanager
def ranks() -> Iterator[Ranks]:
    """Join the processes that torchrun has started (RANK, WORLD_SIZE, LOCAL_RANK), or be alone."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Ranks()
        return
    # structures differ in size: a process may wait long for the others
    dist.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        yield Ranks(int(os.environ["RANK"]), world_size, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()
