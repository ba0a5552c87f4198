"""Independent pieces of work on the CPU, each on a thread of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sized
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import cache
from typing import TypeVar

import torch

__all__ = ["in_parallel"]

S = TypeVar("S")
T = TypeVar("T")

CPU = torch.device("cpu")


def in_parallel(function: Callable[[S], T], items: Iterable[S], *, device: torch.device = CPU) -> list[T]:
    """The function of all items, on as many threads as torch has, while each operation has one.

    Operations on a megabyte gain little from threads of their own, and wait for all of them: beside other programs that
    keep the cores busy that is tens of times slower. torch and compiled loops let go of the interpreter's lock.

    On another device than the CPU, where another call is at it already, and within an item, items follow one another on
    the caller's thread. torch's number of threads belongs to the whole process: it is 1 until all is done.

    Args:
        function: of one item.
        items: taken in their order, as the results are.
        device: that the function works on.
    """
    n_threads = torch.get_num_threads()
    alone = n_threads == 1 or device.type != "cpu" or (isinstance(items, Sized) and len(items) <= 1)
    if alone or not _lock().acquire(blocking=False):
        return [function(item) for item in items]
    modes = _modes()

    def in_modes(item: S) -> T:
        with modes():
            return function(item)

    torch.set_num_threads(1)
    futures: list[Future[T]] = []
    try:
        futures.extend(_threads(n_threads).submit(in_modes, item) for item in items)
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()  # after a failure
        wait(futures)
        torch.set_num_threads(n_threads)
        _lock().release()


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


def _begin_to_work() -> None:
    torch.get_num_threads()  # at first torch gives a thread as many as the process has
    torch.set_num_threads(1)


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="deepdft", initializer=_begin_to_work)


@cache
def _lock() -> threading.Lock:
    return threading.Lock()


def _forget_threads() -> None:
    """In a forked process, which has none of them."""
    _threads.cache_clear()
    _lock.cache_clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_threads)
