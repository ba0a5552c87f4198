"""The densities in a tar, a list of tars, a folder or a file, in stable order and without unpacking anything.

Listing reads only the headers. A `Member` knows where its bytes are, so that any process reads it directly.
"""

from __future__ import annotations

import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deepdft.density import DensityGrid
from deepdft.io.errors import DensityFormatError
from deepdft.io.formats import format_of, parse_density

__all__ = ["Member", "members"]

_BLOCK = 512  # bytes; tars consist of such blocks
_FORMATS = ("cube", "chgcar")


@dataclass(frozen=True)
class Member:
    """One density file, on its own or within a tar; cheap to pickle."""

    name: str
    """Name in the tar, or relative to the folder, or of the file."""
    source: Path
    """The tar, or the file itself."""
    offset: int
    """Where its bytes begin in the source."""
    size: int
    """How many bytes it has."""

    @property
    def label(self) -> str:
        """Names the file, and the member of a tar, in messages."""
        return str(self.source) if self.source.name == PurePosixPath(self.name).name else f"{self.source}: {self.name}"

    def read_bytes(self) -> bytes:
        """The bytes as they are stored.

        Raises:
            DensityFormatError: if the source ends before the member does.
        """
        with self.source.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) != self.size:
            raise DensityFormatError(f"{self.label}: expected {self.size} bytes, found {len(data)}: it is truncated")
        return data

    def read(self, *, pbc: bool | None = None) -> DensityGrid:
        """The density.

        Args:
            pbc: whether the structure repeats; None leaves it as the file and the format have it.

        Raises:
            DensityFormatError: if the file is damaged.
        """
        return parse_density(self.read_bytes(), self.label, pbc=pbc)


def members(source: str | os.PathLike[str]) -> list[Member]:
    """All density files of a source, in stable order.

    Args:
        source: an uncompressed tar (in its own order); a .txt file with one tar a line, relative to its folder; a
            folder (with its subfolders, in natural order, tars in it opened); or one density file. Members whose
            names are not those of a density (README, json) are left out.

    Raises:
        FileNotFoundError: if the source, or a tar of the list, does not exist.
        DensityFormatError: if a tar is damaged or truncated, or there is no density at all.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"{source}: there is no such file or folder to read densities from")
    found = _folder(source) if source.is_dir() else _file(source)
    if not found:
        raise DensityFormatError(f"{source}: no densities in it; expected members such as x.cube or x.CHGCAR.lz4")
    return found


def is_density_name(name: str) -> bool:
    """Whether a member of an archive or folder is a density, by its name."""
    return not PurePosixPath(name).name.startswith(".") and format_of(name) in _FORMATS


def _file(path: Path) -> list[Member]:
    if path.suffix.lower() == ".tar":
        return _tar(path)
    if path.suffix.lower() == ".txt":
        return _list(path)
    if path.name.lower().endswith((".tar.gz", ".tgz", ".tar.lz4", ".tar.zz", ".tar.xz", ".tar.bz2")):
        raise DensityFormatError(f"{path}: a compressed tar cannot be read member by member; decompress it to x.tar")
    return [Member(path.name, path, 0, path.stat().st_size)]


def _list(path: Path) -> list[Member]:
    found: list[Member] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        tar = path.parent / name
        if not tar.is_file():
            raise FileNotFoundError(f"{path}: line {number} names {name!r}, but there is no {tar}")
        found.extend(_tar(tar))
    return found


def _folder(folder: Path) -> list[Member]:
    found: list[Member] = []
    paths = [path for path in folder.rglob("*") if path.is_file()]
    for path in sorted(paths, key=lambda path: _natural(path.relative_to(folder).as_posix())):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() == ".tar":
            found.extend(_tar(path))
        elif is_density_name(name):
            found.append(Member(name, path, 0, path.stat().st_size))
    return found


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts numbers within names by value: 2.cube before 10.cube."""
    return [(1, 0, part) if not part.isdigit() else (0, int(part), part) for part in re.split(r"(\d+)", name)]


def _tar(path: Path) -> list[Member]:
    try:
        with tarfile.open(path, mode="r:") as tar:
            found = [
                Member(info.name, path, info.offset_data, info.size)
                for info in tar
                if info.isreg() and is_density_name(info.name)
            ]
            end = tar.offset
    except tarfile.TarError as error:
        raise DensityFormatError(f"{path}: not a whole uncompressed tar: {error}") from error
    # tarfile takes a damaged header in the middle for the end of the archive; the true end is a block of zeros
    with path.open("rb") as file:
        file.seek(end)
        mark = file.read(_BLOCK)
    if mark != bytes(_BLOCK):
        what = "a damaged header" if mark else "the file ends"
        raise DensityFormatError(
            f"{path}: {what} at byte {end} after {len(found)} densities, expected another member or the end mark of a "
            "tar: it is truncated or damaged"
        )
    return found
