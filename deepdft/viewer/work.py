"""One prediction at a time, a bounded queue before it, and a bounded store of what is finished."""

from __future__ import annotations

import secrets
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

__all__ = ["BusyError", "Job", "Jobs", "Progress"]

State = Literal["waiting", "running", "done", "failed", "cancelled"]
Progress = Callable[[float], None]
"""Called by a task with the share that is done, 0 to 1; it raises where the task is to end."""


class Sized(Protocol):
    """A result that knows how much memory it takes."""

    @property
    def n_bytes(self) -> int:
        """Bytes it takes."""
        ...


Result = TypeVar("Result", bound=Sized)


class BusyError(Exception):
    """The queue is full."""


class _EndedError(Exception):
    """Raised within a task to end it."""


@dataclass(eq=False)
class Job(Generic[Result]):
    """A task in the queue, under way or finished."""

    task: Callable[[Progress], Result] | None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    state: State = "waiting"
    progress: float = 0.0
    result: Result | None = None
    error: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    finished: threading.Event = field(default_factory=threading.Event)


class Jobs(Generic[Result]):
    """A worker thread that takes tasks in the order they came.

    Args:
        max_waiting: tasks in the queue beyond which `submit` raises `BusyError`.
        max_kept: finished jobs that are kept.
        max_kept_bytes: memory of all kept results together; the newest result is kept in any case.
        max_seconds: a task is ended after so long.
    """

    def __init__(self, *, max_waiting: int, max_kept: int, max_kept_bytes: int, max_seconds: float) -> None:
        self.max_waiting, self.max_kept, self.max_kept_bytes = max_waiting, max_kept, max_kept_bytes
        self.max_seconds = max_seconds
        self._queue: deque[Job[Result]] = deque()
        self._jobs: OrderedDict[str, Job[Result]] = OrderedDict()
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="deepdft-view-worker", daemon=True)
        self._thread.start()

    def submit(self, task: Callable[[Progress], Result]) -> Job[Result]:
        """Put a task into the queue.

        Raises:
            BusyError: if the queue is full.
        """
        with self._change:
            if len(self._queue) >= self.max_waiting:
                raise BusyError(f"{len(self._queue)} predictions are waiting already; try again in a moment")
            job: Job[Result] = Job(task)
            self._queue.append(job)
            self._jobs[job.id] = job
            self._change.notify_all()
            return job

    def get(self, identifier: str) -> Job[Result]:
        """The job of an identifier.

        Raises:
            KeyError: if there is none, or it was dropped.
        """
        with self._change:
            return self._jobs[identifier]

    def ahead(self, job: Job[Result]) -> int:
        """Number of tasks that come before a waiting one."""
        with self._change:
            return self._queue.index(job) + 1 if job in self._queue else 0

    def cancel(self, job: Job[Result]) -> None:
        """End a job, or take it out of the queue; nothing happens where it is finished."""
        with self._change:
            job.stop.set()
            if job in self._queue:
                self._queue.remove(job)
                self._finish(job, "cancelled", "cancelled")

    def close(self) -> None:
        """End the task under way and the thread."""
        with self._change:
            self._closed = True
            for job in self._jobs.values():
                job.stop.set()
            self._change.notify_all()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._queue and not self._closed:
                    self._change.wait()
                if self._closed:
                    return
                job = self._queue.popleft()
                job.state = "running"
            self._run(job)

    def _run(self, job: Job[Result]) -> None:
        deadline = time.monotonic() + self.max_seconds

        def progress(share: float) -> None:
            job.progress = max(job.progress, min(share, 1.0))
            if job.stop.is_set():
                raise _EndedError("cancelled")
            if time.monotonic() > deadline:
                raise _EndedError(f"it took longer than {self.max_seconds:g} s; choose a coarser grid")

        try:
            assert job.task is not None
            result = job.task(progress)
            state, error = "done", ""
        except _EndedError as ended:
            result, error = None, str(ended)
            state = "cancelled" if job.stop.is_set() else "failed"
        except (ValueError, OSError, ModuleNotFoundError) as problem:
            result, state, error = None, "failed", " ".join(str(problem).split())
        except Exception as bug:  # the page says that there is one, the terminal says where
            traceback.print_exc()
            result, state, error = (
                None,
                "failed",
                f"a fault of deepdft ({type(bug).__name__}): see the terminal",
            )
        with self._change:
            job.result = result
            self._finish(job, state, error)  # type: ignore[arg-type]

    def _finish(self, job: Job[Result], state: State, error: str) -> None:
        job.state, job.error, job.task = state, error, None
        job.progress = 1.0 if state == "done" else job.progress
        job.finished.set()
        self._drop_old()

    def _drop_old(self) -> None:
        finished = [job for job in self._jobs.values() if job.finished.is_set()]
        total = sum(job.result.n_bytes for job in finished if job.result is not None)
        while len(finished) > 1 and (len(finished) > self.max_kept or total > self.max_kept_bytes):
            oldest = finished.pop(0)
            total -= 0 if oldest.result is None else oldest.result.n_bytes
            del self._jobs[oldest.id]
