"""Reader and writer of Gaussian cube files: lengths in bohr, density in e/bohr³, z fastest, voxel vectors, an origin.

The lines in order: two comments; number of atoms, origin (and number of values per voxel); for each axis number of
voxels and voxel vector; for each atom its number, charge and position. A negative number of atoms announces a line
with the numbers of orbitals, one value per voxel each. A negative number of voxels says that lengths are in Å. The
format knows no periodicity: ours is recorded in the first comment line.
"""

from __future__ import annotations

import re
from typing import BinaryIO

import ase
import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from deepdft.density import DensityGrid
from deepdft.errors import DensityFormatError
from deepdft.io.decimals import format_values
from deepdft.io.formats.base import Chunks, Field, Format, rechunked
from deepdft.io.numbers import parse_values
from deepdft.io.text import Lines, join_mark, mark_pbc, pbc_mark, quoted, split_mark
from deepdft.units import BOHR, BOHR3

__all__ = ["Cube", "parse_cube"]

_VECTOR = rb"[ \t]+[-+.\dEeDd]+" * 3
_FIRST_LINES = re.compile(
    rb"[^\n]*\n[^\n]*\n[ \t]*-?\d+" + _VECTOR + rb"[^\n]*\n" + (rb"[ \t]*-?\d+" + _VECTOR + rb"\s*\n") * 3
)


def parse_cube(text: bytes, name: str) -> DensityGrid:
    """Read the text of a cube.

    Args:
        text: of the whole file.
        name: of the file, for errors.

    Returns:
        The density in e/Å³, not periodic unless our own comment says so. With several values per voxel the first is
        the density, the others are channels in the same unit: named as our comment says, else "orbital_7" or "value_2".
        `info` holds "comment" and, where they differ from the atomic numbers, the "charges" of the atoms' second
        column (a valence or pseudopotential's charge).

    Raises:
        DensityFormatError: if the file is damaged or another format.
    """
    try:
        return _parse(text)
    except ValueError as error:
        raise DensityFormatError(f"{name}: not a valid cube: {error}") from error


def _parse(text: bytes) -> DensityGrid:
    lines = Lines(text)
    comment, mark = split_mark(lines.next("a comment"))
    _check_loops(lines.next("a second comment"))
    n_atoms, origin, n_fields = _size(lines)
    shape, voxel, unit = _voxels(lines)
    if abs(n_atoms) > len(text) // 10:  # "1 0 0 0 0\n" is the shortest line of an atom
        raise ValueError(f"{abs(n_atoms)} atoms, more than the file has lines")
    rows = np.array([lines.floats(5, "number, charge and position of an atom") for _ in range(abs(n_atoms))])
    rows = rows.reshape(-1, 5)
    numbers = _atomic_numbers(rows[:, 0])
    names = _orbitals(lines, n_fields) if n_atoms < 0 else [f"value_{k + 1}" for k in range(n_fields or 1)]
    if "channels" in mark and len(mark["channels"].split(",")) == len(names) - 1:
        names[1:] = mark["channels"].split(",")
    n_values = int(np.prod((*shape, len(names)), dtype=object))
    values = parse_values(text[lines.position :], n_values, n_runs=shape[0] * shape[1]) / BOHR3
    fields = values.reshape(*shape, len(names))
    cell = voxel * unit * np.array(shape)[:, None]
    atoms = ase.Atoms(numbers, rows[:, 2:] * unit, cell=cell, pbc=mark_pbc(mark) or False)
    channels = {name: np.ascontiguousarray(fields[..., k]) for k, name in enumerate(names) if k > 0}
    info = {"comment": comment}
    if not np.array_equal(rows[:, 1], numbers) and rows[:, 1].any():  # zeros say nothing
        info["charges"] = " ".join(f"{charge:g}" for charge in rows[:, 1])
    return DensityGrid(np.ascontiguousarray(fields[..., 0]), atoms, origin * unit, dict(channels), info)


def _check_loops(line: str) -> None:
    """Refuse an order of loops that a program may name but that is not the usual one."""
    loops = re.findall(r"(?:OUTER|MIDDLE|INNER) LOOP: ?([XYZ])", line.upper())
    if loops and loops != ["X", "Y", "Z"]:
        raise ValueError(f"the order of loops {quoted(line)} is not supported, only X, Y, Z (z fastest)")


def _size(lines: Lines) -> tuple[int, NDArray[np.float64], int | None]:
    """Number of atoms, origin (3,) in the file's unit, and number of values per voxel if it is given."""
    expected = "number of atoms and origin"
    line = lines.next(expected)
    match = re.fullmatch(r"\s*(-?\d+)\s+(\S+)\s+(\S+)\s+(\S+)(?:\s+([1-9]\d*))?\s*", line)
    if match is None:
        raise ValueError(f"line {lines.number}: expected {expected}, got {quoted(line)}")
    origin = Lines(" ".join(match.group(2, 3, 4)).encode()).floats(3, "an origin")
    return int(match[1]), np.array(origin), int(match[5]) if match[5] else None


