"""Readers and writers of densities: CHGCAR, cube and HDF5, plain, compressed and in tars."""

from __future__ import annotations

import os
from pathlib import Path

from deepdft.density import DensityGrid
from deepdft.io.archive import Member, members
from deepdft.io.errors import DensityFormatError

__all__ = ["DensityFormatError", "Member", "members", "read_density"]


def read_density(path: str | os.PathLike[str], *, member: str | None = None) -> DensityGrid:
    """Read a density in e/Å³ from a file, or from a member of an uncompressed tar.

    Args:
        path: a CHGCAR, cube or HDF5 file, plain or compressed (.zz, .lz4, .gz), or a tar with such files. The name
            tells the format, or the content where the name says nothing.
        member: name of the density in the tar; may be left out if there is only one.

    Raises:
        FileNotFoundError: if there is no such file.
        DensityFormatError: if the file is damaged or of an unknown format, or has no such member.
    """
    found = members(path)
    names = [one.name for one in found]
    if member is None and len(found) == 1:
        return found[0].read()
    if member is None:
        raise DensityFormatError(
            f"{Path(path)}: {len(found)} densities in it; name one with member=, such as {names[0]!r}"
        )
    if member not in names:
        raise DensityFormatError(
            f"{Path(path)}: no density {member!r} in it; there are {len(found)}, such as {names[0]!r}"
        )
    return found[names.index(member)].read()
