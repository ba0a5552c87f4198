"""Which format a file has, by its name or its content, and the bytes of a file from and to a density."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from deepdft.density import DensityGrid
from deepdft.errors import DensityFormatError
from deepdft.io.chgcar import parse_chgcar
from deepdft.io.chgcar_writer import format_chgcar
from deepdft.io.compression import compress, decompress, split_compression
from deepdft.io.cube import format_cube, parse_cube
from deepdft.io.hdf5 import format_hdf5, parse_hdf5

__all__ = ["format_of", "parse_density", "refuse_zip", "serialise", "vasp_kind"]

_SUFFIXES = {".cube": "cube", ".cub": "cube", ".chgcar": "chgcar", ".vasp": "chgcar", ".h5": "h5", ".hdf5": "h5"}
_CHGCAR_NAME = re.compile(r"(CHG|CHGCAR|AECCAR\d|PARCHG)([._-].*|\d*)", re.IGNORECASE)
_OTHER_SUFFIXES = {".json", ".txt", ".md", ".png", ".py", ".csv", ".yaml", ".log", ".part", ".xml", ".sh", ".ipynb"}
_PACKED_SUFFIXES = {".tar", ".zip", ".7z", ".rar"}
_PARSERS = {"chgcar": parse_chgcar, "cube": parse_cube, "h5": parse_hdf5}
_ZIP_MAGIC = b"PK\x03\x04"
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_VECTOR = rb"[ \t]+[-+.\dEeDd]+" * 3
_CUBE = re.compile(
    rb"[^\n]*\n[^\n]*\n[ \t]*-?\d+" + _VECTOR + rb"[^\n]*\n" + (rb"[ \t]*-?\d+" + _VECTOR + rb"\s*\n") * 3
)
_CHGCAR = re.compile(
    rb"[^\n]*\n[-+.\dEeDd \t]+\r?\n" + (rb"[ \t]*[-+.\dEeDd]+" + _VECTOR[: len(_VECTOR) * 2 // 3] + rb"\s*\n") * 3
)


def format_of(name: str) -> str | None:
    """The format of a file by its name, a compression suffix aside: "chgcar", "cube", "h5", or None."""
    base = PurePosixPath(split_compression(str(name))[0]).name
    suffix = PurePosixPath(base).suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    return "chgcar" if _CHGCAR_NAME.fullmatch(base) and suffix not in _OTHER_SUFFIXES | _PACKED_SUFFIXES else None


def vasp_kind(name: str) -> str | None:
    """Which of VASP's files one is by its name: "CHGCAR", "CHG", "AECCAR0", "PARCHG", or None."""
    if format_of(name) != "chgcar":
        return None
    base = PurePosixPath(split_compression(str(name))[0]).name
    if base.lower().endswith(".chgcar"):  # CHG-1.CHGCAR: what is before it is a name of the user's
        return "CHGCAR"
    match = _CHGCAR_NAME.fullmatch(base)
    return match[1].upper() if match else None


def _format_by_content(data: bytes) -> str | None:
    if data.startswith(_HDF5_MAGIC):
        return "h5"
    if _CUBE.match(data):
        return "cube"
    return "chgcar" if _CHGCAR.match(data) else None


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
    found = format_of(name) or _format_by_content(data)
    if found is None:
        raise DensityFormatError(f"{name}: neither a CHGCAR, a cube nor an HDF5 file, by its name or its first lines")
    density = _PARSERS[found](data, name)
    if pbc is not None:
        density.atoms.pbc = pbc
    return density


def serialise(density: DensityGrid, name: str, comment: str) -> bytes:
    """The bytes of a file, format and compression by its name.

    Raises:
        DensityFormatError: if the name is of no known format, or the density does not fit into it.
    """
    found = format_of(name)
    try:
        if found == "h5":
            data = format_hdf5(density, comment)
        elif found == "cube":
            data = format_cube(density, comment).encode()
        elif found == "chgcar":
            data = format_chgcar(density, comment).encode()
        else:
            raise ValueError("the name tells the format: x.cube, CHGCAR, x.CHGCAR or x.h5, and .gz and the like")
    except ValueError as error:
        raise DensityFormatError(f"{name}: cannot be written: {error}") from error
    return compress(data, split_compression(name)[1])
