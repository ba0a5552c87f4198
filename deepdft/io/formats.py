"""Which reader a file needs, by its name or by its content, and the reading of its bytes."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from deepdft.density import DensityGrid
from deepdft.io.chgcar import parse_chgcar
from deepdft.io.compression import decompress, split_compression
from deepdft.io.errors import DensityFormatError

__all__ = ["format_of", "parse_density"]

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_CHGCAR_NAME = re.compile(r"(CHG|CHGCAR|AECCAR\d|PARCHG)([._-].*)?")


def format_of(name: str) -> str | None:
    """The format of a file by its name, a compression suffix aside: "chgcar", "cube", "h5", or None."""
    base = PurePosixPath(split_compression(str(name))[0]).name
    suffix = PurePosixPath(base).suffix.lower()
    known = {".cube": "cube", ".cub": "cube", ".chgcar": "chgcar", ".vasp": "chgcar", ".h5": "h5", ".hdf5": "h5"}
    if suffix in known:
        return known[suffix]
    return "chgcar" if _CHGCAR_NAME.fullmatch(base) else None


def parse_density(data: bytes, name: str, format_name: str | None = None) -> DensityGrid:
    """Read a density from the bytes of a file, compressed or not.

    Args:
        data: content of the file.
        name: of the file (and the archive); its suffix tells the compression, and it appears in errors.
        format_name: "chgcar", "cube", "h5", or None to go by the content.

    Raises:
        DensityFormatError: if the file is damaged or of an unknown format.
    """
    data = decompress(data, name)
    if not data.strip():
        raise DensityFormatError(f"{name}: the file is empty")
    return parse_chgcar(data, name)
