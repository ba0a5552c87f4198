"""Common to worker processes: their signals, and that they end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from typing import Any

__all__ = [
    "end_with_parent",
    "ignore_stop_signals",
    "sigint_blocked",
    "sigint_deferred",
    "start_forkserver",
    "stop_forkserver",
]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""Signals that a terminal or a batch system sends to all processes of a command, and that the first one handles."""


def ignore_stop_signals() -> None:
    """Make a worker ignore all signals except its parent's SIGTERM."""
    for which in STOP_SIGNALS:
        if which != signal.SIGTERM:
            signal.signal(which, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    parent = multiprocessing.parent_process()
    of_parent = parent.pid if parent is not None else os.getppid()

    def listen() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != of_parent:
            pass
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()


def start_forkserver() -> None:
    """Start the process from which workers are forked; it ignores the parent's signals, and all end with the parent."""
    if multiprocessing.get_start_method(allow_none=True) == "loky":  # joblib's own, which child processes do not know
        multiprocessing.set_start_method("spawn", force=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        resource_tracker.ensure_running()  # it undoes the blocking of SIGINT and SIGTERM, which it ignores
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stop_forkserver() -> None:
    """Stop the process from which workers are forked; running workers end when they are done.

    Workers of other pools would inherit its blocked signals, and `multiprocessing.Pool`, which ends them by SIGTERM,
    would wait for them forever. The next use starts a new one.
    """
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # there is no public way


def end_with_parent(worker: int = 0) -> None:
    """Make a worker end when its parent is killed; otherwise it would wait for work for ever.

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
    """Start processes and threads that never see Ctrl-C; this process sees it afterwards."""
    resource_tracker.ensure_running()  # now, as it would undo the blocking in the thread that starts it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def sigint_deferred() -> Iterator[Callable[[], None]]:
    """Defer Ctrl-C: KeyboardInterrupt is raised only when the yielded function is called, or at the end of the block.

    Raised while `concurrent.futures` holds the locks of its futures, which it takes one by one, it would leave them
    locked: the pool's thread would wait for them, and everything else for the pool's thread. After the first
    KeyboardInterrupt, further Ctrl-C have no effect, since the work is already stopping. Outside the main thread, or
    where SIGINT already has another handler, nothing changes.
    """
    requested = raised = False

    def request(*_: Any) -> None:
        nonlocal requested
        requested = True

    def check_interrupt() -> None:
        nonlocal raised
        if requested and not raised:
            raised = True
            raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield check_interrupt
        return
    signal.signal(signal.SIGINT, request)
    try:
        yield check_interrupt
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    check_interrupt()
