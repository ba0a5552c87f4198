"""A lock on a file or folder that works on any file system, within one machine and across several."""

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
"""Seconds between two signs of life of a process that holds a lock."""
STALE_SECONDS = 300.0
"""Seconds without a sign of life after which another machine's lock is stale; NFS may show one a minute late."""

_NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.EACCES}


@dataclass(frozen=True)
class _Holder:
    """The holder of a lock."""

    token: str
    """Unique to this acquisition."""
    purpose: str
    """The holder's activity, "training" for example."""
    command: str
    """The command line."""
    host: str
    """Name of the machine."""
    boot: str
    """Identifier of the machine's boot, which changes when it is restarted."""
    namespace: str
    """Namespace of the process id: containers have their own."""
    pid: int
    """Process id."""
    started: str
    """Start time of the process in ticks since boot, which tells it from a later process with the same id."""
    job: str
    """SLURM job, "" if there is none."""
    restarts: int
    """Number of times that SLURM has requeued the job."""
    since: str
    """Local time of the acquisition."""

    @classmethod
    def here(cls, purpose: str) -> _Holder:
        """The holder that this process would be."""
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

    def has_ended(self, own: _Holder) -> bool | None:
        """Whether the holder is known to be gone; None if only its signs of life can tell."""
        if self.job and self.job == own.job and self.restarts < own.restarts:
            return True  # SLURM starts a requeued job only after it has ended
        if self.host != own.host:
            return None
        if self.boot != own.boot:
            return True  # the machine was restarted
        if self.namespace != own.namespace:
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
        """Give a sign of life by updating the time of the file."""
        while not self._released.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                if self.is_held:
                    os.utime(self.file)

    def release(self) -> None:
        """Release the lock."""
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


def _acquire(path: Path, file: Path, own: _Holder) -> _Holder:
    """Acquire the lock file, or raise an error that names its holder."""
    deadline = time.monotonic() + 30.0
    while not _create(file, own):
        holder = _read(file)
        gone = holder.has_ended(own) if holder is not None else None
        age = _age(file)
        if gone or (gone is None and age is not None and age > STALE_SECONDS):
            _take_away(file, holder)
        elif (holder is None and age is not None and age > 5.0) or (holder is not None and age is not None):
            _refuse(path, file, holder, own, gone is None)
        else:
            time.sleep(0.05)  # it is being written, or was released just now
        if time.monotonic() > deadline:
            _refuse(path, file, holder, own, True)
    return own


def _refuse(path: Path, file: Path, holder: _Holder | None, own: _Holder, unsure: bool) -> None:
    """Raise the error that names the holder of a lock."""
    hint = f"; if that process is gone, remove {file}" if unsure else ""
    if holder is None:
        raise ValueError(f"{path}: locked by an unknown process{hint}")
    itself = holder.pid == own.pid and holder.has_ended(own) is False
    who = f"this process, since {holder.since}" if itself else str(holder)
    raise ValueError(f"{path}: {holder.purpose} is under way there, by {who}; wait for it or give another place{hint}")


def _create(file: Path, own: _Holder) -> bool:
    """Create the lock file with its content atomically; False if there is one already."""
    content = json.dumps(asdict(own)).encode()
    temporary = file.with_name(f"{file.name}.{own.token}")
    try:
        temporary.write_bytes(content)
        try:
            os.link(temporary, file)
        except FileExistsError:
            return temporary.stat().st_nlink == 2  # NFS may repeat a request whose answer was lost
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            return _create_without_links(file, content)
        return True
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


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
    """The holder that a lock file names; None if it is absent or incomplete."""
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
    """Content of a file in /proc; "" if there is none."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def process_namespace() -> str:
    """Namespace in which process ids are counted; "" if the system does not tell."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """Start time of a process in ticks; "" if there is none, or it has ended but was not yet waited for."""
    stat_line = _text_of(f"/proc/{pid}/stat")
    if not stat_line:
        on_linux = Path("/proc/self/stat").exists()
        return "" if on_linux or not is_alive(pid) else "alive"
    fields = stat_line.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _is_hidden(pid: int) -> bool:
    """Whether the system hides processes of other users (hidepid), and this may be one."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not Path(f"/proc/{pid}").exists()
    except OSError:
        return False
    return False


def is_alive(pid: int) -> bool:
    """Whether there is a process with this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it belongs to another user
    return True
