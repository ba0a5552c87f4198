"""Independent pieces of work on the CPU, each on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
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
    n_threads = torch.get_num_threads()
    if n_threads == 1 or (isinstance(items, Sized) and len(items) <= 1):
        return [function(item) for item in items]
    modes = _modes()

    def alone(item: S) -> T:
        with modes():
            return function(item)

    torch.set_num_threads(1)
    try:
        return list(_threads(n_threads).map(alone, items))
    finally:
        torch.set_num_threads(n_threads)


def _modes() -> Callable[[], ExitStack]:
    """Puts another thread into the modes of this one; tensors of inference mode are twice as slow outside of it."""
    inference, with_gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    lower_precision, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def entered() -> ExitStack:
        stack = ExitStack()
        stack.enter_context(torch.inference_mode(inference))
        stack.enter_context(torch.set_grad_enabled(with_gradients))
        stack.enter_context(torch.autocast("cpu", dtype=dtype, enabled=lower_precision))
        return stack

    return entered


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="deepdft", initializer=torch.set_num_threads, initargs=(1,))
