"""What worker processes have in common: Ctrl-C, and that they end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

__all__ = ["end_with_parent", "sigint_blocked", "sigint_deferred"]


def end_with_parent(worker: int = 0) -> None:
    """Call it in a worker; without it, one that waits for work outlives a parent that was killed.

    Args:
        worker: its number, which a DataLoader gives to its `worker_init_fn`.
    """
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Processes and threads that start meanwhile never see Ctrl-C; this one sees it afterwards."""
    resource_tracker.ensure_running()  # with the first process; it would undo the blocking in the thread that starts it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def sigint_deferred() -> Iterator[Callable[[], None]]:
    """Ctrl-C raises KeyboardInterrupt only where what this yields is called, or at the end if nothing else is raised.

    Raised while `concurrent.futures` holds the locks of its futures, which it takes one by one, it would leave them
    locked: the pool's thread waits for them, and everybody for the pool's thread. Once it is heeded, more of them do
    nothing: what is going on is ending. Outside the main thread, or where Ctrl-C has another meaning already,
    everything stays as it is.
    """
    asked = heeded = False

    def ask(*_: Any) -> None:
        nonlocal asked
        asked = True

    def heed() -> None:
        nonlocal heeded
        if asked and not heeded:
            heeded = True
            raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield heed
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield heed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    heed()
