"""Structures to calculate, with their names: from files that ASE reads, folders, lists of SMILES, or a recipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import ase
import ase.io
import numpy as np
from ase.io.formats import UnknownFileTypeError, filetype

from deepdft.data.store_index import write_text
from deepdft.dft.plan import Entry
from deepdft.inference.smiles import atoms_from_smiles
from deepdft.inference.structures import is_density, read_structures

__all__ = ["Recipe", "entries_of_recipe", "read_entries"]

SMILES_SUFFIXES = (".smi", ".smiles")
STRUCTURES_FILE = "structures.jsonl"


def read_entries(sources: str | Sequence[str], *, frames: str | int = ":") -> list[Entry]:
    """Read structures and name them.

    A name is the frame's own (`atoms.info["name"]`) where it has one, else that of the file, with the frame's number
    where there are several, else the SMILES.

    Args:
        sources: files that ASE reads, folders of such, `.smi` files (a SMILES and perhaps a name on each line), or
            SMILES; one or several.
        frames: which frames of each file.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if one cannot be read, or there are no structures.
    """
    found: list[Entry] = []
    for source in [sources] if isinstance(sources, str) else sources:
        path = Path(source)
        for file in _files(path) if path.is_dir() else [path]:
            found += _read_smiles(file) if _is_smiles_list(file) else _read_frames(file, frames)
    if not found:
        raise ValueError(f"structures={sources}: there are none")
    return found


def _files(folder: Path) -> list[Path]:
    """Files of a folder and the folders in it that ASE or we know by their name."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    known = [path for path in files if _is_smiles_list(path) or _is_known(path)]
    if not known:
        raise ValueError(f"structures={folder}: no file in it has a name that ASE knows, such as .xyz, .cif or .traj")
    return known


def _is_known(path: Path) -> bool:
    try:
        return is_density(path) or bool(filetype(str(path), read=False, guess=False))
    except UnknownFileTypeError:
        return False


def _is_smiles_list(path: Path) -> bool:
    return path.suffix.lower() in SMILES_SUFFIXES and path.is_file()


def _read_smiles(path: Path) -> list[Entry]:
    entries = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        smiles, _, name = line.strip().partition(" ")
        if not smiles or smiles.startswith("#"):
            continue
        try:
            atoms = atoms_from_smiles(smiles)
        except ValueError as error:
            raise ValueError(f"structures={path}, line {number}: {error}") from error
        entries.append(Entry(name.strip() or smiles, f"{path}, line {number}: {smiles}", atoms))
    return entries


def _read_frames(path: Path, frames: str | int) -> list[Entry]:
    structures = read_structures(str(path), frames=frames)
    several = len(structures) > 1
    entries = []
    for number, atoms in enumerate(structures):
        name = str(atoms.info.get("name") or (f"{path.stem}-{number:06d}" if several else path.stem))
        entries.append(Entry(name, f"{path}, frame {number}" if several else str(path), atoms))
    return entries


class Recipe(Protocol):
    """Makes structures; each depends only on the settings and its number."""

    def __len__(self) -> int:
        """How many there are."""

    def make(self, number: int) -> tuple[str, ase.Atoms]:
        """Name and atoms of one of them."""


def entries_of_recipe(recipe: Recipe, folder: Path, *, progress: Callable[[int], None] | None = None) -> list[Entry]:
    """Make the structures of a recipe, each kept in `structures.jsonl` as soon as it is there.

    Args:
        recipe: makes them.
        folder: of the file; an interrupted recipe goes on with what is in it.
        progress: called with the number of structures made.
    """
    path = folder / STRUCTURES_FILE
    made = _whole_lines(path)
    for number in range(len(made), len(recipe)):
        if progress is not None:
            progress(number)
        name, atoms = recipe.make(number)
        content = {"name": name, "numbers": atoms.numbers, "positions": atoms.positions}
        content |= {"cell": atoms.cell.array, "pbc": atoms.pbc}
        made.append(json.dumps({key: np.asarray(value).tolist() for key, value in content.items()}))
        write_text(path, "\n".join(made) + "\n")
    kind = type(recipe).__name__
    entries = []
    for line in made:
        content = json.loads(line)
        entries.append(Entry(content.pop("name"), kind, ase.Atoms(**content)))
    return entries


def _whole_lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
