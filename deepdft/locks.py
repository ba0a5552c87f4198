"""A lock on a file or folder that works on any file system, on one machine and among several."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Lock", "exclusive_lock", "is_alive", "process_namespace"]

HEARTBEAT_SECONDS = 20.0
"""Between two signs of life of a process that holds a lock."""
STALE_SECONDS = 300.0
"""A lock of another machine is given up after so long without a sign of life; NFS may show one a minute late."""

_NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.EACCES}


@dataclass(frozen=True)
class _Holder:
    """Who holds a lock."""

    token: str
    """Unique to this acquisition."""
    purpose: str
    """What the holder is doing, "training" for example."""
    command: str
    """The command line."""
    host: str
    """Name of the machine."""
    boot: str
    """Changes when the machine is restarted."""
    namespace: str
    """In which process ids are counted: containers have their own."""
    pid: int
    """Process id."""
    started: str
    """Start time of the process in ticks since the machine's start: another process of the same id has another."""
    job: str
    """SLURM job, "" if there is none."""
    restarts: int
    """How often SLURM has requeued the job."""
    since: str
    """Local time of the acquisition."""

    @classmethod
    def here(cls, purpose: str) -> _Holder:
        """This process."""
        return cls(
            token=secrets.token_hex(8),
            purpose=purpose,
            command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
            host=platform.node(),
            boot=_text_of("/proc/sys/kernel/random/boot_id"),
            namespace=process_namespace(),
            pid=os.getpid(),
            started=_start_time(os.getpid()),
            job=os.environ.get("SLURM_JOB_ID", ""),
            restarts=int(os.environ.get("SLURM_RESTART_COUNT", "0") or 0),
            since=time.strftime("%Y-%m-%d %H:%M:%S"),
        )

    def has_ended(self, me: _Holder) -> bool | None:
        """Whether the holder is known to be gone; None if only its signs of life can tell."""
        if self.job and self.job == me.job and self.restarts < me.restarts:
            return True  # SLURM starts a requeued job after it has ended
        if self.host != me.host:
            return None
        if self.boot != me.boot:
            return True  # the machine was restarted
        if self.namespace != me.namespace:
            return None
        now = _start_time(self.pid)
        if now == "" and _is_hidden(self.pid):
            return None
        return now != self.started

    def __str__(self) -> str:
        job = f", SLURM job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since} ({self.command})"


class Lock:
    """A lock that this process holds; made by `exclusive_lock`."""

    def __init__(self, file: Path, holder: _Holder) -> None:
        self.file = file
        self._holder = holder
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lock {file}", daemon=True)
        self._thread.start()

    @property
    def is_held(self) -> bool:
        """Whether the lock is still ours: while the process was suspended for long, another may have taken it."""
        found = _read(self.file)
        return found is not None and found.token == self._holder.token

    def _beat(self) -> None:
        """Give a sign of life by the time of the file."""
        while not self._released.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                if self.is_held:
                    os.utime(self.file)

    def release(self) -> None:
        """Let others have it."""
        self._released.set()
        with contextlib.suppress(OSError):
            if self.is_held:
                self.file.unlink()


@contextmanager
def exclusive_lock(path: str | os.PathLike[str], purpose: str) -> Iterator[Lock]:
    """Keep a second process from writing the same file or folder.

    The lock is a file, `.lock` in a folder or `.NAME.lock` beside a file, that says who holds it. It needs no locks of
    the file system (flock), which NFS and Lustre often do without, and works among machines that share a disk. After a
    kill it is stale: at once on the same machine and for a requeued SLURM job, after five minutes for another machine.

    Args:
        path: a folder that is there, or a file in one.
        purpose: what is done, in one word: "training".

    Raises:
        ValueError: if another process holds it, saying which.
        OSError: if the folder cannot be written.
    """
    path = Path(path)
    file = path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock")
    lock = Lock(file, _acquire(path, file, _Holder.here(purpose)))
    try:
        yield lock
    finally:
        lock.release()


def _acquire(path: Path, file: Path, me: _Holder) -> _Holder:
    """Make the lock file ours, or say whose it is."""
    deadline = time.monotonic() + 30.0
    while not _create(file, me):
        holder = _read(file)
        gone = holder.has_ended(me) if holder is not None else None
        age = _age(file)
        if gone or (gone is None and age is not None and age > STALE_SECONDS):
            _take_away(file, holder)
        elif (holder is None and age is not None and age > 5.0) or (holder is not None and age is not None):
            _refuse(path, file, holder, me, gone is None)
        else:
            time.sleep(0.05)  # it is being written, or was released just now
        if time.monotonic() > deadline:
            _refuse(path, file, holder, me, True)
    return me


def _refuse(path: Path, file: Path, holder: _Holder | None, me: _Holder, unsure: bool) -> None:
    """Raise the error that says who holds a lock."""
    hint = f"; if that process is gone, remove {file}" if unsure else ""
    if holder is None:
        raise ValueError(f"{path}: locked by an unknown process{hint}")
    itself = holder.pid == me.pid and holder.has_ended(me) is False
    who = f"this process, since {holder.since}" if itself else str(holder)
    raise ValueError(f"{path}: {holder.purpose} is under way there, by {who}; wait for it or give another place{hint}")


def _create(file: Path, me: _Holder) -> bool:
    """Make the lock file with its content at once, or return False if there is one."""
    content = json.dumps(asdict(me)).encode()
    own = file.with_name(f"{file.name}.{me.token}")
    try:
        own.write_bytes(content)
        try:
            os.link(own, file)
        except FileExistsError:
            return own.stat().st_nlink == 2  # NFS may repeat a request of which the answer was lost
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            return _create_without_links(file, content)
        return True
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        with contextlib.suppress(OSError):
            own.unlink(missing_ok=True)


def _create_without_links(file: Path, content: bytes) -> bool:
    try:
        with file.open("xb") as output:
            output.write(content)
    except FileExistsError:
        return False
    return True


def _take_away(file: Path, stale: _Holder | None) -> None:
    """Remove a stale lock; of several processes that try, one succeeds, and a newer lock is put back."""
    aside = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    try:
        file.rename(aside)
    except FileNotFoundError:
        return
    if _read(aside) != stale:
        with contextlib.suppress(OSError):
            os.link(aside, file)
    aside.unlink(missing_ok=True)


def _read(file: Path) -> _Holder | None:
    """Who a lock file names; None if it is absent or not whole."""
    try:
        return _Holder(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _age(file: Path) -> float | None:
    """Seconds since the last sign of life by the clock of the file's disk; None if the file is gone."""
    probe = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    try:
        probe.touch()
        return probe.stat().st_mtime - file.stat().st_mtime
    except FileNotFoundError:
        return None
    finally:
        probe.unlink(missing_ok=True)


def _text_of(path: str) -> str:
    """Content of a file of the system's; "" if there is none."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def process_namespace() -> str:
    """In which process ids are counted; "" where the system does not say."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """When a process was started, in ticks; "" if there is none, or it has ended and is not yet waited for."""
    stat_line = _text_of(f"/proc/{pid}/stat")
    if not stat_line:
        on_linux = Path("/proc/self/stat").exists()
        return "" if on_linux or not is_alive(pid) else "alive"
    fields = stat_line.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _is_hidden(pid: int) -> bool:
    """Whether there is a process of another user that the system does not show (hidepid)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not Path(f"/proc/{pid}").exists()
    except OSError:
        return False
    return False


def is_alive(pid: int) -> bool:
    """Whether there is a process of this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # of another user
    return True
