"""Independent pieces of work on the CPU, each on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

__all__ = ["in_parallel"]

S = TypeVar("S")
T = TypeVar("T")


def in_parallel(function: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """The function of all items, on as many threads as torch has, while each operation has one.

    Operations on a megabyte gain little from threads of their own, and wait for all of them: beside other programs that
    keep the cores busy that is tens of times slower. torch and compiled loops let go of the interpreter's lock.
    """
    items, n_threads = list(items), torch.get_num_threads()
    if n_threads == 1 or len(items) <= 1:
        return [function(item) for item in items]
    with_gradients = torch.is_grad_enabled()  # each thread has a mode of its own

    def alone(item: S) -> T:
        with torch.set_grad_enabled(with_gradients):
            return function(item)

    torch.set_num_threads(1)
    try:
        return list(_threads(n_threads).map(alone, items))
    finally:
        torch.set_num_threads(n_threads)


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="deepdft")
