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

from deepdft.density import DensityGrid
from deepdft.io import read_density
from deepdft.io.names import similar_names, structure_by_name
from deepdft.io.plausibility import check_structure
from deepdft.io.smiles import atoms_from_smiles
from deepdft.io.structure_files import read_frames, without_ghosts
from deepdft.viewer.limits import Limits

__all__ = ["Source", "from_text", "from_upload"]

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

    @property
    def n_bytes(self) -> int:
        """Bytes of the density."""
        return 0 if self.reference is None else self.reference.values.nbytes


def from_text(text: str, limits: Limits) -> Source:
    """The structure of a name of the list or a SMILES.

    Raises:
        ValueError: if it is neither, or too large.
    """
    name = " ".join(text.split())
    if not name:
        raise ValueError("type a name such as caffeine, or a SMILES such as CCO")
    if len(name) > 4 * limits.max_atoms:
        raise ValueError(f"a text of {len(name)} characters; at most {4 * limits.max_atoms} are read")
    atoms = structure_by_name(name)
    if atoms is None:
        try:
            atoms = atoms_from_smiles(name)
        except ValueError as error:
            raise ValueError(f"{error}; {similar_names(name)}") from error
    return Source(name, _checked(atoms, limits), python=f"read_structures({name!r})[0]")


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
            python = f"read_structures({label!r})[0]"
            return Source(label, _checked(density.atoms, limits), density, python)
        form = "vasp" if stem.startswith(("poscar", "contcar")) else _STRUCTURES.get(suffix)
        if form is None:
            raise ValueError(f"{label}: this kind of file is not read; {_EXPECTED}")
        path = Path(folder) / "structure"
        path.write_bytes(content)
        frames = _quietly(label, path, lambda: read_frames(path, 0, form=form))
        return Source(label, _checked(without_ghosts(frames[0]), limits), python=f"read_structures({label!r})[0]")


def _quietly(label: str, path: Path, read):  # type: ignore[no-untyped-def]
    """Read a file; what the reader raises becomes one line with the visitor's name of the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except Exception as error:  # readers raise what they like at a damaged file
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        message = message.removeprefix(f"{path}: ").replace(str(path), label)
        raise ValueError(f"{label}: it cannot be read: {message}") from error


def _checked(atoms: ase.Atoms, limits: Limits) -> ase.Atoms:
    if len(atoms) == 0:
        raise ValueError("the structure has no atoms")
    if len(atoms) > limits.max_atoms:
        raise ValueError(f"the structure has {len(atoms)} atoms; at most {limits.max_atoms} are shown")
    check_structure(atoms)
    atoms.calc = None
    return atoms
