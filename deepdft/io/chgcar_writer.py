"""Writer of VASP's CHGCAR: density times cell volume with 12 significant digits, x fastest.

The format knows no origin and no isolated molecules: the atoms are moved so that the grid begins at zero, and both
are recorded in the comment line, from which our reader restores them. Atoms keep their order: where those of one
element do not stand together, the element appears again in the line of symbols.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import ase
import numpy as np
from numpy.typing import NDArray

from deepdft.density import DensityGrid, volume
from deepdft.errors import InputWarning
from deepdft.io.chgcar import CHANNELS, OCCUPANCIES
from deepdft.io.decimals import format_values
from deepdft.io.occupancies import format_occupancies
from deepdft.io.text import join_mark, pbc_mark

__all__ = ["chgcar_header", "chgcar_shape", "chgcar_values", "format_chgcar", "with_occupancies"]

_SAME = 1e-3  # Å; atoms of a template nearer than this are the same atoms
_BETWEEN = ("augmentation", "magnetic_moments")


def format_chgcar(density: DensityGrid, comment: str) -> str:
    """The text of a CHGCAR.

    Args:
        density: a channel "difference", or three "magnetization_x", "…_y" and "…_z", become further blocks. The
            augmentation occupancies in `atom_arrays` are written after each block.
        comment: for the first line.

    Raises:
        ValueError: if there are other channels, or no atoms.
    """
    if len(density.atoms) == 0:
        raise ValueError("a CHGCAR needs at least one atom; write a cube or .h5 file")
    names = tuple(density.channels)
    if names not in CHANNELS.values():
        raise ValueError(
            f"a CHGCAR holds the channels {' or '.join(map(repr, CHANNELS.values()))}, got {names}; "
            "write a cube or HDF5"
        )
    factor = volume(density.atoms.cell.array)
    parts = [chgcar_header(density.atoms, density.origin, comment)]
    for name, values in {"": density.values, **density.channels}.items():
        parts.append(chgcar_shape(density.shape))
        parts.append(chgcar_values(values.ravel(order="F") * factor))
        parts.extend(_text_after(density, name))
    return "".join(parts)


def _text_after(density: DensityGrid, name: str) -> list[str]:
    """What the reader kept from behind a block of values; moments stand only where a spin block follows."""
    rows = density.atom_arrays.get(f"{OCCUPANCIES}_{name}".rstrip("_"))
    keys = _BETWEEN if density.channels else _BETWEEN[:1]
    texts = [density.info.get(f"{key}_{name}".rstrip("_"), "") for key in keys]
    if rows is not None:
        texts[0] = format_occupancies(rows)
    return [text if text.endswith("\n") else text + "\n" for text in texts if text]


def chgcar_header(atoms: ase.Atoms, origin: NDArray[np.floating], comment: str) -> str:
    """All lines up to the blank one before the grid.

    Args:
        atoms: the structure; its cell is the box of the grid.
        origin: (3,) Å of the first point.
        comment: for the first line, which also holds what the format cannot say.
    """
    mark = {"origin": ",".join(f"{x:.17g}" for x in origin)} if origin.any() else {}
    if not atoms.pbc.all():
        mark["pbc"] = pbc_mark(atoms.pbc)
    groups = [(symbol, len(list(group))) for symbol, group in groupby(atoms.get_chemical_symbols())]
    lines = [
        join_mark(comment, mark),
        "   1.00000000000000",
        *map(_row, atoms.cell.array),
        " ".join(f"{symbol:>5s}" for symbol, _ in groups),
        " ".join(f"{count:5d}" for _, count in groups),
        "Direct",
        *map(_row, (atoms.positions - origin) @ np.linalg.inv(atoms.cell.array)),
    ]
    return "\n".join(lines) + "\n\n"


def chgcar_shape(shape: Sequence[int]) -> str:
    """The line before the values."""
    return "".join(f"{n:5d}" for n in shape) + "\n"


def chgcar_values(values: NDArray[np.floating]) -> str:
    """Values times volume as text, five to a line."""
    return format_values(values, 11, 5)


def _row(vector: NDArray[np.floating]) -> str:
    return "".join(f" {x:21.16f}" for x in vector)


def with_occupancies(density: DensityGrid, template: DensityGrid, names: str) -> DensityGrid:
    """A density with the augmentation occupancies of a template that has its atoms; else without, with a warning.

    Args:
        density: what will be written; occupancies of its own are dropped.
        template: what was read from a CHGCAR.
        names: of both files, for the warning.
    """
    info = {key: text for key, text in density.info.items() if not key.startswith(_BETWEEN)}
    arrays = {key: rows for key, rows in density.atom_arrays.items() if not key.startswith(OCCUPANCIES)}
    texts = {key: text for key, text in template.info.items() if key.startswith(_BETWEEN)}
    found = {key: rows for key, rows in template.atom_arrays.items() if key.startswith(OCCUPANCIES)}
    problem = "" if found or "augmentation" in texts else "the template has none"
    problem = _difference(template, density) or problem
    if problem:
        warnings.warn(
            f"{names}: no augmentation occupancies are written, because {problem}; VASP cannot restart from the file "
            "(ICHARG=1) and falls back to a superposition of atoms for them",
            InputWarning,
            stacklevel=3,
        )
        return replace(density, info=info, atom_arrays=arrays)
    return replace(density, info=info | texts, atom_arrays=arrays | found)


def _difference(one: DensityGrid, other: DensityGrid) -> str:
    """How two structures differ, "" if they do not."""
    if one.atoms.get_chemical_symbols() != other.atoms.get_chemical_symbols():
        return f"the atoms differ ({one.atoms.symbols} and {other.atoms.symbols})"
    cell = other.atoms.cell.array
    if np.abs(one.atoms.cell.array - cell).max() > _SAME:
        return "the cells differ"
    steps = (one.atoms.positions - one.origin - other.atoms.positions + other.origin) @ np.linalg.inv(cell)
    distances = np.linalg.norm((steps - np.round(steps)) @ cell, axis=1)
    if distances.max(initial=0.0) > _SAME:
        return f"an atom lies {distances.max():.3f} Å from its place in the template"
    return ""
