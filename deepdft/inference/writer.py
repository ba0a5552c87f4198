"""Writing a field on a grid piece after piece, so that a grid larger than memory can be predicted to a file.

The file is written beside its place and renamed when it is whole. Pieces come in the order of the format: z
fastest for cube and HDF5, x fastest for CHGCAR (`slice_order`).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from deepdft.density import Order, volume
from deepdft.files import atomic_write
from deepdft.inference.box import Box
from deepdft.io.chgcar_writer import chgcar_header, chgcar_shape, chgcar_values
from deepdft.io.compression import split_compression
from deepdft.io.cube import cube_header, cube_values
from deepdft.io.formats import format_of
from deepdft.io.hdf5 import CHECKSUM, structure_datasets
from deepdft.units import BOHR3

__all__ = ["file_format", "slice_order", "write_slices"]

Slices = Iterable[NDArray[np.floating]]


def file_format(path: str | os.PathLike[str]) -> str:
    """The format of an output file by its name: "cube", "h5" or "chgcar".

    Raises:
        ValueError: if the name is of none of them.
    """
    found = format_of(Path(path).name)
    if found is None or split_compression(str(path))[1]:
        raise ValueError(f"{path}: a density is written as x.cube, x.h5, CHGCAR or x.CHGCAR")
    return found


def slice_order(path: str | os.PathLike[str]) -> Order:
    """The order of the grid points in a file: "C", z fastest, or "F", x fastest."""
    return "F" if file_format(path) == "chgcar" else "C"


def write_slices(
    path: str | os.PathLike[str],
    box: Box,
    slices: Slices,
    *,
    name: str = "density",
    unit: str = "e/Å³",
    comment: str = "deepdft",
) -> None:
    """Write a field to a cube, CHGCAR or HDF5 file while it is computed.

    A density goes into a cube in e/bohr³ and into a CHGCAR multiplied by the volume, as the formats have it.
    Another field (any other `unit`) goes into a cube as it is, and into a CHGCAR multiplied by the volume.

    Args:
        path: its name chooses the format.
        box: structure and grid.
        slices: the values of all grid points, piece after piece, in the order of `slice_order(path)`.
        name: of the field.
        unit: of the field.
        comment: one line of text for the file.

    Raises:
        ValueError: if the format is unknown, or there are fewer or more values than grid points.
    """
    path = Path(path)
    write = _WRITERS[file_format(path)]
    with atomic_write(path) as beside:
        write(beside, box, _counted(slices, box, path), name, unit, " ".join(comment.split()))


def _counted(slices: Slices, box: Box, path: Path) -> Iterator[NDArray[np.floating]]:
    """The same slices; raises if they are not exactly the grid."""
    n_values = 0
    for part in slices:
        n_values += part.size
        if n_values > box.n_points:
            break
        yield part.ravel()
    if n_values != box.n_points:
        got = "more" if n_values > box.n_points else str(n_values)
        raise ValueError(f"{path}: the grid has {box.n_points} points {box.shape}, but {got} values came")


def _pieces(slices: Slices, size: int) -> Iterator[NDArray[np.floating]]:
    """The same values cut anew: all pieces but the last are multiples of `size`."""
    rest: NDArray[np.floating] | None = None
    for part in slices:
        joined = part if rest is None else np.concatenate([rest, part])
        whole = len(joined) // size * size
        if whole:
            yield joined[:whole]
        rest = joined[whole:]
    if rest is not None and len(rest):
        yield rest


def _write_cube(path: Path, box: Box, slices: Slices, name: str, unit: str, comment: str) -> None:
    """Gaussian cube: lengths in bohr, z fastest."""
    factor = BOHR3 if unit == "e/Å³" else 1.0
    unit = "e/bohr^3" if unit == "e/Å³" else unit.replace("Å", "A").replace("³", "^3")
    nz = box.shape[2]
    title = f"{name} in {unit}; lengths in bohr"
    with path.open("w", encoding="ascii", errors="replace") as file:
        file.write(cube_header(box.atoms, box.shape, box.origin, comment=comment, title=title))
        for piece in _pieces(slices, nz):
            file.write(cube_values(piece.astype(np.float64) * factor, nz))


def _write_chgcar(path: Path, box: Box, slices: Slices, name: str, unit: str, comment: str) -> None:
    """VASP CHGCAR: values times volume, x fastest. It has no origin: the atoms move instead."""
    factor = volume(box.atoms.cell.array)
    note = "" if name == "density" else f" {name} ({unit.replace('Å', 'A').replace('³', '^3')}) times volume"
    with path.open("w", encoding="ascii", errors="replace") as file:
        file.write(chgcar_header(box.atoms, box.origin, comment + note) + chgcar_shape(box.shape))
        for piece in _pieces(slices, 5):
            file.write(chgcar_values(piece.astype(np.float64) * factor))


def _write_h5(path: Path, box: Box, slices: Slices, name: str, unit: str, comment: str) -> None:
    """HDF5 as `deepdft.io` reads it: values (nx, ny, nz) float32 beside the structure; compressed."""
    _, ny, nz = box.shape
    plane = ny * nz
    with h5py.File(path, "w") as file:
        file.attrs["comment"] = comment
        for key, value in structure_datasets(box.atoms, box.origin).items():
            file[key] = value
            file[key].attrs[CHECKSUM] = zlib.crc32(np.ascontiguousarray(value).data)
        values = file.create_dataset(
            "values", box.shape, np.float32, chunks=(1, ny, nz), compression="gzip", compression_opts=1, shuffle=True
        )
        values.attrs.update({"quantity": name, "unit": unit})
        row, checksum = 0, 0
        for piece in _pieces(slices, plane):
            rows = len(piece) // plane
            planes = np.ascontiguousarray(piece[: rows * plane], dtype=np.float32).reshape(rows, ny, nz)
            values[row : row + rows] = planes
            checksum = zlib.crc32(planes.data, checksum)
            row += rows
        values.attrs[CHECKSUM] = checksum


_WRITERS: dict[str, Callable[[Path, Box, Slices, str, str, str], None]] = {
    "cube": _write_cube,
    "chgcar": _write_chgcar,
    "h5": _write_h5,
}
