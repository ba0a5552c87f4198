"""Which format a file has, by its name or its content, and the bytes of a file from and to a density."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from deepdft.density import DensityGrid
from deepdft.errors import DensityFormatError
from deepdft.io.chgcar import is_poscar, parse_chgcar
from deepdft.io.chgcar_writer import format_chgcar
from deepdft.io.compression import compress, decompress, split_compression
from deepdft.io.cube import format_cube, parse_cube
from deepdft.io.hdf5 import format_hdf5, parse_hdf5

__all__ = ["format_of", "is_derived", "is_run_density", "is_structure", "parse_density", "refuse_zip", "serialise"]

_SUFFIXES = {".cube": "cube", ".cub": "cube", ".chgcar": "chgcar", ".vasp": "chgcar", ".h5": "h5", ".hdf5": "h5"}
_CHGCAR_NAME = re.compile(r"(CHG|CHGCAR|AECCAR\d|PARCHG)([._-].*|\d*)", re.IGNORECASE)
_PART_NAME = re.compile(r"(AECCAR\d|PARCHG|CHGDIFF)([._-].*|\d*)(?<!\.chgcar)", re.IGNORECASE)
_DERIVED_NAME = re.compile(
    r"CHG|CHG[._-].*(?<!\.chgcar)|CHGCAR[._-]?(sum|mag|spin|diff|up|down|dn|tot|total|core|val|ae|all|ref|bak|backup|old"
    r"|orig|save|saved|copy|prev|tmp)\d*([._-].*)?|CHGCAR~",
    re.IGNORECASE,
)
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


def is_structure(data: bytes, name: str) -> bool:
    """Whether a file that may be a CHGCAR by its name, x.vasp, is a POSCAR by its content."""
    return PurePosixPath(split_compression(name)[0]).suffix.lower() == ".vasp" and is_poscar(data)


def is_run_density(name: str) -> bool:
    """Whether a file is the CHGCAR of a calculation by its name: CHGCAR, CHGCAR_7 or x.CHGCAR, but not CHGCAR_sum."""
    base = PurePosixPath(split_compression(str(name))[0]).name.lower()
    return format_of(name) == "chgcar" and (
        base.endswith(".chgcar") or (base.startswith("chgcar") and not is_derived(name, beside_chgcar=True))
    )


def is_derived(name: str, *, beside_chgcar: bool) -> bool:
    """Whether a file holds a part, a combination or a copy of the density of a calculation, by its name.

    Args:
        name: of the file.
        beside_chgcar: whether it lies in a directory with the CHGCAR of a calculation: CHG, CHGCAR_sum, CHGCAR.bak and
            the like are derived only then, AECCAR0, AECCAR2, PARCHG and CHGDIFF always.
    """
    if format_of(name) not in (None, "chgcar"):
        return False
    base = PurePosixPath(split_compression(str(name))[0]).name
    if _PART_NAME.fullmatch(base):
        return True
    return beside_chgcar and bool(_DERIVED_NAME.fullmatch(base))


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
