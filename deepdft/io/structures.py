"""Structures to predict: from structure files, density files, names, formulas or SMILES."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath

import ase
import numpy as np
from ase.utils import string2index

from deepdft.io import DensityFormatError, read_density
from deepdft.io.compression import split_compression
from deepdft.io.formats import format_of
from deepdft.io.names import similar_names, structure_by_name
from deepdft.io.plausibility import StructureError, check_structure
from deepdft.io.smiles import atoms_from_smiles
from deepdft.io.structure_files import read_frames, without_ghosts

__all__ = ["is_density", "read_structures", "total_charge"]

_FILE_NAME = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,6}$")
"""The suffix of a file name rather than the end of a SMILES."""
_CHARGE_KEYS = ("charge", "total_charge", "net_charge", "tot_charge")
"""Keys under which files store the charge of a structure."""
_SMILES = (".smi", ".smiles")
_SUFFIXES = {".cube", ".cub", ".h5", ".hdf5", ".chgcar"}


def read_structures(
    source: str | Sequence[str], *, frames: str | int = ":", pbc: bool | None = None
) -> list[ase.Atoms]:
    """Read the frames of a structure file, or make the structure of a name, a formula or a SMILES.

    Args:
        source: a file, a `.smi` file with a SMILES and perhaps a name on each line, a name or formula that
            `structure_by_name` knows, or a SMILES; or several of these.
        frames: which frames of a file: an index, or a slice as "start:stop:step".
        pbc: None as the file has it; False makes molecules of the structures, True makes them repeat.

    Raises:
        FileNotFoundError: if there is no such file, and it looks like a file name.
        ValueError: if the file cannot be read or has no such frames, the text is neither a name nor a SMILES, or the
            structure cannot exist.
        ModuleNotFoundError: if it may be a SMILES and RDKit is not installed.
    """
    if not isinstance(source, str):
        return [atoms for one in source for atoms in read_structures(str(one), frames=frames, pbc=pbc)]
    structures = [without_ghosts(atoms) for atoms in _structures(source, frames)]
    for number, atoms in enumerate(structures):
        if pbc is not None:
            atoms.pbc = pbc
        try:
            check_structure(atoms)
        except ValueError as error:
            frame = f", frame {number}" if len(structures) > 1 else ""
            raise ValueError(f"structure={source}{frame}: {error}") from error
    return structures


def _structures(source: str, frames: str | int) -> list[ase.Atoms]:
    path = Path(source)
    if _is(path.is_file):
        return _chosen(_of_smiles_file(path), frames, path) if path.suffix.lower() in _SMILES else _read(path, frames)
    if _is(path.exists) and not path.is_dir():
        raise ValueError(f"structure={source}: is a device or a pipe; expected a file")
    atoms = structure_by_name(source)
    if atoms is not None:
        return [atoms]
    if _is(path.is_dir) or _FILE_NAME.search(source):
        raise FileNotFoundError(f"structure={source}: no such file")
    try:
        return [atoms_from_smiles(source)]
    except ValueError as error:
        if "neither" not in str(error):
            raise
        raise ValueError(
            f"structure={source}: neither a file, a name or formula that is known, nor a valid SMILES; "
            f"{similar_names(source)}"
        ) from error


def _is(test: Callable[[], bool]) -> bool:
    """The result of a test of a path; False for text too long to be a path."""
    try:
        return test()
    except (OSError, ValueError):
        return False


def _of_smiles_file(path: Path) -> list[ase.Atoms]:
    """Molecules of a file with a SMILES and perhaps a name on each line; # starts a comment."""
    molecules = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        smiles, *name = line.split(maxsplit=1) or [""]
        if not smiles or smiles.startswith("#"):
            continue
        try:
            atoms = atoms_from_smiles(smiles)
        except ValueError as error:
            raise ValueError(f"structure={path}, line {number}: {error}") from error
        molecules.append(atoms)
        if name:
            atoms.info["name"] = name[0].strip()
    return molecules


def _chosen(structures: list[ase.Atoms], frames: str | int, path: Path) -> list[ase.Atoms]:
    """Select frames by an index or a slice."""
    try:
        index = string2index(str(frames))
        chosen = structures[index] if isinstance(index, slice) else [structures[int(index)]]
    except (IndexError, ValueError) as error:
        raise ValueError(f"structure={path}: no frame {frames}") from error
    if not chosen:
        raise ValueError(f"structure={path}: no frames in {frames}")
    return chosen


def total_charge(atoms: ase.Atoms) -> int:
    """Charge of a structure in whole e: from its file, else the sum of its atoms' charges."""
    stated = (atoms.info[key] for key in _CHARGE_KEYS if key in atoms.info)
    charge = next(stated, atoms.get_initial_charges().sum())
    return round(float(charge)) if isinstance(charge, int | float | np.number) and np.isfinite(charge) else 0


def _read(path: Path, frames: str | int) -> list[ase.Atoms]:
    try:
        structures = _of_density(path, frames) if is_density(path) else read_frames(path, frames)
    except DensityFormatError as error:
        raise ValueError(f"structure={error}") from error
    except StructureError as error:
        raise ValueError(f"structure={path}: {error}") from error
    except (IndexError, StopIteration) as error:  # the latter from formats that are read frame by frame
        raise ValueError(f"structure={path}: no frame {frames}") from error
    except Exception as error:  # ASE's readers raise all kinds of errors for damaged files
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"structure={path}: it cannot be read: {first}") from error
    if not structures:
        raise ValueError(f"structure={path}: no frames in {frames}")
    return structures


def is_density(path: Path) -> bool:
    """Whether a file holds a density by its name; ASE reads some, but not the periodicity that deepdft records."""
    name, compression = split_compression(path.name)
    suffix = PurePath(name).suffix.lower()
    # CHG_water.xyz is not one, and x.vasp may be a structure alone
    return format_of(name) is not None and (suffix in _SUFFIXES or (compression and suffix != ".vasp") or not suffix)


def _of_density(path: Path, frames: str | int) -> list[ase.Atoms]:
    """The structure of a density, as its only frame, selected by an index or a slice."""
    only, index = [read_density(path).atoms], string2index(str(frames))
    return only[index] if isinstance(index, slice) else [only[int(index)]]
