"""The plan of a conversion, fixed before it starts: names of structures, and the shards they go into.

The plan depends on the source and the settings only, not on workers, so that a conversion that was interrupted resumes
with the same shards, and gives the same bytes. Shards of a source that has been corrected since are made again.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from deepdft.data.kind import DensityKind
from deepdft.data.naming import structure_names
from deepdft.data.store import Store
from deepdft.data.store_members import StoreMember, common_kind, is_store, store_members
from deepdft.data.writer import Compression, check_labels
from deepdft.io.archive import Contents, Member, contents
from deepdft.io.spin_pairs import SpinPair, joined_spins

__all__ = ["Plan", "Settings", "Task", "make_plan"]

MIN_SHARDS = 32
"""Number of shards per source, to keep as many workers busy, unless shards would become smaller than `MIN_SHARD`."""
MIN_SHARD_BYTES = 8e6
"""… smaller than this many bytes of source, about a second of parsing."""


@dataclass(frozen=True)
class Settings:
    """How structures are stored, whatever the source.

    Raises:
        ValueError: if a setting is wrong.
    """

    label: str = "PBE"
    """Name of the density, e.g. of its functional."""
    compression: Compression = field(default_factory=Compression)
    """How densities are stored."""
    shard_size: float = 1e9
    """Bytes of source in a shard, at most (a larger member has a shard of its own)."""
    pbc: bool | None = None
    """Whether all structures repeat; None leaves it as the sources have it."""
    channels: tuple[str, ...] | None = None
    """Channels to keep beside "total"; None keeps all."""

    def __post_init__(self) -> None:
        if not self.shard_size >= 1:
            raise ValueError(f"shard_size={self.shard_size}: expected a number of bytes, such as 1e9")
        if not isinstance(self.pbc, bool | None):
            raise ValueError(
                f"pbc={self.pbc}: expected true (repeats), false (a molecule) or null (as the file has it)"
            )
        check_labels([self.label])

    def as_dict(self) -> dict[str, Any]:
        """Entries that identify the settings; unused options are left out, so that older stores keep their identity."""
        used = {"label": self.label, "compression": self.compression.as_dict(), "shard_size": float(self.shard_size)}
        if self.pbc is not None:
            used["pbc"] = self.pbc
        if self.channels is not None:
            used["channels"] = list(self.channels)
        return used


@dataclass(frozen=True)
class Task:
    """One shard to be made."""

    shard: int
    first: int
    """Index of its first member in the source."""
    members: list[Member | SpinPair | StoreMember]
    names: list[str]
    identity: str
    """SHA-256 of its members and the settings: an existing shard is kept if it is the same."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides the content of the store."""

    sources: list[Path]
    tasks: list[Task]
    settings: Settings
    kind: DensityKind
    identity: str
    """SHA-256 of the settings and of the source's members, with the times of their last change."""
    purpose: str
    """SHA-256 of the settings and the structures' names: stays the same when a damaged source is corrected."""
    left_out: dict[str, list[str]]
    """Names of files in the sources that are not structures, by reason."""

    @property
    def n_members(self) -> int:
        """Number of structures in the source."""
        return sum(len(task.members) for task in self.tasks)

    def provenance(self) -> dict[str, Any]:
        """Entries of index.json about where the data come from."""
        members = [member for task in self.tasks for member in task.members]
        counts = Counter(member.source for member in members)
        # every structure in a folder of files is a source of its own: only stores and archives are listed
        containers = {source: source for source in self.sources if is_store(source) or not source.is_dir()}
        containers |= {source: source for source, count in counts.items() if count > 1}
        known = {"kind": self.kind.as_dict()} if self.kind else {}
        return known | {
            "plan": self.identity,
            "sources": [str(source) for source in self.sources],
            "files": [_describe(path) for path in containers],
            "n_members": self.n_members,
            "source_bytes": sum(member.size for member in members),
        }


