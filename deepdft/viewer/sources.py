"""What a visitor may give as a structure: a name of the list, a SMILES, or the text of a file.

An upload is never a path nor code: its name only chooses a reader from a fixed list, and its bytes lie in a temporary
folder while they are read.
"""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import ase
import ase.io
import numpy as np

from deepdft.density import DensityGrid
from deepdft.io import read_density
from deepdft.io.smiles import atoms_from_smiles
from deepdft.viewer.limits import Limits

__all__ = ["EXAMPLES", "Source", "from_text", "from_upload"]

EXAMPLES = {
    "water": "O",
    "ammonia": "N",
    "methane": "C",
    "ethanol": "CCO",
    "acetic acid": "CC(=O)O",
    "benzene": "c1ccccc1",
    "phenol": "Oc1ccccc1",
    "urea": "NC(N)=O",
    "glycine": "NCC(=O)O",
    "ethylene carbonate": "C1COC(=O)O1",
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "caffeine": "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "paracetamol": "CC(=O)Nc1ccc(O)cc1",
    "chloroform": "ClC(Cl)Cl",
    "thiophene": "c1ccsc1",
}
"""Names of the list and their SMILES."""

_DENSITIES = {".cube": "x.cube", ".cub": "x.cube", ".h5": "x.h5", ".hdf5": "x.h5"}
_STRUCTURES = {
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
    ".cif": "cif",
    ".pdb": "proteindatabank",
    ".sdf": "sdf",
    ".mol": "sdf",
    ".vasp": "vasp",
    ".poscar": "vasp",
    ".gen": "gen",
}
_EXPECTED = "expected .xyz, .cif, .pdb, .sdf, .mol, .vasp, POSCAR, CONTCAR, .gen, or a density: CHGCAR, .cube, .h5"


@dataclass(frozen=True, eq=False)
class Source:
    """A structure to predict, and the density that came with it."""

    label: str
    """What the visitor called it."""
    atoms: ase.Atoms
    """The structure."""
    reference: DensityGrid | None = None
    """The density of the file, to compare a prediction with."""
    python: str = ""
    """An expression in Python that gives the same atoms."""


def from_text(text: str, limits: Limits) -> Source:
    """The structure of a name of the list or a SMILES.

    Raises:
        ValueError: if it is neither, or too large.
    """
    name = " ".join(text.split())
    smiles = EXAMPLES.get(name.lower(), name)
    if not smiles:
        raise ValueError("type a name of the list, or a SMILES such as CCO")
    if len(smiles) > 4 * limits.max_atoms:
        raise ValueError(f"a text of {len(smiles)} characters; at most {4 * limits.max_atoms} are read")
    try:
        atoms = atoms_from_smiles(smiles)
    except ValueError as error:
        raise ValueError(f"{error}; known names: {', '.join(EXAMPLES)}") from error
    return Source(name, _checked(atoms, limits), python=f"atoms_from_smiles({smiles!r})")


def from_upload(name: str, content: bytes, limits: Limits) -> Source:
    """The first structure of a file, with its density if it holds one.

    Args:
        name: the file's name, which chooses how it is read.
        content: its bytes.
        limits: what is too large.

    Raises:
        ValueError: if the file cannot be read, or is too large.
    """
    label = PurePosixPath(name.replace("\\", "/")).name[:80] or "upload"
    suffix = PurePosixPath(label).suffix.lower()
    stem = label.lower()
    with tempfile.TemporaryDirectory(prefix="deepdft-view-") as folder:
        if suffix in _DENSITIES or stem.startswith(("chgcar", "chg_")) or suffix == ".chgcar":
            path = Path(folder) / _DENSITIES.get(suffix, "CHGCAR")
            path.write_bytes(content)
            density = _quietly(label, path, lambda: read_density(path))
            if density.grid.n_points > limits.max_points:
                raise ValueError(f"{label}: {density.grid.n_points} points; at most {limits.max_points} are shown")
            python = f"deepdft.read_density({label!r}).atoms"
            return Source(label, _checked(density.atoms, limits), density, python)
        form = "vasp" if stem.startswith(("poscar", "contcar")) else _STRUCTURES.get(suffix)
        if form is None:
            raise ValueError(f"{label}: this kind of file is not read; {_EXPECTED}")
        path = Path(folder) / "structure"
        path.write_bytes(content)
        atoms = _quietly(label, path, lambda: ase.io.read(path, index=0, format=form))
        return Source(label, _checked(atoms, limits), python=f"ase.io.read({label!r}, index=0)")


def _quietly(label: str, path: Path, read):  # type: ignore[no-untyped-def]
    """Read a file; what the reader raises becomes one line with the visitor's name of the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except Exception as error:  # readers raise what they like at a damaged file
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        said = said.removeprefix(f"{path}: ").replace(str(path), label)
        raise ValueError(f"{label}: it cannot be read: {said}") from error


def _checked(atoms: ase.Atoms, limits: Limits) -> ase.Atoms:
    if len(atoms) == 0:
        raise ValueError("the structure has no atoms")
    if len(atoms) > limits.max_atoms:
        raise ValueError(f"the structure has {len(atoms)} atoms; at most {limits.max_atoms} are shown")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise ValueError("some positions or lattice vectors are not finite numbers")
    atoms.calc = None
    return atoms
