"""What a conversion will do, fixed before it begins: names of structures and the shards they go into.

The plan depends on the source and the settings only, not on workers, so that a conversion that was interrupted goes
on with the same shards, and gives the same bytes. Shards of a source that has been mended since are made anew.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from deepdft.data.store import DensityStore
from deepdft.data.store_members import StoreMember, check_definitions, is_store, store_members
from deepdft.data.writer import Compression, check_labels
from deepdft.io.archive import Contents, Member, contents
from deepdft.io.compression import split_compression

__all__ = ["LeftOut", "Plan", "Task", "disambiguate", "make_plan", "structure_names", "with_folders"]

FEWEST_SHARDS = 32
"""A source is cut into about so many shards, to keep as many workers busy, unless they would become …"""
SMALL_SHARD = 8e6
"""… smaller than this many bytes of source, about a second of parsing."""
SUFFIXES = (".chgcar", ".cube", ".cub", ".vasp")


@dataclass(frozen=True)
class Task:
    """One shard to be made."""

    shard: int
    first: int
    """Position of its first member in the source."""
    members: list[Member | StoreMember]
    names: list[str]
    identity: str
    """sha256 of its members and the settings: a shard that is there is kept as long as this is the same."""


@dataclass(frozen=True)
class LeftOut:
    """Names of files in the sources that no structures are made of."""

    beside_chgcar: list[str]
    """CHG, AECCAR and PARCHG in a directory with a CHGCAR."""
    others: list[str]
    """No densities by their names."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides what the store will hold."""

    sources: list[Path]
    tasks: list[Task]
    label: str
    compression: Compression
    identity: str
    """sha256 of the source's members, when they were last changed, and the settings."""
    purpose: str
    """sha256 of the structures' names and the settings: what does not change where a damaged source is mended."""
    pbc: bool | None
    """Whether all structures repeat; None leaves it as the sources have it."""
    left_out: LeftOut

    @property
    def n_members(self) -> int:
        """Structures in the source."""
        return sum(len(task.members) for task in self.tasks)

    def provenance(self) -> dict[str, Any]:
        """What index.json says about where the data come from."""
        sizes: Counter[Path] = Counter()
        counts: Counter[Path] = Counter()
        for task in self.tasks:
            for member in task.members:
                sizes[member.source] += member.size
                counts[member.source] += 1
        # a folder of files has a source for each structure: only folders and archives are listed
        containers = {source: source for source in self.sources if is_store(source) or not source.is_dir()}
        containers |= {source: source for source, count in counts.items() if count > 1}
        return {
            "plan": self.identity,
            "sources": [str(source) for source in self.sources],
            "files": [_describe(path) for path in containers],
            "n_members": self.n_members,
            "source_bytes": sum(sizes.values()),
        }


def make_plan(
    sources: Sequence[str | os.PathLike[str]],
    *,
    label: str = "PBE",
    compression: Compression | None = None,
    shard_size: float = 1e9,
    pbc: bool | None = None,
) -> Plan:
    """List the members of all sources, in order, and cut the list into shards.

    Args:
        sources: tars, lists of tars, folders or files of densities, or stores.
        label: name of the density.
        compression: how densities are stored.
        shard_size: bytes of source in a shard, at most (a larger member has a shard of its own).
        pbc: whether the structures repeat; None leaves it as the sources have it.

    Raises:
        FileNotFoundError: if a source does not exist.
        ValueError: if there is nothing in a source, names are not unique, stores hold differently defined densities,
            or a setting is wrong.
    """
    if not shard_size >= 1:
        raise ValueError(f"shard_size={shard_size}: expected a number of bytes, such as 1e9")
    check_labels([label])
    compression = compression or Compression()
    paths = [Path(source) for source in sources]
    stores = [path for path in paths if is_store(path)]
    check_definitions(stores)
    found: list[Member | StoreMember] = []
    listed: list[Contents] = []
    for path in paths:
        if is_store(path):
            found += store_members(path, label)
        else:
            listed.append(contents(path))
            found += listed[-1].members
    if not found:
        raise ValueError("source: the list is empty; give at least one tar, folder or file")
    names = structure_names(found)
    settings: dict[str, Any] = {
        "label": label,
        "compression": compression.as_dict(),
        "shard_size": float(shard_size),
    }
    if pbc is not None:  # without it the stores that were made before there was a choice stay the same
        settings["pbc"] = pbc
    states = {path: _state(path) for path in {member.source for member in found}}
    listing = [[name, m.source.name, m.size, states[m.source]] for name, m in zip(names, found, strict=True)]
    limit = min(float(shard_size), max(SMALL_SHARD, sum(member.size for member in found) / FEWEST_SHARDS))
    tasks = [
        Task(shard, first, found[first:end], names[first:end], _digest(settings, listing[first:end]))
        for shard, (first, end) in enumerate(_cuts([member.size for member in found], limit))
    ]
    left_out = LeftOut(
        [file.name for part in listed for file in part.beside_chgcar],
        [file.name for part in listed for file in part.others],
    )
    identity, purpose = _digest(settings, listing), _digest(settings, names)
    return Plan(paths, tasks, label, compression, identity, purpose, pbc, left_out)


