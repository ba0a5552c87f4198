"""Structures of a density store as members of a conversion, so that stores can be joined or recompressed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from deepdft.data.index import INDEX
from deepdft.data.kind import DensityKind
from deepdft.data.store import Store
from deepdft.density import DensityGrid
from deepdft.errors import DensityFormatError

__all__ = ["StoreMember", "common_kind", "is_store", "store_members"]


@dataclass(frozen=True)
class StoreMember:
    """One structure of a store; cheap to pickle."""

    name: str
    """Name of the structure."""
    source: Path
    """Folder of the store."""
    index: int
    """Index of the structure in the store."""
    size: int
    """Size in bytes of its density in single precision."""
    density: str
    """Label of the density to take."""

    @property
    def sources(self) -> tuple[Path, ...]:
        """The store alone."""
        return (self.source,)

    @property
    def label(self) -> str:
        """Name of the store and the structure, for messages."""
        return f"{self.source}: {self.name}"

    def read(self, *, pbc: bool | None = None) -> DensityGrid:
        """Read the density.

        Args:
            pbc: whether the structure repeats; None leaves it as the store has it.

        Raises:
            DensityFormatError: if it is damaged.
        """
        try:
            density = _opened(self.source).density(self.index, label=self.density)
        except (ValueError, FileNotFoundError) as error:
            raise DensityFormatError(str(error)) from error
        if pbc is not None:
            density.atoms.pbc = pbc
        return density


def is_store(path: Path) -> bool:
    """Whether a folder is a finished store."""
    return (path / INDEX).is_file()


def store_members(path: Path, label: str) -> list[StoreMember]:
    """All structures of a store, in its order.

    Args:
        path: the store.
        label: of the density to take.

    Raises:
        ValueError: if the store is damaged, or has no density of that label: a density that is called PBE must be PBE.
    """
    store = Store(path)
    if label not in store.labels:
        raise ValueError(f"{path}: its densities are {', '.join(store.labels)}, not {label!r}; choose one with label=…")
    sizes = (4 * store.shapes.prod(axis=1)).tolist()
    return [
        StoreMember(name, path, index, size, label)
        for index, (name, size) in enumerate(zip(store.names, sizes, strict=True))
    ]


def common_kind(stores: Sequence[Path]) -> DensityKind:
    """The kind of the densities of several stores; unknown if none of them tells.

    Raises:
        ValueError: if they differ, for instance because only one is convolved: a model cannot learn both.
    """
    found = [(kind, path) for path in stores for kind in _kinds(path)]
    for (first, other), (kind, path) in itertools.combinations(found, 2):
        if first.conflicts_with(kind):
            raise ValueError(
                f"{other} and {path} cannot be joined, their densities differ: {_in_words(first)} and {_in_words(kind)}"
            )
    return found[0][0] if found else DensityKind()


def _kinds(path: Path) -> list[DensityKind]:
    """The kind of a store's densities; for a joined store, of each of its sources too."""
    index = Store(path).index
    kinds = [DensityKind.of_index(entry) for entry in (index, *index.get("files", []))]
    return [kind for kind in kinds if kind]


def _in_words(kind: DensityKind) -> str:
    known = kind.as_dict()
    return repr(kind.description) if list(known) == ["description"] else str(known)


@lru_cache(maxsize=8)
def _opened(path: Path) -> Store:
    return Store(path)
