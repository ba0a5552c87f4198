"""Gaussian cube files: lengths in bohr, density in e/bohr³, z fastest; voxel vectors, and an origin.

A cube says nothing about periodicity. Ours record it in the second comment line; for others it is the reader's choice.
"""

from __future__ import annotations

import re

import ase
import numpy as np

from deepdft.density import DensityGrid
from deepdft.io.errors import DensityFormatError
from deepdft.io.numbers import parse_floats
from deepdft.units import BOHR, BOHR3

__all__ = ["cube_header", "format_cube", "format_cube_values", "parse_cube"]

_PBC = re.compile(r"\[pbc ([TF]) ([TF]) ([TF])\]")


def parse_cube(text: str, name: str, *, pbc: bool | None = None) -> DensityGrid:
    """Read the text of a cube.

    Args:
        text: the whole file.
        name: of the file, for errors.
        pbc: periodicity of the structure; None for what the comment records, else not periodic.

    Returns:
        The density; of several values per voxel the first, the others as channels "value_2", … in e/Å³. Nuclear
        charges (column 2) that differ from the atomic numbers are kept in `info["charges"]`.

    Raises:
        DensityFormatError: if anything is missing, too much, or not a number.
    """
    lines = text.split("\n", 6)
    if len(lines) < 7:
        raise DensityFormatError(f"{name}: a cube begins with two comment lines and four lines of the grid")
    n_atoms, origin, n_values = _counts(lines[2], name)
    shape, voxels, length = [], [], BOHR
    for k, line in enumerate(lines[3:6]):
        words = line.split()
        numbers = parse_floats(" ".join(words[:4]), 4, name, f"line {4 + k} (points and voxel vector)")
        if numbers[0] != int(numbers[0]) or numbers[0] == 0:
            raise DensityFormatError(f"{name}: line {4 + k}: {words[0]!r} is not a number of points")
        if numbers[0] < 0:  # a negative count: lengths are in Å
            length = 1.0
        shape.append(abs(int(numbers[0])))
        voxels.append(numbers[1:])
    rows = lines[6].split("\n", abs(n_atoms) + (n_atoms < 0))
    n_header = abs(n_atoms) + (n_atoms < 0)
    if len(rows) <= n_header:
        raise DensityFormatError(f"{name}: expected {abs(n_atoms)} atoms, the file ends before them")
    atoms = [parse_floats(row, 5, name, f"atom {k + 1}") for k, row in enumerate(rows[: abs(n_atoms)])]
    if n_atoms < 0:  # orbital numbers: their count is the number of values per voxel
        n_values = _orbitals(rows[abs(n_atoms)], name)
    n_points = shape[0] * shape[1] * shape[2]
    values = parse_floats(rows[n_header], n_points * n_values, name, f"{n_values} × {shape} grid")
    fields = values.reshape(*shape, n_values) / BOHR3

    cell = np.array(voxels) * np.array(shape)[:, None] * length
    table = np.array(atoms).reshape(-1, 5)
    info = {"comment": lines[0].strip()}
    if (table[:, 1] != 0).any() and (table[:, 1] != table[:, 0]).any():
        info["charges"] = " ".join(f"{charge:g}" for charge in table[:, 1])
    recorded = _PBC.search(lines[1])
    repeats = [letter == "T" for letter in recorded.groups()] if recorded else [False] * 3
    structure = ase.Atoms(
        numbers=table[:, 0].astype(int),
        positions=table[:, 2:] * length,
        cell=cell,
        pbc=repeats if pbc is None else pbc,
    )
    channels = {f"value_{k + 1}": np.ascontiguousarray(fields[..., k]) for k in range(1, n_values)}
    return DensityGrid(np.ascontiguousarray(fields[..., 0]), structure, origin * length, channels, info)


def _counts(line: str, name: str) -> tuple[int, np.ndarray, int]:
    """Number of atoms, origin, and number of values per voxel of line 3."""
    words = line.split()
    numbers = parse_floats(" ".join(words[:5]), min(max(len(words), 4), 5), name, "line 3 (number of atoms and origin)")
    if numbers[0] != int(numbers[0]):
        raise DensityFormatError(f"{name}: line 3: {words[0]!r} is not a number of atoms")
    return int(numbers[0]), numbers[1:4], int(numbers[4]) if len(numbers) == 5 else 1


def _orbitals(line: str, name: str) -> int:
    words = line.split()
    if not words or not words[0].isdigit() or int(words[0]) != len(words) - 1:
        raise DensityFormatError(f"{name}: expected a count and as many orbital numbers, found {line.strip()!r}")
    return int(words[0])


def cube_header(density: DensityGrid | ase.Atoms, shape: tuple[int, int, int], origin: np.ndarray, comment: str) -> str:
    """Everything before the values: comments, grid and atoms."""
    atoms = density.atoms if isinstance(density, DensityGrid) else density
    letters = " ".join("T" if repeats else "F" for repeats in atoms.pbc)
    lines = [
        comment.splitlines()[0] if comment else atoms.get_chemical_formula(),
        f"electron density in e/bohr^3, lengths in bohr [pbc {letters}]",
        _row(len(atoms), origin / BOHR),
        *(_row(n, vector / n / BOHR) for n, vector in zip(shape, atoms.cell.array, strict=True)),
        *(
            f"{number:5d} {float(number):11.6f} " + " ".join(f"{x:19.12f}" for x in position / BOHR)
            for number, position in zip(atoms.numbers, atoms.positions, strict=True)
        ),
    ]
    return "\n".join(lines) + "\n"


def _row(count: int, vector: np.ndarray) -> str:
    # twelve digits: the origin and the voxels times the number of points must give the cell back
    return f"{count:5d} " + " ".join(f"{x:19.12f}" for x in vector)


def format_cube_values(values: np.ndarray) -> str:
    """The lines of rows of voxels (n_rows, nz) in e/Å³: six numbers a line, each row begins a new line."""
    nz = values.shape[-1]
    line = " ".join(["%14.7E"] * nz)
    pieces = [" ".join(["%14.7E"] * min(6, nz - k)) for k in range(0, nz, 6)]
    line = "\n".join(pieces) + "\n"
    rows = values.reshape(-1, nz).astype(np.float64) * BOHR3
    return (line * len(rows)) % tuple(rows.ravel())


def format_cube(density: DensityGrid) -> str:
    """The text of a cube with one value per voxel; other channels are not written."""
    header = cube_header(density, density.shape, density.origin, density.info.get("comment", ""))
    return header + format_cube_values(density.values)