def _state(source: Path) -> str | int:
    """What changes with the content of a file or a store: two of equal names and sizes may hold other densities."""
    return DensityStore(source).fingerprint if is_store(source) else source.stat().st_mtime_ns


def _digest(settings: dict[str, Any], content: list[Any]) -> str:
    return hashlib.sha256(json.dumps([settings, content]).encode()).hexdigest()


def _cuts(sizes: Sequence[int], limit: float) -> list[tuple[int, int]]:
    """First and end position of runs of members that together have at most `limit` bytes."""
    firsts: list[int] = []
    filled = 0.0
    for position, size in enumerate(sizes):
        if not firsts or filled + size > limit:
            firsts.append(position)
            filled = 0.0
        filled += size
    return list(pairwise([*firsts, len(sizes)]))


def structure_names(found: Sequence[Member | StoreMember]) -> list[str]:
    """Names of the structures: member names without suffixes, with the source's name in front where they repeat.

    Where that is not enough, as of the files of several folders, it is the folder's name that comes in front, and as
    many of those above it as tell the structures apart.

    Raises:
        ValueError: if two structures still have the same name, or are one and the same.
    """
    plain = [member.name if isinstance(member, StoreMember) else _stem(member.name) for member in found]
    names = disambiguate([_name_candidates(member, name) for member, name in zip(found, plain, strict=True)])
    origins = [  # of those that the name of a folder tells apart: links may lead two of these to the same one
        name if name in (own, f"{member.source.stem}/{own}") else f"{_stem(str(member.source.resolve()))}: {own}"
        for member, own, name in zip(found, plain, names, strict=True)
    ]
    for keys in (names, origins):
        if twice := _repeated(keys):
            first = next(iter(twice))
            (one, name), (other, _), *_ = (
                (member.label, own) for member, own, key in zip(found, plain, keys, strict=True) if key == first
            )
            raise ValueError(
                f"{len(twice)} structures of the source have the name of another, e.g. {name!r} of {one} and of "
                f"{other}; is a source given twice, or are there several formats of the same density?"
            )
    return names


def disambiguate(candidates: Sequence[Iterator[str]]) -> list[str]:
    """A name for each of several things: its first one, or the next as long as others have the same.

    Args:
        candidates: names of each, the best first; where they come to their end, names may repeat.
    """
    names = [next(own) for own in candidates]
    while twice := _repeated(names):
        longer = [next(own, None) if name in twice else None for own, name in zip(candidates, names, strict=True)]
        if not any(longer):
            break
        names = [name if other is None else other for name, other in zip(names, longer, strict=True)]
    return names


def with_folders(name: str, folder: Path) -> Iterator[str]:
    """A name with that of a folder in front, then with that of the folder above it too, and so on."""
    parts = Path(os.path.abspath(folder)).parts[1:]
    for first in reversed(range(len(parts))):
        yield "/".join((*parts[first:], name))


def _repeated(names: Sequence[str]) -> dict[str, int]:
    """The names that are there several times, in their order, and how often."""
    return {name: count for name, count in Counter(names).items() if count > 1}


def _name_candidates(member: Member | StoreMember, plain: str) -> Iterator[str]:
    yield plain
    yield f"{member.source.stem}/{plain}"
    inside, source = PurePosixPath(member.name).parts, Path(os.path.abspath(member.source))
    is_file = isinstance(member, Member) and source.parts[-len(inside) :] == inside
    yield from with_folders(plain, source.parents[len(inside) - 1] if is_file else source.with_suffix(""))


def _stem(name: str) -> str:
    """000001_PE.CHGCAR.zz → 000001_PE; a bare CHGCAR keeps its name."""
    name = split_compression(name.removeprefix("./"))[0]
    path = PurePosixPath(name)
    return name[: -len(path.suffix)] if path.suffix.lower() in SUFFIXES else name


def _describe(path: Path) -> dict[str, Any]:
    """Name, size and time of a file; of a store what its densities are."""
    if is_store(path):
        store = DensityStore(path)
        known = ("method", "definition", "parameters", "functionals", "compression")
        described = {key: store.index[key] for key in known if key in store.index}
        return {"store": path.name, "fingerprint": store.fingerprint} | described
    status = path.stat()
    changed = datetime.datetime.fromtimestamp(status.st_mtime, datetime.UTC)
    return {"file": path.name, "bytes": status.st_size, "modified": changed.isoformat(timespec="seconds")}
