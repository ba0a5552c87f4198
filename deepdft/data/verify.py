"""Search for damaged structures in a store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deepdft.data.records import sha256_of_file

if TYPE_CHECKING:
    from deepdft.data.store import Store

__all__ = ["find_damage"]


def find_damage(store: Store) -> Iterator[str]:
    """Read everything in a store and compare it with its checksums.

    Args:
        store: of version 2 for single structures to be named; in version 1 only whole shards have a checksum.

    Yields:
        What is damaged or missing, a line for each structure, or for a whole shard.
    """
    for number, shard in enumerate(store.index["shards"]):
        path, name = store.root / shard["file"], shard["file"]
        if not path.is_file():
            yield f"{name} is missing"
        elif sha256_of_file(path) != shard["sha256"]:
            damaged = list(_damaged_structures(store, number))
            whole = f"{name} is damaged (its sha256 differs from that in the index)"
            yield from [f"{structure} in {name} is damaged" for structure in damaged] or [whole]


def _damaged_structures(store: Store, number: int) -> Iterator[str]:
    """Names of the damaged structures of a shard; empty if all of it, or only HDF5's structure, is damaged."""
    if store.index["format_version"] == 1:
        return
    try:
        store.check_shard(number)
    except ValueError:
        return
    for i in store.structures_of_shard(number):
        try:
            for label in store.labels:
                store.density(i, label)
        except ValueError:
            yield store.names[i]
