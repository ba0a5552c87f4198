"""Structures of a density store as members of a conversion: stores are joined, or compressed in another way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from deepdft.data.index import INDEX
from deepdft.data.store import DensityStore
from deepdft.density import DensityGrid

__all__ = ["StoreMember", "check_definitions", "is_store", "store_members"]


@dataclass(frozen=True)
class StoreMember:
    """One structure of a store; cheap to pickle."""

    name: str
    """Of the structure."""
    source: Path
    """The store."""
    position: int
    """In the store."""
    size: int
    """Bytes of its density in single precision."""
    density: str
    """Label of the density that is taken."""

    @property
    def label(self) -> str:
        """Names the store and the structure in messages."""
        return f"{self.source}: {self.name}"

    def read(self, *, pbc: bool | None = None) -> DensityGrid:
        """The density.

        Args:
            pbc: whether the structure repeats; None leaves it as the store has it.
        """
        density = _opened(self.source).density(self.position, label=self.density)
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
        ValueError: if the store is damaged, or has no density of that label: what is called PBE shall be PBE.
    """
    store = DensityStore(path)
    if label not in store.labels:
        raise ValueError(f"{path}: its densities are {', '.join(store.labels)}, not {label!r}; choose one with label=…")
    sizes = (4 * store.shapes.prod(axis=1)).tolist()
    return [
        StoreMember(name, path, position, size, label)
        for position, (name, size) in enumerate(zip(store.names, sizes, strict=True))
    ]


def check_definitions(stores: Sequence[Path]) -> None:
    """Refuse to join stores that say different things about what their densities are.

    Raises:
        ValueError: if two do, for instance because only one is convolved: a model cannot learn both.
    """
    found = {definition: store for store in stores for definition in _definitions(store)}
    if len(found) > 1:
        (one, first), (other, second), *_ = found.items()
        raise ValueError(f"{first} and {second} cannot be joined, their densities differ: {one!r} and {other!r}")


def _definitions(path: Path) -> list[str]:
    """What a store made by DFT says about its densities; one that was joined lists it for each source."""
    index = DensityStore(path).index
    return [entry["definition"] for entry in (index, *index.get("files", [])) if "definition" in entry]


@lru_cache(maxsize=8)
def _opened(path: Path) -> DensityStore:
    return DensityStore(path)
