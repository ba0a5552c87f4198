"""Structures to calculate, with their names: from files that ASE reads, folders, lists of SMILES, or a recipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import ase
import ase.io
import numpy as np
from ase.io.formats import UnknownFileTypeError, filetype

from deepdft.data.naming import disambiguate, with_folders
from deepdft.dft.generate_plan import Member
from deepdft.files import write_text
from deepdft.io.archive import files_below
from deepdft.io.smiles import atoms_from_smiles
from deepdft.io.structures import is_density, read_structures

__all__ = ["Recipe", "members_of_recipe", "read_members"]

SMILES_SUFFIXES = (".smi", ".smiles")
STRUCTURES_FILE = "structures.jsonl"

Found = tuple[Iterator[str], str, ase.Atoms]
"""A structure: candidates for its name, the best first, its source, and its atoms."""


def read_members(sources: str | Sequence[str], *, frames: str | int = ":") -> list[Member]:
    """Read structures and name them.

    A name is the frame's own (`atoms.info["name"]`) where it has one, else that of the file, with the frame's number
    where there are several, else the SMILES. Where names of files repeat, they are paths: in the folder that is given,
    then with its name in front, and with those of as many folders above it as tell the files apart.

    Args:
        sources: files that ASE reads, folders of such, `.smi` files (a SMILES and perhaps a name on each line), or
            SMILES; one or several.
        frames: which frames of each file.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if one cannot be read, or there are no structures.
    """
    found: list[Found] = []
    for source in [sources] if isinstance(sources, str) else sources:
        path = Path(source)
        if path.is_dir():
            for file in _files(path):
                found += _read_file(file, path, frames)
        elif path.is_file():
            found += _read_file(path, path.parent, frames)
        else:
            found += [(iter([source]), source, atoms) for atoms in read_structures(source)]
    if not found:
        raise ValueError(f"structures={sources}: there are none")
    names = disambiguate([candidates for candidates, _, _ in found])
    return [Member(name, origin, atoms) for name, (_, origin, atoms) in zip(names, found, strict=True)]


def _files(folder: Path) -> list[Path]:
    """Files of a folder and its subfolders whose names ASE or deepdft recognises."""
    files = [path for path in sorted(files_below(folder)) if not path.name.startswith(".")]
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
    return path.suffix.lower() in SMILES_SUFFIXES


def _read_file(path: Path, folder: Path, frames: str | int) -> list[Found]:
    return _read_smiles(path) if _is_smiles_list(path) else _read_frames(path, folder, frames)


def _read_smiles(path: Path) -> list[Found]:
    found: list[Found] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        smiles, *name = line.strip().split(maxsplit=1) or [""]
        if not smiles or smiles.startswith("#"):
            continue
        try:
            atoms = atoms_from_smiles(smiles)
        except ValueError as error:
            raise ValueError(f"structures={path}, line {number}: {error}") from error
        found.append((iter(name or [smiles]), f"{path}, line {number}: {smiles}", atoms))
    return found


def _read_frames(path: Path, folder: Path, frames: str | int) -> list[Found]:
    structures = read_structures(str(path), frames=frames)
    several = len(structures) > 1
    found: list[Found] = []
    for number, atoms in enumerate(structures):
        own = atoms.info.get("name")
        names = iter([str(own)]) if own else _file_names(path, folder, f"-{number:06d}" if several else "")
        found.append((names, f"{path}, frame {number}" if several else str(path), atoms))
    return found


def _file_names(path: Path, folder: Path, ending: str) -> Iterator[str]:
    inside = path.relative_to(folder)
    yield path.stem + ending
    yield inside.with_suffix("").as_posix() + ending
    yield inside.as_posix() + ending  # POSCAR.1, POSCAR.2
    yield from with_folders(inside.as_posix() + ending, folder)


class Recipe(Protocol):
    """Makes structures; each depends only on the settings and its number."""

    def __len__(self) -> int:
        """Number of structures."""

    def make(self, number: int) -> tuple[str, ase.Atoms]:
        """Name and atoms of structure `number`."""


def members_of_recipe(recipe: Recipe, folder: Path, *, progress: Callable[[int], None] | None = None) -> list[Member]:
    """Make the structures of a recipe, each kept in `structures.jsonl` as soon as it is there.

    Args:
        recipe: makes them.
        folder: of the file; an interrupted recipe continues after the structures in it.
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
        if atoms.get_initial_magnetic_moments().any():
            content["magmoms"] = atoms.get_initial_magnetic_moments()
        made.append(json.dumps({key: np.asarray(value).tolist() for key, value in content.items()}))
        write_text(path, "\n".join(made) + "\n")
    kind = type(recipe).__name__
    entries = []
    for line in made:
        content = json.loads(line)
        entries.append(Member(content.pop("name"), kind, ase.Atoms(**content)))
    return entries


def _whole_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
