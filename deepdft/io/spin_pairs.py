"""Spin-polarised densities that a code writes into two files: spin up and down, or the total and the spin density.

Cubes have one value at each point, so Quantum ESPRESSO, GPAW and others write `x_up.cube` and `x_down.cube`, and CP2K
`x-ELECTRON_DENSITY-1_0.cube` and `x-SPIN_DENSITY-1_0.cube`. Each pair is one density with the channel "difference".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from deepdft.density import DensityGrid
from deepdft.errors import DensityFormatError
from deepdft.io.archive import Member

__all__ = ["SpinPair", "joined_spins", "pairs_by_name"]

_WORD = r"(?<![A-Za-z0-9])(?:spin[-_.]?)?(?:{})(?![A-Za-z0-9])"
_UP, _DOWN = (re.compile(_WORD.format(words), re.IGNORECASE) for words in ("up|alpha", "down|dn|dw|beta"))
_TOTAL, _SPIN = (re.compile(words, re.IGNORECASE) for words in ("ELECTRON_DENSITY", "SPIN_DENSITY"))
_TOLERANCE = 1e-4
"""Å, by how much positions and cells of two files may differ: cubes have six decimals."""


@dataclass(frozen=True)
class SpinPair:
    """A density in two files: spin up and down, or the total and the spin density."""

    name: str
    """Name of the density, that of the files without their spin."""
    first: Member
    """Spin up, or the total."""
    second: Member
    """Spin down, or the spin density."""

    @property
    def source(self) -> Path:
        """The tar with the first file, or the file."""
        return self.first.source

    @property
    def sources(self) -> tuple[Path, ...]:
        """What it is read from."""
        return (self.first.source, self.second.source)

    @property
    def size(self) -> int:
        """Number of bytes of both files."""
        return self.first.size + self.second.size

    @property
    def label(self) -> str:
        """Names of both files, for messages."""
        return f"{self.first.label} and {self.second.label}"

    def read(self, *, pbc: bool | None = None) -> DensityGrid:
        """The density with its channel "difference"; see `Member.read`.

        Raises:
            DensityFormatError: if a file is damaged, or they are of different structures or grids.
        """
        densities = self.first.read(pbc=pbc), self.second.read(pbc=pbc)
        return _combined(*densities, names=(self.first.label, self.second.label))


def joined_spins(files: Sequence[Member]) -> tuple[list[Member | SpinPair], list[Member]]:
    """Join the files of densities that are in two.

    Args:
        files: of one source.

    Returns:
        The densities, and files that are left out: the sum of spin up and down beside the two.
    """
    by_name = {file.name: file for file in files}
    pairs = pairs_by_name(by_name) if len(by_name) == len(files) else {}
    others = {partner for partner, _ in pairs.values()}
    sums = {name for _, name in pairs.values()} - pairs.keys()
    densities: list[Member | SpinPair] = []
    for file in files:
        if file.name in pairs:
            partner, name = pairs[file.name]
            densities.append(SpinPair(name, file, by_name[partner]))
        elif file.name not in others | sums:
            densities.append(file)
    return densities, [by_name[name] for name in by_name if name in sums]


def pairs_by_name(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The pairs among the names of files.

    Args:
        names: with their folders.

    Returns:
        Name of the file of spin up, or of the total → (name of the other file, name of the density).
    """
    given = list(names)
    found: dict[str, tuple[str, str]] = {}
    for first, second in ((_UP, _DOWN), (_TOTAL, _SPIN)):
        partners = {_blanked(second, name): name for name in given if second.search(PurePosixPath(name).name)}
        for name in given:
            if first.search(PurePosixPath(name).name) and (partner := partners.get(_blanked(first, name))):
                found[name] = partner, name if first is _TOTAL else _without(first, name)
    return found


def _blanked(word: re.Pattern[str], name: str) -> str:
    """The name with a blank in place of the word for its spin."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + word.sub(" ", base, count=1)


def _without(word: re.Pattern[str], name: str) -> str:
    """The name without the word for its spin: x_up.cube → x.cube, up.cube → density.cube."""
    folder, slash, base = name.rpartition("/")
    stem, dot, suffix = word.sub("", base, count=1).partition(".")
    return f"{folder}{slash}{re.sub('[-_. ]+$|^[-_. ]+', '', stem) or 'density'}{dot}{suffix.lstrip('.')}"


def _combined(first: DensityGrid, second: DensityGrid, names: tuple[str, str]) -> DensityGrid:
    """One density of the two files of a pair.

    Args:
        first: spin up, or the total.
        second: spin down, or the spin density.
        names: of the files.

    Raises:
        DensityFormatError: if the files are of different structures or grids.
    """
    a, b = first.atoms, second.atoms
    same = (
        first.shape == second.shape
        and np.array_equal(a.numbers, b.numbers)
        and np.allclose(a.positions, b.positions, rtol=0, atol=_TOLERANCE)
        and np.allclose(a.cell.array, b.cell.array, rtol=0, atol=_TOLERANCE)
        and np.allclose(first.origin, second.origin, rtol=0, atol=_TOLERANCE)
    )
    if not same:
        raise DensityFormatError(f"{names[0]} and {names[1]}: the two spins are of different structures or grids")
    if _TOTAL.search(names[0]):
        return replace(first, channels={"difference": second.values})
    return replace(first, values=first.values + second.values, channels={"difference": first.values - second.values})
