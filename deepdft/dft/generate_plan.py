"""The plan of a generation, fixed before it starts: structures, their names, and the shards they go into."""

from __future__ import annotations

import hashlib
import json
import warnings
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
from deepdft.errors import InputWarning

__all__ = ["Member", "Plan", "Settings", "digest"]


@dataclass(frozen=True, eq=False)
class Member:
    """A structure to be calculated."""

    name: str
    """Unique in the store."""
    source: str
    """The file, SMILES or recipe that it came from."""
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
class Plan:
    """Everything that decides what the store will hold.

    Raises:
        ValueError: if there are no structures, names repeat, or a structure has a charge that is not calculated.
    """

    settings: Settings
    members: Sequence[Member]
    origin: str
    """Identity of the structures: their `digest`, or a recipe's settings."""

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("structures: there are none")
        twice = [name for name, count in Counter(member.name for member in self.members).items() if count > 1]
        if twice:
            raise ValueError(
                f"structures: {len(twice)} names come several times, e.g. {twice[0]!r}; give each source once"
            )
        calculated = self.settings.engine.charge
        charged = [member for member in self.members if ignored_charge(member.atoms, calculated)]
        if charged:
            first = charged[0]
            raise ValueError(
                f"structures: {len(charged)} of {len(self.members)} have a charge that would be ignored, e.g. "
                f"{first.name!r} ({first.source}) the charge {ignored_charge(first.atoms, calculated):+d}; expected "
                "neutral ones: leave such out, or give them with their counterions"
            )

    @property
    def identity(self) -> str:
        """sha256 of everything that decides the content of the store."""
        return self.settings.identity(self.origin)

    @cached_property
    def points(self) -> list[int]:
        """Grid points of each structure; 0 if the engine will refuse it."""
        return [self._points(member.atoms) for member in self.members]

    def _points(self, atoms: ase.Atoms) -> int:
        engine = self.settings.engine
        try:
            return int(np.prod(engine.shape(engine.frame(atoms))))
        except CalculationError:
            return 0

    @cached_property
    def costs(self) -> list[float]:
        """Cost of each structure in a common unit, roughly grid points × electrons."""
        return [
            1.0 + points * float(member.atoms.numbers.sum())
            for points, member in zip(self.points, self.members, strict=True)
        ]

    @cached_property
    def shards(self) -> list[range]:
        """Indices of the structures in each shard."""
        n_values = len(self.settings.functionals) * len(self.settings.engine.channels)
        limit = self.settings.shard_size / (4 * n_values)  # grid points × bytes of a float32 for each label and channel
        starts, filled = [0], 0
        for index, points in enumerate(self.points):
            if filled + points > limit and index > starts[-1]:
                starts.append(index)
                filled = 0
            filled += points
        return [range(first, last) for first, last in zip(starts, [*starts[1:], len(self.members)], strict=True)]

    def warn_of_unused(self) -> None:
        """Warn in one line each of what structures have and calculations do not use: moments, and cells that repeat."""
        engine = self.settings.engine
        if "difference" not in engine.channels:
            self._warn(
                [m for m in self.members if m.atoms.get_initial_magnetic_moments().any()],
                "have magnetic moments, which are not used without dft.spin=true",
            )
        self._warn(
            [m for m in self.members if m.atoms.pbc.any() and self._loses_cell(m.atoms)],
            "repeat, but are calculated as molecules in boxes of their own; crystals need dft=gpaw_periodic",
        )

    def _loses_cell(self, atoms: ase.Atoms) -> bool:
        try:
            return not np.allclose(self.settings.engine.frame(atoms).cell.array, atoms.cell.array)
        except CalculationError:
            return False

    def _warn(self, members: Sequence[Member], what: str) -> None:
        if members:
            text = f"structures: {len(members)} of {len(self.members)} {what} (e.g. {members[0].name!r})"
            warnings.warn(text, InputWarning, stacklevel=4)

    def provenance(self) -> dict[str, Any]:
        """What index.json says about how the data were made."""
        chosen = self.settings.functionals
        elements = sorted({symbol for member in self.members for symbol in member.atoms.symbols})
        return {
            "plan": self.identity,
            **self.settings.engine.describe(),
            "kind": self.settings.engine.kind(elements, chosen).as_dict(),
            "functionals": {f.label: {"tag": f.tag, "kernel": f.kernel, "paw": f.setups} for f in chosen},
            "n_members": len(self.members),
        }


def digest(members: Sequence[Member]) -> str:
    """sha256 of structures and their names."""
    total = hashlib.sha256()
    for member in members:
        total.update(member.name.encode())
        for array in (member.atoms.numbers, member.atoms.positions, member.atoms.cell.array, member.atoms.pbc):
            total.update(np.ascontiguousarray(array).tobytes())
        if member.atoms.get_initial_magnetic_moments().any():
            total.update(member.atoms.get_initial_magnetic_moments().tobytes())
    return total.hexdigest()
