"""Readers and writers of densities: CHGCAR, cube and HDF5, plain, compressed and in tars."""

from __future__ import annotations

import os
from pathlib import Path

from deepdft.density import DensityGrid
from deepdft.errors import DensityFormatError
from deepdft.files import atomic_write
from deepdft.io.archive import Member, contents, members
from deepdft.io.formats import serialise
from deepdft.io.template import with_occupancies

__all__ = ["DensityFormatError", "Member", "members", "read_density", "write_density"]


def read_density(path: str | os.PathLike[str], *, member: str | None = None, pbc: bool | None = None) -> DensityGrid:
    """Read a density in e/Å³ from a file, or from a member of an uncompressed tar.

    Args:
        path: a CHGCAR, cube, HDF5 file or vaspout.h5, plain or compressed (.gz, .bz2, .xz, .zst, .lz4, .zz), or a tar
            with such files. The name tells the format, or the content where the name says nothing.
        member: name of the density in the tar; may be left out if there is only one, a CHG, AECCAR or PARCHG beside a
            CHGCAR aside.
        pbc: whether the structure repeats; None leaves it as the file and the format have it (a CHGCAR is periodic,
            a cube is not, unless the comment of a file that deepdft wrote says otherwise).

    Raises:
        FileNotFoundError: if there is no such file.
        DensityFormatError: if the file is damaged or of an unknown format, or has no such member.
    """
    listed = contents(path)
    found = listed.members
    by_name = {one.name: one for one in (*listed.derived, *found)}
    if member is None and len(found) == 1:
        return found[0].read(pbc=pbc)
    if member is None or member not in by_name:
        problem = "name one with member=" if member is None else f"none is named {member!r}"
        raise DensityFormatError(f"{Path(path)}: {len(found)} densities in it, such as {found[0].name!r}; {problem}")
    return by_name[member].read(pbc=pbc)


def write_density(
    path: str | os.PathLike[str],
    density: DensityGrid,
    *,
    comment: str | None = None,
    template: str | os.PathLike[str] | DensityGrid | None = None,
) -> None:
    """Write a density; the file appears when it is whole, in place of one that was there.

    Args:
        path: its name tells format and compression: x.cube, CHGCAR, x.CHGCAR, x.h5, and .gz, .xz or the like behind it.
            Its folder is made if it does not exist.
        density: in e/Å³. Its channels are written too; augmentation occupancies (`atom_arrays`) only into a CHGCAR
            or HDF5 file.
        comment: one line of text; without it the density's own comment, or the formula.
        template: a CHGCAR whose augmentation occupancies are copied, so that VASP can restart (ICHARG=1) from the
            file. Its atoms must be those of the density: if not, a warning says so, and nothing is copied.

    Raises:
        DensityFormatError: if the name is of no known format, or the density does not fit into it.
    """
    path = Path(path)
    if template is not None:
        source = template if isinstance(template, DensityGrid) else read_density(template)
        names = str(path) if isinstance(template, DensityGrid) else f"{path} from {template}"
        density = with_occupancies(density, source, names)
    if comment is None:
        comment = density.info.get("comment") or density.atoms.get_chemical_formula()
    data = serialise(density, str(path), " ".join(comment.split()))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as beside:
        beside.write_bytes(data)
