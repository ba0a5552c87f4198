"""Split of a store into structures for training, validation and testing.

A split file is JSON with the keys train, validation and test. Its entries are names of structures, or 0-based
indices in the source that the store was converted from, counting members that were rejected (the released splits).
"""

from __future__ import annotations

import json
import os
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepdft.data.store import Store
from deepdft.files import read_json, write_json

__all__ = ["SPLIT_FILE", "Split", "SplitSpec", "check_split", "load_split", "read_split_file", "store_split"]

SPLIT_FILE = "split.json"
PARTS = ("train", "validation", "test")
CHECKSUM = "crc32"
"""Key of the checksum of a stored split; split files without it are accepted too."""


@dataclass(frozen=True)
class Split:
    """Indices in a store; no structure is in two parts."""

    train: list[int]
    """Structures to which the weights are fitted."""
    validation: list[int]
    """Structures that decide the best weights and the end of the training."""
    test: list[int]
    """Structures that influence nothing."""

    def names(self, store: Store) -> dict[str, list[str]]:
        """Names of the structures in each part."""
        return {part: [store.names[i] for i in getattr(self, part)] for part in PARTS}


SplitSpec = str | os.PathLike[str] | Mapping[str, int]
"""A JSON file of names or indices, or numbers of structures to draw: {"validation": n, "test": n, "seed": s}."""


def load_split(spec: SplitSpec | None, store: Store) -> Split:
    """Load the split of a store.

    Args:
        spec: None for the split stored with the data; a JSON file of names or indices; or numbers of structures
            {"validation": n, "test": n, "seed": s} to draw at random (seed 0 if none is given; that of a training
            run has no part in it), and {"train": n} if not all others.
        store: what is split.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if entries are unknown, out of range, repeated or in two parts, or a draw asks for too many.
    """
    if isinstance(spec, Mapping):
        return _random_split(spec, store)
    path = store.root / SPLIT_FILE if spec is None else Path(spec)
    if spec is None and not path.is_file():
        raise FileNotFoundError(
            f"{store.root}: no split is stored with the data; give one by data.split=split.json (names under train, "
            "validation and test) or 'data.split={validation: n, test: n, seed: s}', or evaluate all by subset=all"
        )
    parts = read_split_file(path)
    if any(isinstance(entry, int) for entries in parts.values() for entry in entries):
        return Split(**_store_indices(path, parts, store))
    return Split(**{part: _indices_of_names(path, part, names, store) for part, names in parts.items()})


def check_split(spec: SplitSpec) -> None:
    """Check a split as far as possible without the data, before they are made.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file or the numbers are wrong.
    """
    if isinstance(spec, Mapping):
        _check_numbers(spec)
    else:
        read_split_file(Path(spec))


def store_split(store: Store, spec: SplitSpec) -> dict[str, list[str]]:
    """Store a split with the data, by name.

    Returns:
        The names in each part.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not fit the data.
    """
    names = load_split(spec, store).names(store)
    write_json(store.root / SPLIT_FILE, {**names, CHECKSUM: _checksum(names)})
    return names


def _checksum(parts: Mapping[str, Sequence[Any]]) -> int:
    """CRC-32 of the three parts of a split."""
    return zlib.crc32(json.dumps([list(parts[part]) for part in PARTS]).encode())


def read_split_file(path: Path) -> dict[str, list[Any]]:
    """Entries of the three parts, checked against each other but not yet against a store.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a split, or an entry is repeated.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such split file")
    content = read_json(path)
    recorded = content.pop(CHECKSUM, None)
    if "train" not in content or not set(content) <= set(PARTS):
        raise ValueError(f"{path}: a split has the keys train, validation and test, got {', '.join(content) or 'none'}")
    parts = {part: content.get(part, []) for part in PARTS}
    for part, entries in parts.items():
        if not isinstance(entries, list) or not all(type(entry) in (int, str) for entry in entries):
            raise ValueError(f"{path}: {part} must be a list of indices (whole numbers) or of names")
    if recorded is not None and recorded != _checksum(parts):
        raise ValueError(
            f"{path}: damaged or edited: its checksum differs; copy it again, or remove the entry {CHECKSUM!r} if it "
            "was edited on purpose"
        )
    if len({type(entry) for entries in parts.values() for entry in entries}) > 1:
        raise ValueError(f"{path}: indices and names are mixed; expected one kind")
    _refuse_repeated(path, parts)
    return parts


def _refuse_repeated(path: Path, parts: Mapping[str, Sequence[Any]]) -> None:
    """Refuse repeated entries, in one part or in two, which would leak the test set into the training."""
    places = Counter(entry for entries in parts.values() for entry in entries)
    repeated = [entry for entry, count in places.items() if count > 1]
    if repeated:
        where = [part for part, entries in parts.items() if repeated[0] in entries]
        raise ValueError(
            f"{path}: {len(repeated)} entries are repeated, e.g. {repeated[0]!r} in {' and '.join(where)}; "
            "a structure belongs to one part, once"
        )


def _store_indices(path: Path, parts: Mapping[str, Sequence[int]], store: Store) -> dict[str, list[int]]:
    """Convert indices in the source to indices in the store; rejected members are left out."""
    rejected = sorted(member["index"] for member in store.index["rejected"])
    n_members = len(store) + len(rejected)
    outside = [p for indices in parts.values() for p in indices if not 0 <= p < n_members]
    if outside:
        raise ValueError(
            f"{path}: index {outside[0]} is out of range; the source of {store.root} has {n_members} members, "
            f"0…{n_members - 1}; give the split of this data set"
        )
    gone = set(rejected)
    return {part: [p - bisect_left(rejected, p) for p in indices if p not in gone] for part, indices in parts.items()}


def _indices_of_names(path: Path, part: str, names: Sequence[str], store: Store) -> list[int]:
    """Convert names to indices; names of rejected members are left out."""
    rejected = {member["name"] for member in store.index["rejected"]}
    known = set(store.names)
    unknown = [name for name in names if name not in known and name not in rejected]
    if unknown:
        raise ValueError(
            f"{path}: {len(unknown)} names in {part} are not in {store.root}, e.g. {unknown[0]!r}; "
            f"names there are like {store.names[0]!r}"
        )
    return [store.index_of(name) for name in names if name in known]


def _check_numbers(spec: Mapping[str, int]) -> dict[str, int]:
    """The number of structures in each part, 0 if it is not given."""
    unknown = set(spec) - {*PARTS, "seed"}
    numbers = {part: spec.get(part, 0) for part in PARTS}
    if unknown or any(type(n) is not int or n < 0 for n in [*numbers.values(), spec.get("seed", 0)]):
        raise ValueError(
            f"split {dict(spec)}: expected {{validation: n, test: n, seed: s}} with whole numbers, and train: n if "
            "not all the others are for training"
        )
    return numbers


def _random_split(spec: Mapping[str, int], store: Store) -> Split:
    """Draw by name, so that the order of the store does not matter."""
    numbers = _check_numbers(spec)
    held_out = numbers["validation"] + numbers["test"]
    n_train = numbers["train"] if "train" in spec else len(store) - held_out
    if n_train < 1 or held_out + n_train > len(store):
        raise ValueError(f"split {dict(spec)}: {store.root} has {len(store)} structures; draw fewer")
    by_name = np.argsort(np.array(store.names), kind="stable")
    drawn = by_name[np.random.default_rng(spec.get("seed", 0)).permutation(len(store))]
    validation, test, train = np.split(drawn[: held_out + n_train], [numbers["validation"], held_out])
    return Split(train=sorted(train.tolist()), validation=sorted(validation.tolist()), test=sorted(test.tolist()))
