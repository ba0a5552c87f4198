"""The file formats of densities, one file each, and how files are recognised, read and written."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from deepdft.density import DensityGrid
from deepdft.errors import DensityFormatError, InputWarning
from deepdft.files import atomic_write
from deepdft.io.compression import compress, decompress, split_compression
from deepdft.io.formats.base import Chunks, Field, Format
from deepdft.io.formats.chgcar import Chgcar
from deepdft.io.formats.cube import Cube
from deepdft.io.formats.hdf5 import Hdf5
from deepdft.io.formats.pymatgen_json import PymatgenJson
from deepdft.io.formats.vaspout import Vaspout

__all__ = [
    "FORMATS",
    "Field",
    "Format",
    "base_name",
    "format_of",
    "output_format",
    "parse_density",
    "refuse_zip",
    "serialise",
    "write_field",
]

FORMATS: tuple[Format, ...] = (Vaspout(), Hdf5(), Cube(), PymatgenJson(), Chgcar())
"""All formats; a file is read by the first that recognises its name, or else its content."""

_OTHER_FIELDS = re.compile(r"(ELFCAR|LOCPOT|TAUCAR|POT)(?![A-Za-z])")
"""Names of VASP's files that look like a CHGCAR and hold another field."""
_ZIP_MAGIC = b"PK\x03\x04"
_EXPECTED = "the name tells the format: x.cube, CHGCAR, x.CHGCAR or x.h5"


def base_name(name: str | os.PathLike[str]) -> str:
    """The name of a file without folders and compression suffix."""
    return PurePosixPath(split_compression(str(name))[0]).name


def format_of(name: str | os.PathLike[str]) -> Format | None:
    """The format of a file by its name, ignoring a compression suffix; None if the name does not tell."""
    base = base_name(name)
    return next((one for one in FORMATS if one.has_name(base)), None)


def output_format(path: str | os.PathLike[str]) -> Format:
    """The format in which a file is written chunk after chunk, by its name.

    Raises:
        ValueError: if the name tells none, or asks for compression.
    """
    found = format_of(path)
    if found is None or not found.is_written or split_compression(str(path))[1]:
        raise ValueError(f"{path}: a density is written as x.cube, x.h5, CHGCAR or x.CHGCAR")
    return found


def refuse_zip(beginning: bytes, name: str) -> None:
    """Refuse a zip archive, by its first bytes.

    Raises:
        DensityFormatError: if it is one, with the remedy.
    """
    if beginning.startswith(_ZIP_MAGIC):
        raise DensityFormatError(
            f"{name}: zip archives are not read; unpack it, or pack its files as an uncompressed tar"
        )


def parse_density(data: bytes, name: str, *, pbc: bool | None = None) -> DensityGrid:
    """Read a density from the bytes of a file, compressed or not.

    Args:
        data: content of the file.
        name: of the file (and its archive); its end tells compression and format, or the content does where the name
            says nothing; it appears in errors.
        pbc: whether the structure repeats; None leaves it as the file and the format have it.

    Raises:
        DensityFormatError: if the file is damaged or of an unknown format.
    """
    data = decompress(data, name)
    refuse_zip(data, name)
    if not data.strip():
        raise DensityFormatError(f"{name}: the file is empty")
    found = format_of(name) or next((one for one in FORMATS if one.recognises(data)), None)
    if found is None:
        raise DensityFormatError(f"{name}: neither a CHGCAR, a cube nor an HDF5 file, by its name or its first lines")
    density = found.read(data, name)
    if _OTHER_FIELDS.match(base_name(name)):
        warnings.warn(
            f"{name}: by its name this is no electron density ({density.n_electrons:.3g} electrons for "
            f"{density.atoms.get_chemical_formula()}); it is read as if it were one",
            InputWarning,
            stacklevel=3,
        )
    if pbc is not None:
        density.atoms.pbc = pbc
    return density


def serialise(density: DensityGrid, name: str, comment: str) -> bytes:
    """The bytes of a file; its name tells format and compression.

    Raises:
        DensityFormatError: if the name is of no known format, or the density does not fit into it.
    """
    found = format_of(name)
    content = Field(
        density.grid,
        density.channel_names,
        comment=comment,
        info=density.info,
        atom_arrays=density.atom_arrays,
        dtypes=tuple(density.channel(name).dtype for name in density.channel_names),
    )
    buffer = io.BytesIO()
    try:
        if found is None:
            raise ValueError(f"{_EXPECTED}, and .gz and the like")
        stacked = density.stacked()  # (nx, ny, nz, n_channels)
        points = stacked if found.order == "C" else stacked.transpose(2, 1, 0, 3)
        found.write(buffer, content, [points.reshape(-1, stacked.shape[-1])])
    except ValueError as error:
        raise DensityFormatError(f"{name}: cannot be written: {error}") from error
    return compress(buffer.getvalue(), split_compression(name)[1])


def write_field(path: str | os.PathLike[str], content: Field, chunks: Chunks) -> None:
    """Write a field while it is computed, so that a grid of any size can go to a file, which appears when it is whole.

    A density goes into a cube in e/bohr³ and into a CHGCAR multiplied by the volume, as the formats have it; a field in
    another unit goes into a cube as it is, and into a CHGCAR multiplied by the volume.

    Args:
        path: its name chooses the format.
        content: grid, channels, and what else stands in the file.
        chunks: (n, n_channels) values of all grid points, chunk after chunk, in the order of `output_format(path)`.

    Raises:
        ValueError: if the format is unknown or cannot hold the field, or there are fewer or more values than points.
    """
    found = output_format(path)
    with atomic_write(path) as beside, beside.open("wb+") as file:
        found.write(file, content, _counted(chunks, content, Path(path)))


def _counted(chunks: Chunks, content: Field, path: Path) -> Iterator[NDArray[np.floating]]:
    """The same chunks as (n, n_channels); raises if they are not exactly the grid."""
    n_points, n_channels = 0, len(content.channels)
    for chunk in chunks:
        values = chunk.reshape(-1, n_channels)
        n_points += len(values)
        if n_points > content.grid.n_points:
            break
        yield values
    if n_points != content.grid.n_points:
        got = "more" if n_points > content.grid.n_points else str(n_points)
        raise ValueError(
            f"{path}: the grid has {content.grid.n_points} points {content.grid.shape}, but {got} values came"
        )
