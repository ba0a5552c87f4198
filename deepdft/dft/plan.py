"""What a generation will do, fixed before it begins: structures, their names, and the shards they go into."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import ase
import numpy as np

from deepdft.data.writer import Compression
from deepdft.dft.calculation import CalculationError, Engine, ignored_charge
from deepdft.dft.functionals import Functional

__all__ = ["Entry", "GenerationPlan", "Settings", "digest"]


@dataclass(frozen=True, eq=False)
class Entry:
    """A structure to be calculated."""

    name: str
    """Unique in the store."""
    source: str
    """The file, SMILES or recipe it came from."""
    atoms: ase.Atoms


@dataclass(frozen=True, eq=False)
class Settings:
    """How densities are made and stored, whatever the structures.

    Raises:
        ValueError: if the shard size is not positive.
    """

    functionals: Sequence[Functional]
    engine: Engine
    compression: Compression = field(default_factory=Compression)
    shard_size: float = 1e9
    """Bytes of densities in a shard, at most (a larger structure has a shard of its own)."""

    def __post_init__(self) -> None:
        if not self.shard_size >= 1:
            raise ValueError(f"shard_size={self.shard_size}: expected a number of bytes, such as 1e9")

    @property
    def labels(self) -> list[str]:
        """Names of the densities of each structure."""
        return [functional.label for functional in self.functionals]

    def identity(self, origin: str) -> str:
        """sha256 of these settings and the structures' origin."""
        parameters = self.engine.describe()["parameters"]
        settings = [self.labels, parameters, self.compression.as_dict(), float(self.shard_size), origin]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class GenerationPlan:
    """Everything that decides what the store will hold.

    Raises:
        ValueError: if there are no structures, names repeat, or a structure has a charge that is not calculated.
    """

    settings: Settings
    entries: Sequence[Entry]
    origin: str
    """What decides the structures: their `digest`, or a recipe's settings."""

    def __post_init__(self) -> None:
        if not self.entries:
            raise ValueError("structures: there are none")
        twice = [name for name, count in Counter(entry.name for entry in self.entries).items() if count > 1]
        if twice:
            raise ValueError(
                f"structures: {len(twice)} names come several times, e.g. {twice[0]!r}; is a source given twice?"
            )
        calculated = self.settings.engine.charge
        charged = [entry for entry in self.entries if ignored_charge(entry.atoms, calculated)]
        if charged:
            first = charged[0]
            raise ValueError(
                f"structures: {len(charged)} of {len(self.entries)} have a charge that would be ignored, e.g. "
                f"{first.name!r} ({first.source}) the charge {ignored_charge(first.atoms, calculated):+d}; expected "
                "neutral ones: leave such out, or give them with their counterions"
            )

    @property
    def identity(self) -> str:
        """sha256 of all of it."""
        return self.settings.identity(self.origin)

    @cached_property
    def points(self) -> list[int]:
        """Grid points of each structure; 0 where the engine will refuse it."""
        return [self._points(entry.atoms) for entry in self.entries]

    def _points(self, atoms: ase.Atoms) -> int:
        engine = self.settings.engine
        try:
            return int(np.prod(engine.shape(engine.frame(atoms))))
        except CalculationError:
            return 0

    @cached_property
    def costs(self) -> list[float]:
        """Work of each structure in a common unit, roughly: grid points × electrons."""
        return [
            1.0 + points * float(entry.atoms.numbers.sum())
            for points, entry in zip(self.points, self.entries, strict=True)
        ]

    @cached_property
    def shards(self) -> list[range]:
        """Positions of the structures in each shard."""
        limit = self.settings.shard_size / (4 * len(self.settings.functionals))  # grid points, a float32 for each label
        starts, filled = [0], 0
        for position, points in enumerate(self.points):
            if filled + points > limit and position > starts[-1]:
                starts.append(position)
                filled = 0
            filled += points
        return [range(first, last) for first, last in zip(starts, [*starts[1:], len(self.entries)], strict=True)]

    def provenance(self) -> dict[str, Any]:
        """What index.json says about how the data were made."""
        chosen = self.settings.functionals
        return {
            "plan": self.identity,
            **self.settings.engine.describe(),
            "functionals": {f.label: {"tag": f.tag, "kernel": f.kernel, "paw": f.setups} for f in chosen},
            "n_members": len(self.entries),
        }


def digest(entries: Sequence[Entry]) -> str:
    """sha256 of structures and their names."""
    total = hashlib.sha256()
    for entry in entries:
        total.update(entry.name.encode())
        for array in (entry.atoms.numbers, entry.atoms.positions, entry.atoms.cell.array, entry.atoms.pbc):
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
