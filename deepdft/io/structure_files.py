"""Structure files through ASE, and what its readers ignore: disorder, further molecules, charges, ghost atoms."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.data import atomic_numbers
from ase.io.formats import UnknownFileTypeError, filetype
from ase.io.sdf import read_sdf
from ase.utils import string2index

from deepdft.errors import InputWarning
from deepdft.io.pdb import read_pdb
from deepdft.io.plausibility import StructureError

__all__ = ["read_frames", "without_ghosts"]

FULL = 0.99
"""Occupancy above which a site of a crystal counts as full."""
_OLD_CHARGES = {1: 3, 2: 2, 3: 1, 5: -1, 6: -2, 7: -3}
"""Charge in e by the code in the atom block of an SDF (CTfile format, "Atom block")."""


def read_frames(path: Path, frames: str | int, *, form: str | None = None) -> list[ase.Atoms]:
    """Read frames of a structure file as `ase.io.read` does, handling what it ignores.

    Args:
        path: the file.
        frames: an index, or a slice as start:stop:step.
        form: the format, by ASE's name for it; None tells it by the name and the content of the file.

    Raises:
        StructureError: if the structure is disordered, or an element cannot be told.
        Exception: what ASE's readers raise at a damaged file.
    """
    kind = form or _kind(path)
    if kind == "proteindatabank":
        return _chosen(read_pdb(_text(path)), frames)
    if kind == "sdf":
        return _chosen(_read_sdf(_text(path)), frames)
    found = ase.io.read(path, index=str(frames), format=form, do_not_split_by_at_sign=True)
    structures = found if isinstance(found, list) else [found]
    for atoms in structures:
        if kind == "gromacs":
            _name_ions(atoms)
        _refuse_disorder(atoms)
    return structures


def without_ghosts(atoms: ase.Atoms) -> ase.Atoms:
    """The structure without ghost atoms (number 0), which have basis functions but no density of their own."""
    ghosts = atoms.numbers == 0
    if not ghosts.any() or ghosts.all():
        return atoms
    count = int(ghosts.sum())
    text = "1 ghost atom (X, atomic number 0) is" if count == 1 else f"{count} ghost atoms (X, atomic number 0) are"
    warnings.warn(f"{text} left out", InputWarning, stacklevel=3)
    return atoms[~ghosts]


def _kind(path: Path) -> str:
    """ASE's name of the format; empty if ASE cannot tell."""
    suffix = Path(re.sub(r"\.(gz|bz2|xz)$", "", path.name.lower())).suffix
    known = {".pdb": "proteindatabank", ".ent": "proteindatabank", ".sdf": "sdf", ".mol": "sdf", ".gro": "gromacs"}
    if suffix in known:
        return known[suffix]
    try:
        return str(filetype(str(path)))
    except (UnknownFileTypeError, OSError):
        return ""


def _text(path: Path) -> str:
    with ase.io.formats.open_with_compression(str(path), "r") as file:
        return str(file.read())


def _chosen(structures: list[ase.Atoms], frames: str | int) -> list[ase.Atoms]:
    index = string2index(str(frames))
    return structures[index] if isinstance(index, slice) else [structures[int(index)]]


def _read_sdf(text: str) -> list[ase.Atoms]:
    """All molecules of an SDF, with their charges."""
    molecules = []
    for block in re.split(r"^\$\$\$\$[^\n]*\n?", text, flags=re.MULTILINE):
        if block.strip():
            atoms = read_sdf(io.StringIO(block))
            if charge := _sdf_charge(block, len(atoms)):
                atoms.info["charge"] = charge
            molecules.append(atoms)
    return molecules


def _sdf_charge(block: str, n_atoms: int) -> int:
    """The charge of a molecule in e: of "M  CHG" lines, else of the codes in the atom block."""
    lines = block.splitlines()
    stated = [line.split()[3:] for line in lines if line.startswith("M  CHG")]
    if stated:
        return sum(int(charge) for line in stated for charge in line[1::2])
    codes = [line[36:39].strip() for line in lines[4 : 4 + n_atoms]]
    return sum(_OLD_CHARGES.get(int(code), 0) for code in codes if code.isdecimal())


def _refuse_disorder(atoms: ase.Atoms) -> None:
    """Refuse sites that are partly occupied, or by several elements (CIF), which ASE fills with one of them."""
    sites = atoms.info.get("occupancy")
    if not isinstance(sites, dict):
        return
    partly = [site for site in sites.values() if len(site) > 1 or min(site.values(), default=1.0) < FULL]
    if partly:
        named = sorted({" + ".join(f"{symbol} {site[symbol]:g}" for symbol in sorted(site)) for site in partly})
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        raise StructureError(
            f"sites are partly occupied ({'; '.join(named[:3])}{more}): a density is that of one arrangement; "
            "give an ordered structure, such as a supercell with these sites filled or left empty"
        )


def _name_ions(atoms: ase.Atoms) -> None:
    """Correct two-letter elements of a .gro file, whose names are in capitals: ASE reads CL as C and NA as N."""
    if not (atoms.has("atomtypes") and atoms.has("residuenames")):
        return
    numbers = atoms.numbers.copy()
    for index, (name, residue) in enumerate(
        zip(atoms.get_array("atomtypes"), atoms.get_array("residuenames"), strict=True)
    ):
        letters = re.sub(r"[^A-Za-z].*", "", str(name)).capitalize()
        is_ion = letters.upper() == re.sub(r"[^A-Za-z].*", "", str(residue)).upper()
        if letters in atomic_numbers and len(letters) == 2 and (is_ion or letters in ("Cl", "Br")):
            numbers[index] = atomic_numbers[letters]
    if np.any(numbers == 0):
        name = atoms.get_array("atomtypes")[np.flatnonzero(numbers == 0)[0]]
        raise StructureError(f"atom {str(name)!r}: its name tells no element")
    atoms.numbers = numbers
