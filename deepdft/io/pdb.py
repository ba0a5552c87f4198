"""PDB files as programs write them: elements from atom names, placeholder cells, models, alternate locations.

ASE reads the file; this module puts right, beforehand, what it would take for something else. Source of the columns:
wwPDB file format 3.30, "Coordinate Section".
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable

import ase
import numpy as np
from ase.data import atomic_numbers
from ase.io.proteindatabank import read_proteindatabank

from deepdft.errors import InputWarning
from deepdft.io.plausibility import StructureError

__all__ = ["read_pdb"]

AMINO_ACIDS = (
    "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL "
    "HID HIE HIP HSD HSE HSP CYX CYM ASH GLH LYN"
)
NUCLEOTIDES_AND_WATERS = "DA DC DG DT DU A C G T U HOH WAT SOL TIP TIP3 TP3 H2O"
RESIDUES = frozenset(f"{AMINO_ACIDS} {NUCLEOTIDES_AND_WATERS}".split())
"""Residues that contain only H, C, N, O, S and P, so that the first letter of an atom's name is its element."""
HYDROGENS = {"HE", "HF", "HG", "HO", "HS"}
"""Names of elements that, followed by a letter or digit, are names of hydrogens: HE21, HG2, HO5."""


def read_pdb(text: str) -> list[ase.Atoms]:
    """Read the models of a PDB file.

    Elements are those of columns 77 and 78; where these are empty they follow from the atom's name and its place in
    columns 13 to 16. Of alternate locations the first is read. A cell of 1 Å, which programs write for molecules that
    have none, is left out. What is left out or assumed is warned of.

    Raises:
        StructureError: if the element of an atom cannot be told.
    """
    lines, placeholder = _lines(text.splitlines())
    models = read_proteindatabank(io.StringIO("\n".join([*lines, "END", ""])), index=slice(None))
    whole = [atoms for atoms in models if len(atoms)]  # ASE would read an END after ENDMDL as a model without atoms
    if placeholder:
        warnings.warn(f"the cell of {placeholder} is a placeholder: it is left out", InputWarning, stacklevel=2)
    for atoms in whole:
        if atoms.cell.rank < 3 and whole[0].cell.rank == 3:  # CRYST1 applies to all models, but ASE only to the first
            atoms.cell, atoms.pbc = whole[0].cell, whole[0].pbc
    return whole


def _lines(lines: Iterable[str]) -> tuple[list[str], str]:
    """Lines for ASE, and the size of a placeholder cell that was left out."""
    records = [line for line in lines if line.strip()]
    is_left_justified = any(_has_left_justified_name(line) for line in records if _is_atom(line))
    kept: list[str] = []
    placeholder = ""
    places: set[tuple[str, str]] = set()
    n_alternates = 0
    guessed: set[str] = set()
    for line in records:
        if line.startswith("CRYST1") and (size := _placeholder(line)):
            placeholder = size
        elif not _is_atom(line):
            if line.startswith(("MODEL", "END")):
                places.clear()
            kept.append(line)
        else:
            place = line[12:16].strip(), line[17:27]  # name; residue, chain, number and insertion
            if line[16] != " " and place in places:
                n_alternates += 1
                continue
            places.add(place)
            kept.append(_with_element(line.ljust(80), is_left_justified, guessed))
    if n_alternates:
        text = f"{n_alternates} alternate locations of atoms are left out: the first of each is read"
        warnings.warn(text, InputWarning, stacklevel=3)
    if guessed:
        text = f"no elements in columns 77 and 78: atoms are read by their names, {', '.join(sorted(guessed))}"
        warnings.warn(text, InputWarning, stacklevel=3)
    return kept, placeholder


def _with_element(line: str, is_left_justified: bool, guessed: set[str]) -> str:
    """The line of an atom with its element in columns 77 and 78, and an occupancy."""
    element = line[76:78] if _is_element(line[76:78]) else f"{_element(line, is_left_justified, guessed):>2}"
    occupancy = line[54:60] if line[54:60].strip() else "  1.00"
    return f"{line[:54]}{occupancy}{line[60:76]}{element}{line[78:]}"


def _is_atom(line: str) -> bool:
    return line.startswith(("ATOM  ", "HETATM"))


def _is_element(text: str) -> bool:
    return text.strip().capitalize() in atomic_numbers and text.strip().upper() != "X"


def _placeholder(line: str) -> str:
    """Lengths of a cell that no crystal has, as text; empty for a real cell."""
    try:
        lengths = [float(line[start:stop]) for start, stop in ((6, 15), (15, 24), (24, 33))]
    except ValueError:
        return ""
    return " × ".join(f"{length:g}" for length in lengths) + " Å" if np.max(lengths) <= 1.0 else ""


def _has_left_justified_name(line: str) -> bool:
    """Whether a name of one letter and perhaps digits starts in column 13, which is for elements of two letters."""
    name = line[12:16]
    return name[:1].isalpha() and not name[1:2].isalpha() and name[3:4] == " "


def _element(line: str, is_left_justified: bool, guessed: set[str]) -> str:
    """The element that the name of an atom stands for."""
    name, residue = line[12:16], line[17:21].strip().upper()
    letters = name.strip().lstrip("0123456789*'").upper()
    one, two = letters[:1], letters[:2]
    alone = letters.rstrip("0123456789+-")
    if residue in RESIDUES and one in "HCNOSP" and one:
        return one
    if alone == residue.rstrip("0123456789+-") and _is_element(alone):  # an ion: its residue has the same name
        return alone
    if two in HYDROGENS and len(letters) > 2:
        return "H"
    in_first_column = name[:1].isalpha()
    if _is_element(two) and len(two) == 2 and (in_first_column or not _is_element(one)):
        if not _is_element(one) or two in ("CL", "BR") or (not is_left_justified and two not in HYDROGENS):
            guessed.add(f"{name.strip()} as {two.capitalize()}")
            return two
        if two in HYDROGENS and not is_left_justified:
            raise StructureError(
                f"atom {name.strip()!r} of residue {residue or '?'} is H or {two.capitalize()}: give its element in "
                "columns 77 and 78"
            )
        guessed.add(f"{name.strip()} as {one}")
        return one
    if _is_element(one):
        return one
    raise StructureError(
        f"atom {name.strip()!r} of residue {residue or '?'}: no element in columns 77 and 78 nor its name"
    )