def _voxels(lines: Lines) -> tuple[tuple[int, int, int], NDArray[np.float64], float]:
    """Numbers of voxels, voxel vectors (3, 3) in the file's unit, and Å per unit."""
    counts, vectors = [], []
    for _ in range(3):
        count, *vector = lines.floats(4, "number of voxels and voxel vector")
        if count == 0 or count != int(count):
            raise ValueError(f"line {lines.number}: {count:g} is not a number of voxels")
        counts.append(int(count))
        vectors.append(vector)
    if min(counts) < 0 < max(counts):
        raise ValueError(f"numbers of voxels {counts}: all positive (bohr) or all negative (Å) are expected")
    shape = (abs(counts[0]), abs(counts[1]), abs(counts[2]))
    return shape, np.array(vectors), BOHR if counts[0] > 0 else 1.0


def _atomic_numbers(column: NDArray[np.float64]) -> NDArray[np.int64]:
    numbers = column.astype(np.int64)
    if (numbers != column).any() or (numbers < 0).any() or (numbers >= len(chemical_symbols)).any():
        raise ValueError(f"atomic numbers {column[:5]}… are not all between 0 and {len(chemical_symbols) - 1}")
    return numbers


def _orbitals(lines: Lines, n_fields: int | None) -> list[str]:
    """Names of the values of a voxel from the line (or lines) with their count and their numbers."""
    words: list[str] = []
    while not words or len(words) <= int(words[0]):
        line = lines.next("the numbers of orbitals")
        words.extend(line.split())
        if not words or not all(re.fullmatch(r"-?\d+", word) for word in words) or int(words[0]) < 1:
            raise ValueError(f"line {lines.number}: expected a count and numbers of orbitals, got {quoted(line)}")
    if len(words) != int(words[0]) + 1 or n_fields not in (None, 1, int(words[0])):
        raise ValueError(f"line {lines.number}: {len(words) - 1} numbers of orbitals, expected {n_fields or words[0]}")
    return [f"orbital_{word}" for word in words[1:]]


def _header(content: Field) -> str:
    """All lines before the values; the first also records what a cube cannot hold: periodicity, channel names."""
    grid = content.grid
    atoms, channels = grid.atoms, content.channels[1:]
    mark = {"pbc": pbc_mark(atoms.pbc)} if atoms.pbc.any() else {}
    if channels:
        mark["channels"] = ",".join(re.sub(r"[\s,\]=]", "_", name) for name in channels)
    charges: list[str] = content.info.get("charges", "").split()
    if len(charges) != len(atoms):
        charges = [str(number) for number in atoms.numbers]
    unit = "e/bohr^3" if content.is_density else content.unit.replace("Å", "A").replace("³", "^3")
    lines = [
        join_mark(content.comment, mark),
        f"{content.name} in {unit}; lengths in bohr, z fastest",
        f"{len(atoms):5d}{_row(grid.origin / BOHR)}" + (f"{1 + len(channels):5d}" if channels else ""),
        *(f"{n:5d}{_row(vector / BOHR)}" for n, vector in zip(grid.shape, grid.steps, strict=True)),
        *(
            f"{number:5d}{float(charge):12.6f}{_row(position / BOHR)}"
            for number, charge, position in zip(atoms.numbers, charges, atoms.positions, strict=True)
        ),
    ]
    return "\n".join(lines) + "\n"


class Cube(Format):
    """Gaussian cube: six significant digits, several values per voxel where there are channels."""

    name = "cube"
    suffixes = (".cube", ".cub")
    order = "C"
    bytes_per_value = 13

    def recognises(self, data: bytes) -> bool:
        """Whether the first lines are those of a cube."""
        return _FIRST_LINES.match(data) is not None

    def read(self, data: bytes, name: str) -> DensityGrid:
        """Read the text of a cube."""
        return parse_cube(data, name)

    def write(self, file: BinaryIO, content: Field, chunks: Chunks) -> None:
        """Write the header, then six values in a line and a new line after each run along z."""
        file.write(_header(content).encode("ascii", "replace"))
        factor, nz = BOHR3 if content.is_density else 1.0, content.grid.shape[2]
        for chunk in rechunked(chunks, nz):
            values = chunk.astype(np.float64) * factor  # (n, n_channels)
            file.write(format_values(values.ravel(), 5, 6, nz * values.shape[1]).encode())


def _row(vector: NDArray[np.floating]) -> str:
    return "".join(f" {x:17.12f}" for x in vector)  # with so many digits n × voxel gives the cell back
