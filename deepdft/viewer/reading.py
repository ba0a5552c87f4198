"""Reads what visitors send in a separate process, which is ended if a reader takes too long.

Readers of files and of SMILES are other people's code, and some inputs keep them busy for hours; a thread could not be
ended. What they may do is also bounded by the memory of that process.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from deepdft.viewer.limits import Limits
from deepdft.viewer.sources import Source, from_text, from_upload

__all__ = ["Reader"]

Read = Callable[..., Source]


class Reader:
    """One process that reads one thing at a time; it starts with the first, and again after it was ended.

    Args:
        limits: bounds on what is read, and on the time.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def text(self, text: str) -> Source:
        """The structure of a name or a SMILES.

        Raises:
            ValueError: if it is neither, is too large, or takes too long.
        """
        return self._read(from_text, text)

    def upload(self, name: str, content: bytes) -> Source:
        """The structure of a file, with its density if it holds one.

        Raises:
            ValueError: if it cannot be read, is too large, or takes too long.
        """
        return self._read(from_upload, name, content)

    def start(self) -> None:
        """Start the process, so that the first visitor need not wait for it."""
        with self._lock:
            self._started()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _read(self, read: Read, *arguments: Any) -> Source:
        with self._lock:
            pipe = self._started()
            try:
                pipe.send((read, arguments))
                if not pipe.poll(self.limits.max_reading_seconds):
                    self._end()
                    raise ValueError(f"reading it takes longer than {self.limits.max_reading_seconds:g} s")
                found = pipe.recv()
            except (EOFError, OSError):
                self._end()
                raise ValueError("reading it takes more memory than there is for it") from None
        if isinstance(found, BaseException):
            raise found
        return found

    def _started(self) -> Connection:
        if self._pipe is None or self._process is None or not self._process.is_alive():
            self._end()
            context = multiprocessing.get_context("spawn")
            self._pipe, child = context.Pipe()
            self._process = context.Process(
                target=_work, args=(child, self.limits), name="deepdft-view-reader", daemon=True
            )
            self._process.start()
            child.close()
        return self._pipe

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


def _work(pipe: Connection, limits: Limits) -> None:
    """Read until the other end closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(ImportError, ValueError, OSError):  # no such bound on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limits.max_reading_bytes, limits.max_reading_bytes))
    with suppress(EOFError, OSError):
        while True:
            read, arguments = pipe.recv()
            try:
                found: Source | BaseException = read(*arguments, limits)
            except (ValueError, ModuleNotFoundError) as error:
                found = type(error)(str(error))  # without what cannot be sent
            except MemoryError:
                found = ValueError("reading it takes more memory than there is for it")
            pipe.send(found)