def make_plan(
    sources: Sequence[str | os.PathLike[str]],
    *,
    label: str = "PBE",
    compression: Compression | None = None,
    shard_size: float = 1e9,
    pbc: bool | None = None,
    channels: Sequence[str] | None = None,
    kind: str | Mapping[str, Any] | DensityKind | None = None,
) -> Plan:
    """List the members of all sources, in order, and cut the list into shards.

    Args:
        sources: tars, lists of tars, folders or files of densities, or stores.
        label: name of the density.
        compression: how densities are stored.
        shard_size: bytes of source in a shard, at most (a larger member has a shard of its own).
        pbc: whether the structures repeat; None leaves it as the sources have it.
        channels: channels to keep beside "total"; None keeps all.
        kind: what the densities are; None takes it from stores among the sources.

    Raises:
        FileNotFoundError: if a source does not exist.
        ValueError: if there is nothing in a source, names are not unique, stores hold densities of different kinds, or
            a setting is wrong.
    """
    own_channels = None if channels is None else tuple(channels)
    settings = Settings(label, compression or Compression(), shard_size, pbc, own_channels)
    paths = [Path(source) for source in sources]
    found: list[Member | SpinPair | StoreMember] = []
    listed: list[Contents] = []
    sums: list[Member] = []
    shared = common_kind([path for path in paths if is_store(path)])
    for path in paths:
        if is_store(path):
            found += store_members(path, label)
        else:
            listed.append(contents(path))
            densities, of_two = joined_spins(listed[-1].members)
            found += densities
            sums += of_two
    if not found:
        raise ValueError("source: the list is empty; give at least one tar, folder or file")
    names = structure_names(found)
    used = settings.as_dict()
    states = {path: _state(path) for path in {source for member in found for source in member.sources}}
    listing = [
        [name, *(entry for source in m.sources for entry in (source.name, m.size, states[source]))]
        for name, m in zip(names, found, strict=True)
    ]
    sizes = [member.size for member in found]
    limit = min(float(shard_size), max(MIN_SHARD_BYTES, sum(sizes) / MIN_SHARDS))
    tasks = [
        Task(shard, first, found[first:end], names[first:end], _digest(used, listing[first:end]))
        for shard, (first, end) in enumerate(_cuts(sizes, limit))
    ]
    return Plan(
        sources=paths,
        tasks=tasks,
        settings=settings,
        kind=shared if kind is None else DensityKind.of(kind),
        identity=_digest(used, listing),
        purpose=_digest(used, names),
        left_out=_left_out(listed, sums),
    )


def _left_out(listed: Sequence[Contents], sums: Sequence[Member]) -> dict[str, list[str]]:
    """Files that are not structures, by reason; reasons without files are left out."""
    reasons = {
        "derived from a CHGCAR": [file.name for part in listed for file in part.derived],
        "the sum of spin up and down": [file.name for file in sums],
        "not a density": [file.name for part in listed for file in part.others],
    }
    return {reason: names for reason, names in reasons.items() if names}


def _state(source: Path) -> str | int:
    """State that changes with the content of a file or a store, even if name and size stay the same."""
    return Store(source).fingerprint if is_store(source) else source.stat().st_mtime_ns


def _digest(settings: dict[str, Any], content: list[Any]) -> str:
    return hashlib.sha256(json.dumps([settings, content]).encode()).hexdigest()


def _cuts(sizes: Sequence[int], limit: float) -> list[tuple[int, int]]:
    """First and end index of runs of members that together have at most `limit` bytes."""
    firsts: list[int] = []
    filled = 0.0
    for index, size in enumerate(sizes):
        if not firsts or filled + size > limit:
            firsts.append(index)
            filled = 0.0
        filled += size
    return list(pairwise([*firsts, len(sizes)]))


def _describe(path: Path) -> dict[str, Any]:
    """Name, size and time of a file; for a store, the identity of its densities."""
    if is_store(path):
        store = Store(path)
        known = ("method", "definition", "kind", "parameters", "functionals", "compression")
        described = {key: store.index[key] for key in known if key in store.index}
        return {"store": path.name, "fingerprint": store.fingerprint} | described
    status = path.stat()
    changed = datetime.datetime.fromtimestamp(status.st_mtime, datetime.UTC)
    return {"file": path.name, "bytes": status.st_size, "modified": changed.isoformat(timespec="seconds")}
