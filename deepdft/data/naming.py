"""Unique names of structures that come from several files, folders, tars and stores."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from deepdft.data.store_members import StoreMember
from deepdft.io.archive import Member
from deepdft.io.compression import split_compression
from deepdft.io.spin_pairs import SpinPair

__all__ = ["disambiguate", "structure_names", "with_folders"]

SUFFIXES = (".chgcar", ".cube", ".cub", ".vasp", ".h5", ".hdf5")
"""Suffixes that are not part of a structure's name."""


def structure_names(found: Sequence[Member | SpinPair | StoreMember]) -> list[str]:
    """Names of the structures: member names without suffixes, with the source's name in front where they repeat.

    Where that is not enough, as of the files of several folders, it is the folder's name that comes in front, and as
    many of those above it as tell the structures apart.

    Raises:
        ValueError: if two structures still have the same name, or are one and the same.
    """
    plain = [member.name if isinstance(member, StoreMember) else _stem(member.name) for member in found]
    names = disambiguate([_name_candidates(member, name) for member, name in zip(found, plain, strict=True)])
    origins = [  # of those that the name of a folder distinguishes: links may lead two of these to the same one
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
                f"{other}; give each source once, and one format of each density"
            )
    return names


def disambiguate(candidates: Sequence[Iterator[str]]) -> list[str]:
    """A name for each of several things: its first candidate, or the next for as long as others have the same.

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
    """A name preceded by its folder's name, then also by the folder above it, and so on."""
    parts = Path(os.path.abspath(folder)).parts[1:]
    for first in reversed(range(len(parts))):
        yield "/".join((*parts[first:], name))


def _repeated(names: Sequence[str]) -> dict[str, int]:
    """Names that occur several times, in their order, with their counts."""
    return {name: count for name, count in Counter(names).items() if count > 1}


def _name_candidates(member: Member | SpinPair | StoreMember, plain: str) -> Iterator[str]:
    yield plain
    yield f"{member.source.stem}/{plain}"
    inside, source = PurePosixPath(member.name).parts, Path(os.path.abspath(member.source))
    is_file = isinstance(member, Member) and source.parts[-len(inside) :] == inside
    yield from with_folders(plain, source.parents[len(inside) - 1] if is_file else source.with_suffix(""))


def _stem(name: str) -> str:
    """Name without suffixes: 000001_PE.CHGCAR.zz → 000001_PE; a bare CHGCAR keeps its name."""
    name = split_compression(name.removeprefix("./"))[0]
    path = PurePosixPath(name)
    return name[: -len(path.suffix)] if path.suffix.lower() in SUFFIXES else name
