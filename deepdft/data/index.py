"""What a density store tells about itself: `index.json`, and the records of shards while it is being made.

While a store is being made, `.conversion/` in its folder holds a record of each finished shard; a run that was
killed goes on from these. `index.json` comes last: a folder without it is not a store yet.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "INDEX",
    "WORK_FOLDER",
    "Rejected",
    "ShardRecord",
    "discard",
    "read_index",
    "read_record",
    "sha256_of_file",
    "shard_name",
    "sync_folder",
    "write_index",
    "write_record",
    "write_text",
]

FORMAT = "deepdft-density-store"
FORMAT_VERSION = 1
INDEX = "index.json"
WORK_FOLDER = ".conversion"
"""Folder inside an unfinished store, for what is removed when it is finished."""


@dataclass(frozen=True)
class Rejected:
    """A structure of the source that is not in the store."""

    position: int
    """In the source, counted from zero."""
    name: str
    source: str
    """The file it came from."""
    reason: str


@dataclass
class ShardRecord:
    """What the index needs to know of a finished shard."""

    file: str
    """Name of the shard; empty where every structure was rejected and there is no file."""
    made_from: str = ""
    """Identity of the task it was made for."""
    sha256: str = ""
    bytes: int = 0
    name: list[str] = field(default_factory=list)
    formula: list[str] = field(default_factory=list)
    n_atoms: list[int] = field(default_factory=list)
    shape: list[list[int]] = field(default_factory=list)
    n_electrons: dict[str, list[float]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.h5"


def _record_path(folder: Path, number: int) -> Path:
    return folder / WORK_FOLDER / f"{Path(shard_name(number)).stem}.json"


def discard(folder: Path, number: int) -> None:
    """Remove a shard of an unfinished store, if it is there; its record first: no shard is taken for another one."""
    _record_path(folder, number).unlink(missing_ok=True)
    (folder / shard_name(number)).unlink(missing_ok=True)


def write_record(folder: Path, number: int, record: ShardRecord) -> None:
    """Note that a shard is finished."""
    write_text(_record_path(folder, number), json.dumps(asdict(record)))


def read_record(folder: Path, number: int) -> ShardRecord | None:
    """The record of a shard if it is finished and its file is there whole."""
    try:
        content = json.loads(_record_path(folder, number).read_text())
    except FileNotFoundError:
        return None
    rejected = [Rejected(**member) for member in content.pop("rejected")]
    record = ShardRecord(**content, rejected=rejected)
    shard = folder / record.file
    if record.file and not (shard.is_file() and shard.stat().st_size == record.bytes):
        return None
    return record


def write_index(
    folder: Path,
    records: Sequence[ShardRecord],
    *,
    labels: Sequence[str],
    compression: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Write index.json: from now on the folder is a store.

    Args:
        folder: where the shards are.
        records: of all shards, in order.
        labels: the densities of each structure.
        compression: of the densities, e.g. {"name": "none"}.
        provenance: further content, e.g. sources and the command.

    Raises:
        ValueError: if there is no structure, or two have the same name.
    """
    names = [name for record in records for name in record.name]
    if not names:
        raise ValueError(f"{folder}: there is no structure to make a store of")
    if len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1][:5]
        raise ValueError(f"{folder}: several structures are named {', '.join(twice)}")
    index = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created_by": f"deepdft {_version()}",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **provenance,
        "quantity": "electron density in e/Å³, at origin + i/nx a + j/ny b + k/nz c, C order (z fastest)",
        "dtype": "float32",
        "compression": dict(compression),
        "labels": list(labels),
        "rejected": [asdict(member) for record in records for member in record.rejected],
        "shards": [
            {"file": r.file, "sha256": r.sha256, "bytes": r.bytes, "n_structures": len(r.name)}
            for r in records
            if r.file
        ],
        "structures": {
            "name": names,
            "formula": [formula for record in records for formula in record.formula],
            "n_atoms": [count for record in records for count in record.n_atoms],
            "shape": [shape for record in records for shape in record.shape],
            "n_electrons": {
                label: [round(count, 6) for record in records for count in record.n_electrons[label]]
                for label in labels
            },
        },
    }
    columns = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in index.items())
    write_text(folder / INDEX, f"{{\n{columns}\n}}\n")


def _version() -> str:
    try:
        return importlib.metadata.version("deepdft")
    except importlib.metadata.PackageNotFoundError:
        return "from a checkout"


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all, even after a power cut."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of_file(path: Path) -> str:
    """sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_index(path: Path) -> dict[str, Any]:
    """Read and check index.json."""
    if not path.is_file():
        what = "an unfinished conversion" if (path.parent / ".conversion").is_dir() else "no density store"
        raise FileNotFoundError(
            f"{path.parent}: {what} (no {INDEX}); make one with "
            f"deepdft-convert source=<tar|txt|folder|file> output={path.parent}"
        )
    try:
        index = json.loads(path.read_text())
        found = index["format"], index["format_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not the index of a density store; expected one made by deepdft-convert") from error
    if found != (FORMAT, FORMAT_VERSION):
        raise ValueError(
            f"{path}: format {found[0]!r} version {found[1]}, but this deepdft reads {FORMAT!r} version "
            f"{FORMAT_VERSION}; convert the data again, or use the deepdft that wrote it"
        )
    return index
