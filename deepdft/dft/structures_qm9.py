"""Molecules of QM9, from the package qm9pack or from a folder of its files; no network."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import ase
import numpy as np

from deepdft.io.archive import files_below

__all__ = ["Qm9Molecules"]

FILE = re.compile(r"dsgdb9nsd_(\d{6})\.xyz$")


class Qm9Molecules:
    """Molecules of QM9: random ones, the first ones, or those of given numbers.

    Geometries are those of the data set (B3LYP/6-31G(2df,p)); names are the numbers in it, with six digits.
    Source: Ramakrishnan et al., Sci. Data 1, 140022 (2014).

    Args:
        count: of molecules.
        max_atoms: leave out larger ones; None takes all.
        seed: of the choice; None takes the first molecules.
        numbers: of the molecules in QM9, from 1 on, instead of a choice; `count` and `seed` are not used then.
        folder: with files dsgdb9nsd_000001.xyz, …; None takes them from the package qm9pack.

    Raises:
        ModuleNotFoundError: if no folder is given and qm9pack is not installed.
        ValueError: if there are not so many molecules, or none of such a number.
    """

    def __init__(
        self,
        *,
        count: int = 60,
        max_atoms: int | None = None,
        seed: int | None = 0,
        numbers: Sequence[int] | None = None,
        folder: str | None = None,
    ) -> None:
        molecules = _read_folder(Path(folder)) if folder is not None else _read_package()
        self.molecules = [(name, atoms) for name, atoms in molecules if max_atoms is None or len(atoms) <= max_atoms]
        self.chosen = self._drawn(count, seed) if numbers is None else self._numbered(numbers)

    def _drawn(self, count: int, seed: int | None) -> list[int]:
        if not 1 <= count <= len(self.molecules):
            raise ValueError(f"recipe.count={count}: there are {len(self.molecules)} molecules to choose from")
        if seed is None:
            return list(range(count))
        return sorted(np.random.default_rng(seed).permutation(len(self.molecules))[:count].tolist())

    def _numbered(self, numbers: Sequence[int]) -> list[int]:
        positions = {int(name): position for position, (name, _) in enumerate(self.molecules)}
        missing = [number for number in numbers if number not in positions]
        if missing or not numbers:
            raise ValueError(
                f"recipe.numbers: no molecule {missing[0] if missing else ''} among the {len(positions)} to choose from"
            )
        return [positions[number] for number in numbers]

    def __len__(self) -> int:
        """Number of molecules chosen."""
        return len(self.chosen)

    def make(self, number: int) -> tuple[str, ase.Atoms]:
        """Name and atoms of molecule `number`."""
        return self.molecules[self.chosen[number]]


def _read_package() -> Iterator[tuple[str, ase.Atoms]]:
    """Read the tables inside qm9pack, in their order; the package itself, which needs pandas, is not imported."""
    package = importlib.util.find_spec("qm9pack")
    if package is None or package.submodule_search_locations is None:
        raise ModuleNotFoundError(
            "recipe=qm9 takes molecules from the package qm9pack: pip install --no-deps qm9pack (100 MB), or give "
            "recipe.folder=… with files dsgdb9nsd_000001.xyz"
        )
    csv.field_size_limit(2**24)
    for table in sorted(Path(package.submodule_search_locations[0]).glob("data/qm9_part*.csv")):
        with table.open(newline="") as file:
            for row in csv.DictReader(file):
                symbols = json.loads(row["Elements"].replace("'", '"'))
                positions = [float(number) for number in re.findall(r"[-+.\deE]+", row["XYZ_Ang"])]
                yield f"{int(row['Index']):06d}", ase.Atoms(symbols, np.reshape(positions, (-1, 3)))


def _read_folder(folder: Path) -> Iterator[tuple[str, ase.Atoms]]:
    """Read the files of the data set, ordered by number."""
    files = sorted((match[1], path) for path in files_below(folder) if (match := FILE.search(path.name)))
    if not files:
        raise ValueError(f"recipe.folder={folder}: no files dsgdb9nsd_000001.xyz, … in it")
    for number, path in files:
        yield number, _read_file(path)


def _read_file(path: Path) -> ase.Atoms:
    """Atoms from a file of QM9: an XYZ file with charges in a fifth column, and 1*^-6 for 1e-6."""
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        rows = [line.replace("*^", "e").split() for line in lines[2 : 2 + int(lines[0])]]
        return ase.Atoms([row[0] for row in rows], [[float(number) for number in row[1:4]] for row in rows])
    except (ValueError, IndexError, KeyError) as error:
        raise ValueError(f"{path}: not an XYZ file of QM9 ({error})") from error
