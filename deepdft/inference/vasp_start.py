"""CHGCARs that VASP starts from: its grid, its order of atoms, its electrons, and PAW occupancies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase
import numpy as np

from deepdft import bundled
from deepdft.data.kind import DensityKind
from deepdft.density import DensityGrid, occupancies_of
from deepdft.io.compression import decompress
from deepdft.io.formats import parse_density
from deepdft.io.formats.chgcar import HEADER, MOMENTS, header_text
from deepdft.io.template import difference_of

__all__ = ["VaspCalculation", "foreign_kind", "incar_lines", "read_grid", "read_template"]

TOLERANCE = 0.02
"""Relative error of the electrons from which on scaling cannot be right: the density is then one of other electrons."""
_D, _F = (*range(21, 31), *range(39, 49), *range(72, 81)), (*range(57, 72), *range(89, 104))
"""Atomic numbers of elements with d and f electrons."""
_IN_XML = (r'name="{}"[^>]*>\s*([\d.]+)', r"<atoms>\s*(\d+)")
"""Patterns of a number by its name, and of the number of atoms, in a vasprun.xml."""
_IN_OUTCAR = (r"\b{}\s*=\s*([\d.]+)", r"\bNIONS\s*=\s*(\d+)")
"""The same in an OUTCAR."""


@dataclass(frozen=True, eq=False)
class VaspCalculation:
    """What is known of the calculation that is to start from a prediction."""

    source: Path
    """The file it was read from."""
    shape: tuple[int, int, int]
    """(NGXF, NGYF, NGZF), its grid for densities."""
    n_electrons: float | None = None
    """Its valence electrons (NELECT)."""
    n_atoms: int | None = None
    """Its number of atoms."""
    template: DensityGrid | None = None
    """The CHGCAR whose atoms and occupancies are used."""
    header: str = ""
    """Lines of the template between its comment and its grid."""

    def check(self, atoms: ase.Atoms) -> ase.Atoms:
        """The atoms to predict, in the order and at the positions of the template where there is one.

        Raises:
            ValueError: if the structure is not that of the template, or has another number of atoms than the
                calculation, or does not repeat.
        """
        if self.template is not None:
            if problem := difference_of(atoms, self.template.atoms):
                raise ValueError(f"template={self.source}: it is a CHGCAR of other atoms: {problem}")
            return self.template.atoms
        if self.n_atoms not in (None, len(atoms)):
            raise ValueError(f"grid_like={self.source}: it has {self.n_atoms} atoms, the structure {len(atoms)}")
        if not atoms.pbc.all() or atoms.cell.rank < 3:
            raise ValueError(
                f"grid_like={self.source}: VASP's cells repeat in three directions, and "
                f"{atoms.get_chemical_formula()} does not: give a POSCAR, or pbc=true where it has a cell"
            )
        return atoms

    def complete(self, density: DensityGrid, n_electrons: float | None = None) -> DensityGrid:
        """A predicted density with the electrons and the occupancies of the calculation.

        Args:
            density: as predicted.
            n_electrons: electrons to scale to; None for those of the calculation, where they are known.

        Returns:
            The density with all of its channels scaled. The model's own occupancies are kept; else those of the
            template are taken.

        Raises:
            ValueError: if the prediction is off by more than 2 % of the electrons of the calculation.
        """
        wanted = self.n_electrons if n_electrons is None else n_electrons
        factor = 1.0 if wanted is None else wanted / density.n_electrons
        if n_electrons is None and not abs(factor - 1) <= TOLERANCE:
            raise ValueError(
                f"the prediction holds {density.n_electrons:.2f} electrons and the calculation {wanted:g}: the model "
                "has learned densities of other valence electrons or pseudopotentials; give n_electrons= to scale it "
                "all the same"
            )
        channels = {name: factor * values for name, values in density.channels.items()}
        scaled = replace(density, values=factor * density.values, channels=channels)
        return self._with_occupancies(scaled)

    def _with_occupancies(self, density: DensityGrid) -> DensityGrid:
        """The density with what VASP wants behind each block of values, where the template has it."""
        if self.template is None:
            return density
        names = map(occupancies_of, density.channel_names)
        arrays = {name: self.template.atom_arrays[name] for name in names if name in self.template.atom_arrays}
        info = {HEADER: self.header} if self.header else {}
        if density.channels and MOMENTS in self.template.info:
            info[MOMENTS] = self.template.info[MOMENTS]
        return replace(density, atom_arrays=arrays | density.atom_arrays, info=info | density.info)

    def notes(self, predicted: DensityGrid, written: DensityGrid, info: Mapping[str, Any]) -> list[str]:
        """What a user must know to start VASP from a file, a line each.

        Args:
            predicted: as the model has it.
            written: from `complete`.
            info: of the model's checkpoint.
        """
        factor = written.n_electrons / predicted.n_electrons
        lines = [f"scaled by {factor:.6f} to {written.n_electrons:.3f} electrons"]
        lines += [line for line in (foreign_kind(info), self._about_occupancies(predicted, written)) if line]
        return [*lines, "INCAR:", *(f"  {line}" for line in incar_lines(written))]

    def _about_occupancies(self, predicted: DensityGrid, written: DensityGrid) -> str:
        """Where the occupancies are from, or what VASP does without."""
        names = list(map(occupancies_of, written.channel_names))
        if all(name in predicted.atom_arrays for name in names):
            return "PAW occupancies: predicted"
        if all(name in written.atom_arrays for name in names):
            return f"PAW occupancies: those of {self.source}, not predicted"
        who = "the model has none" if self.template is None else "neither the model nor the template has them"
        return (
            f'no PAW occupancies ({who}): VASP warns "PAW occupancies are missing on CHGCAR" and '
            "begins with those of free atoms, which spoils the start; a CHGCAR of the same atoms as template= has them"
        )


def incar_lines(density: DensityGrid) -> list[str]:
    """Settings of INCAR with which VASP starts from a density, each with a comment where it needs one.

    Args:
        density: as it is written, with its spin difference where it has one.
    """
    nx, ny, nz = density.shape
    lines = ["ICHARG = 1", f"NGXF = {nx}; NGYF = {ny}; NGZF = {nz}"]
    numbers = set(density.atoms.numbers.tolist())
    if numbers & set(_F) or numbers & set(_D):
        lines.append(
            f"LMAXMIX = {6 if numbers & set(_F) else 4}  # as in the calculation that the occupancies are from"
        )
    if "difference" in density.channels:
        moment = float(density.channel("difference").sum(dtype=np.float64)) * density.voxel_volume
        lines += ["ISPIN = 2", f"# NUPDOWN = {round(moment)} fixes the moment, which is {moment:.3f} here"]
    else:
        lines.append("# with ISPIN = 2, MAGMOM gives the moments: the file has no spin density")
    return lines


def foreign_kind(info: Mapping[str, Any]) -> str:
    """What densities a model has learned, where it is known that they are not VASP's; "" otherwise.

    Args:
        info: of the model's checkpoint.
    """
    kind = DensityKind.of(info.get("kind"))
    is_gpaw = info.get("path") == "free_atoms" or info.get("data") == bundled.MODEL_DATA
    if not is_gpaw and (not kind or "VASP" in f"{kind.code} {kind.description}"):
        return ""
    what = "valence densities of GPAW" if is_gpaw else kind.description or f"densities of {kind.code}"
    return (
        f"the model has learned {what}, which differ from VASP's near the nuclei: one trained on CHGCARs starts better"
    )


def read_template(path: Path) -> VaspCalculation:
    """The calculation of a CHGCAR: its grid, electrons, atoms, occupancies and header.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or no CHGCAR.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    data = path.read_bytes()
    density = parse_density(data, str(path))
    try:
        header = header_text(decompress(data, str(path)))
    except ValueError as error:
        raise ValueError(f"{path}: expected a CHGCAR") from error
    atoms = density.atoms.copy()
    atoms.positions -= density.origin  # of a molecule that was predicted into a box
    atoms.pbc = True
    density = DensityGrid(
        density.values, atoms, channels=density.channels, info=density.info, atom_arrays=density.atom_arrays
    )
    return VaspCalculation(path, density.shape, round(density.n_electrons, 3), len(atoms), density, header)


def read_grid(path: Path) -> VaspCalculation:
    """The grid and electrons of a calculation, from its CHGCAR, OUTCAR or vasprun.xml.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is none of these.
    """
    is_xml = path.suffix.lower() == ".xml"
    if not is_xml and not path.name.upper().startswith("OUTCAR"):
        return replace(read_template(path), template=None, header="")
    number, n_atoms = _IN_XML if is_xml else _IN_OUTCAR
    text = path.read_text(errors="replace")
    values = [re.search(number.format(name), text) for name in ("NGXF", "NGYF", "NGZF", "NELECT")]
    found = [match[1] for match in values if match is not None]
    if len(found) < len(values):
        raise ValueError(f"grid_like={path}: expected an OUTCAR or vasprun.xml with NGXF, NGYF, NGZF and NELECT")
    nx, ny, nz = map(int, found[:3])
    atoms = re.search(n_atoms, text)
    return VaspCalculation(path, (nx, ny, nz), float(found[3]), int(atoms[1]) if atoms else None)
