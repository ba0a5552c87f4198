"""Files that are written whole or not at all, and JSON that is checked when it is read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import platform
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepdft.locks import Lock, exclusive_lock, is_alive, process_namespace

__all__ = ["Lock", "atomic_write", "exclusive_lock", "read_json", "write_json", "write_text"]

MAX_JSON_BYTES = 2**29
"""Largest size of a JSON file that is read into memory; the index of a store with a million structures is smaller."""

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_counter = itertools.count()


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file that appears whole or not at all, whatever ends the process or the machine.

    Yields the path of a temporary file in the same folder, which is flushed to the disk and renamed at the end of the
    block, or removed if the block raises. A symbolic link stays one: the file it points to is replaced.

    Args:
        path: the file; its folder must exist.

    Raises:
        ValueError: if `path` is a folder, a device or a pipe.
        OSError: if it cannot be written; one that is there already is unchanged then.
    """
    path = Path(path)
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a device or a pipe"
        raise ValueError(f"{path}: is {what}; expected the name of a file")
    _remove_abandoned(target)
    beside = target.with_name(f"{_temporary_stem(target)}{os.getpid()}-{next(_counter)}.part")
    try:
        yield beside
        _flush(beside)
        if target.exists():
            os.chmod(beside, stat.S_IMODE(target.stat().st_mode))
        os.replace(beside, target)
        _flush(target.parent)
    except OSError as error:
        raise _named_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _temporary_stem(path: Path) -> str:
    """The part of a temporary file's name that identifies its target and machine."""
    host = hashlib.sha256((platform.node() + process_namespace()).encode()).hexdigest()[:6]
    name = path.name.encode()[:150].decode(errors="ignore")  # names have at most 255 bytes
    return f".{name}.{host}-"


def _remove_abandoned(path: Path) -> None:
    """Remove temporary files of this file that killed processes on this machine have left behind."""
    start = _temporary_stem(path)
    with contextlib.suppress(OSError):
        for entry in os.scandir(path.parent):
            if entry.name.startswith(start) and entry.name.endswith(".part"):
                pid = entry.name[len(start) :].partition("-")[0]
                if pid.isdecimal() and not is_alive(int(pid)):
                    Path(entry.path).unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # file systems that cannot do it for folders
            raise
    finally:
        os.close(descriptor)


def _named_error(path: Path, error: OSError) -> OSError:
    """The error with the name of the file that was to be written."""
    reason = error.errno
    for code in _NO_SPACE:  # HDF5 and others embed the system's message in their own
        if reason is None and os.strerror(code) in str(error):
            reason = code
    if reason in _NO_SPACE:
        return OSError(f"{path}: not written, {os.strerror(reason).lower()}; what was there before is unchanged")
    if error.filename is None and error.errno is not None:
        return type(error)(error.errno, error.strerror, str(path))
    return error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text by `atomic_write`."""
    with atomic_write(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write indented JSON by `atomic_write`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(
    path: str | os.PathLike[str], *, kind: type[Any] = dict, keys: Mapping[str, type | tuple[type, ...]] | None = None
) -> Any:
    """Read a JSON file and check its outer shape.

    Args:
        path: the file.
        kind: what it holds as a whole, dict or list.
        keys: types of the values that a dict must have, by key.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or of another shape, in one line with its name.
    """
    path = Path(path)
    if (size := path.stat().st_size) > MAX_JSON_BYTES:
        raise ValueError(f"{path}: {size} bytes are more than JSON of this package has; the file is damaged")
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{path}: damaged, not JSON: brackets are nested too deeply") from error
    except ValueError as error:  # also errors in the text's encoding
        raise ValueError(f"{path}: damaged, not JSON: {error}") from error
    if type(content) is not kind:
        raise ValueError(f"{path}: damaged: expected {_of_json(kind)}, got {_of_json(type(content))}")
    for key, types in (keys or {}).items():
        if key not in content:
            raise ValueError(f"{path}: damaged: no entry {key!r}")
        expected = types if isinstance(types, tuple) else (types,)
        value = content[key]
        if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
            names = " or ".join(map(_of_json, expected))
            raise ValueError(f"{path}: damaged: entry {key!r} is {_of_json(type(value))}, expected {names}")
    return content


def _of_json(kind: type) -> str:
    """The name of a type in JSON."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(kind, "a whole number" if kind is int else "a number")
