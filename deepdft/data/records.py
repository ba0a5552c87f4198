"""Records of the finished shards of a store that is still being made, kept in `.conversion/` in its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deepdft.files import read_json, write_json

__all__ = [
    "WORK_FOLDER",
    "Rejected",
    "ShardRecord",
    "all_rejected",
    "discard",
    "read_record",
    "sha256_of_file",
    "shard_name",
    "write_record",
]

WORK_FOLDER = ".conversion"
"""Folder inside an unfinished store whose content is removed when the store is finished."""


@dataclass(frozen=True)
class Rejected:
    """A structure of the source that was left out of the store."""

    index: int
    """Its index in the source, counted from zero."""
    name: str
    """The name that it would have had in the store."""
    source: str
    """The file that it came from."""
    reason: str
    """Reason of the rejection."""


@dataclass
class ShardRecord:
    """Everything that the index needs from a finished shard; lists have one entry per structure."""

    file: str
    """Name of the shard; empty if every structure was rejected and there is no file."""
    made_from: str = ""
    """Identity of the task that made it."""
    sha256: str = ""
    """SHA-256 of the file."""
    bytes: int = 0
    """Size of the file in bytes."""
    table_crc32: int = 0
    """Checksum of everything in the shard except the densities, which have their own."""
    name: list[str] = field(default_factory=list)
    """Unique names of the structures."""
    formula: list[str] = field(default_factory=list)
    """Chemical formulas."""
    n_atoms: list[int] = field(default_factory=list)
    """Numbers of atoms."""
    shape: list[list[int]] = field(default_factory=list)
    """Grid points along the edges of each box."""
    integrals: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)
    """Integral over the box by label and channel; None for structures without the channel."""
    atom_arrays: dict[str, int] = field(default_factory=dict)
    """Number of structures that have each per-atom array."""
    dropped: dict[str, int] = field(default_factory=dict)
    """What the source had but the store does not keep → number of structures."""
    rejected: list[Rejected] = field(default_factory=list)
    """Structures that were left out."""


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.h5"


def _record_path(folder: Path, number: int) -> Path:
    return folder / WORK_FOLDER / f"{Path(shard_name(number)).stem}.json"


def discard(folder: Path, number: int) -> None:
    """Remove a shard of an unfinished store, its record first, so that no record describes a missing shard."""
    _record_path(folder, number).unlink(missing_ok=True)
    (folder / shard_name(number)).unlink(missing_ok=True)


def write_record(folder: Path, number: int, record: ShardRecord) -> None:
    """Record that a shard is finished."""
    write_json(_record_path(folder, number), asdict(record))


def read_record(folder: Path, number: int) -> ShardRecord | None:
    """The record of a shard if it is finished and its file is complete; None for one written by another version."""
    path = _record_path(folder, number)
    if not path.exists():
        return None
    content = read_json(path)
    try:
        record = ShardRecord(**content)
        record.rejected = [Rejected(**member) for member in content["rejected"]]
    except (TypeError, KeyError):
        return None
    shard = folder / record.file
    if record.file and not (shard.is_file() and shard.stat().st_size == record.bytes):
        return None
    return record


def all_rejected(records: Sequence[ShardRecord]) -> list[Rejected]:
    """The rejected structures of all shards, in the order of the source."""
    return [member for record in records for member in record.rejected]


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
