"""Structures to predict: frames of any file that ASE reads, of a density, or a molecule from a SMILES."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

import ase
import numpy as np
from ase.utils import string2index

from deepdft.io import DensityFormatError, read_density
from deepdft.io.compression import split_compression
from deepdft.io.formats import format_of
from deepdft.io.plausibility import StructureError, check_structure
from deepdft.io.smiles import atoms_from_smiles
from deepdft.io.structure_files import read_frames, without_ghosts

__all__ = ["is_density", "read_structures", "total_charge"]

_FILE_NAME = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,6}$")
"""The end of a file name rather than of a SMILES."""
_CHARGE_KEYS = ("charge", "total_charge", "net_charge", "tot_charge")
"""Where files say what charge a structure has."""
_SUFFIXES = {".cube", ".cub", ".h5", ".hdf5", ".chgcar"}


def read_structures(source: str, *, frames: str | int = ":", pbc: bool | None = None) -> list[ase.Atoms]:
    """Read the frames of a structure file, or make a molecule from a SMILES.

    Args:
        source: file name, or a SMILES where there is no such file.
        frames: which frames: an index, or a slice as "start:stop:step".
        pbc: None as the file has it; False makes molecules of the structures, True makes them repeat.

    Raises:
        FileNotFoundError: if there is no such file, and it looks like a file name.
        ValueError: if the file cannot be read or has no such frames, or the SMILES is not valid.
        ModuleNotFoundError: if it may be a SMILES and RDKit is not installed.
    """
    path = Path(source)
    if path.is_file():
        structures = _read(path, frames)
    elif path.is_dir() or _FILE_NAME.search(source):
        raise FileNotFoundError(f"structure={source}: no such file")
    else:
        structures = [atoms_from_smiles(source)]
    structures = [without_ghosts(atoms) for atoms in structures]
    for number, atoms in enumerate(structures):
        if pbc is not None:
            atoms.pbc = pbc
        try:
            check_structure(atoms)
        except ValueError as error:
            frame = f", frame {number}" if len(structures) > 1 else ""
            raise ValueError(f"structure={source}{frame}: {error}") from error
    return structures


def total_charge(atoms: ase.Atoms) -> int:
    """The charge of a structure in whole e: as its file says, else the sum of its atoms' charges."""
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
    except Exception as error:  # ASE's readers raise what they like at a damaged file
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"structure={path}: it cannot be read: {first}") from error
    if not structures:
        raise ValueError(f"structure={path}: no frames in {frames}")
    return structures


def is_density(path: Path) -> bool:
    """Whether the file holds a density by its name; ASE reads some, but not what deepdft notes of what repeats."""
    name, compression = split_compression(path.name)
    suffix = PurePath(name).suffix.lower()
    # CHG_water.xyz is not one, and x.vasp may be a structure alone
    return format_of(name) is not None and (suffix in _SUFFIXES or (compression and suffix != ".vasp") or not suffix)


def _of_density(path: Path, frames: str | int) -> list[ase.Atoms]:
    """The structure of a density as its only frame, chosen by an index or a slice."""
    only, index = [read_density(path).atoms], string2index(str(frames))
    return only[index] if isinstance(index, slice) else [only[int(index)]]
