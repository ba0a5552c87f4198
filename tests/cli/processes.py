"""Running commands, for tests that stop them in the middle."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def running(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A command in a process group of its own, which ends with the block whatever happens in it."""
    with subprocess.Popen(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):  # there is none left
                os.killpg(process.pid, signal.SIGKILL)


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    """Wait for something that a running process causes."""
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def said_of(pid: int, what: str) -> str:
    """What the system reports of a process; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/{what}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> set[int]:
    """The processes that a process, with any of its threads, has started."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        threads = os.listdir(f"/proc/{pid}/task")
        return {int(child) for thread in threads for child in said_of(pid, f"task/{thread}/children").split()}
    return set()


def descendants(pid: int) -> set[int]:
    """All descendants of a process."""
    return children(pid).union(*(descendants(child) for child in children(pid)))


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or has ended and is not yet waited for."""
    return said_of(pid, "stat").rpartition(")")[2].split()[:1] in ([], ["Z"])


def wait_for_the_end(pids: set[int]) -> None:
    """Wait until all processes have ended; those that have not after a minute fail the test and are killed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not all(has_ended(pid) for pid in pids):
        time.sleep(0.02)
    left = {pid for pid in pids if not has_ended(pid)}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "a worker outlived its parent"
