"""Densities in a tar, a list of tars, a folder or a file, in stable order and without unpacking anything.

Listing reads only the headers. A `Member` knows where its bytes are, so that any process reads it directly.
A run of VASP leaves several files in the form of a CHGCAR, of which only the CHGCAR is the density of the electrons.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from deepdft.density import DensityGrid
from deepdft.errors import DensityFormatError
from deepdft.io.compression import decompress, split_compression
from deepdft.io.formats import format_of, parse_density, refuse_zip
from deepdft.io.text import is_text
from deepdft.io.vasp_names import is_derived, is_run_density, is_structure

__all__ = ["Contents", "Member", "contents", "files_below", "members"]

_BLOCK = 512  # bytes; the unit of which tars consist
MAX_HEADER_BYTES = 2**21
"""Bytes of a structure file that are read to tell it from a density, some 20 000 atoms."""


@dataclass(frozen=True)
class Member:
    """One density file, on its own or in a tar; cheap to pickle."""

    name: str
    """Name in the tar, or relative to the folder, or of the file."""
    source: Path
    """The tar, or the file itself."""
    offset: int
    """Offset of its bytes in the source."""
    size: int
    """Number of its bytes."""

    @property
    def sources(self) -> tuple[Path, ...]:
        """What it is read from."""
        return (self.source,)

    @property
    def label(self) -> str:
        """Name of the file, and of the member of a tar, for messages."""
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


@dataclass(frozen=True)
class Contents:
    """The files of a source, each kind in stable order; hidden ones are not listed."""

    members: list[Member]
    """The densities."""
    derived: list[Member]
    """Parts, combinations and copies of the density of a calculation: AECCAR0, PARCHG; beside a CHGCAR also CHG,
    CHGCAR_sum, CHGCAR.bak and the like."""
    others: list[Member]
    """Files that, by name, are not densities, or are structures (x.vasp) without a density."""


def members(source: str | os.PathLike[str]) -> list[Member]:
    """All densities of a source in stable order; see `contents` for arguments and errors."""
    return contents(source).members


def contents(source: str | os.PathLike[str]) -> Contents:
    """List what a source holds.

    Args:
        source: an uncompressed tar (in its own order); a .txt file with one tar a line, relative to its folder; a
            folder (with its subfolders, those that links lead to too, in natural order, tars in it opened); or one
            density file.

    Raises:
        FileNotFoundError: if the source, or a tar of the list, does not exist.
        DensityFormatError: if a tar is damaged or truncated, or there is no density at all.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"{source}: there is no such file or folder to read densities from")
    if not (source.is_dir() or source.is_file()):
        raise DensityFormatError(f"{source}: is a pipe or a device; give a file or a folder")
    found = _folder(source) if source.is_dir() else _file(source)
    if not found.members:
        parts = f"; {found.derived[0].name} is a part of one and is read only if it is named" if found.derived else ""
        raise DensityFormatError(
            f"{source}: no densities in it; expected members such as x.cube or x.CHGCAR.lz4{parts}"
        )
    return found


def is_density_name(name: str) -> bool:
    """Whether a member of an archive or folder is a density by its name."""
    found = format_of(name)
    return not PurePosixPath(name).name.startswith(".") and found is not None and found.several_in_archives


def _sort(files: Iterable[Member], runs: set[PurePosixPath]) -> Contents:
    """Classify files by their names; `runs` are the directories with a CHGCAR."""
    found = Contents([], [], [])
    for file in files:
        path = PurePosixPath(file.name)
        if is_density_name(file.name):
            if is_derived(file.name, beside_chgcar=path.parent in runs):
                found.derived.append(file)
            else:
                (found.others if _is_structure(file) else found.members).append(file)
        elif not any(part.startswith(".") for part in path.parts):
            found.others.append(file)
    return found


def _is_structure(file: Member) -> bool:
    """Whether an x.vasp is a POSCAR; only the beginning of a large file is read."""
    if PurePosixPath(split_compression(file.name)[0]).suffix.lower() != ".vasp":
        return False
    is_packed = bool(split_compression(file.name)[1])
    beginning = replace(file, size=file.size if is_packed else min(file.size, MAX_HEADER_BYTES))
    try:
        return is_structure(decompress(beginning.read_bytes(), file.name), file.name)
    except DensityFormatError:
        return False  # whoever reads the file reports what is wrong


def _runs(files: Iterable[Member]) -> set[PurePosixPath]:
    """The directories that hold the CHGCAR of a calculation."""
    return {
        PurePosixPath(file.name).parent for file in files if is_density_name(file.name) and is_run_density(file.name)
    }


def _join(parts: Iterable[Contents]) -> Contents:
    found = Contents([], [], [])
    for part in parts:
        found.members.extend(part.members)
        found.derived.extend(part.derived)
        found.others.extend(part.others)
    return found


def _file(path: Path) -> Contents:
    if not path.is_file():  # reading a pipe would wait for ever
        raise DensityFormatError(f"{path}: is a device or a pipe; expected a file or a folder")
    if path.suffix.lower() == ".tar":
        return _tar(path)
    if path.suffix.lower() == ".txt":
        return _list(path)
    if path.name.lower().endswith((".tar.gz", ".tgz", ".tar.lz4", ".tar.zz", ".tar.xz", ".tar.bz2", ".tar.zst")):
        raise DensityFormatError(f"{path}: a compressed tar cannot be read member by member; decompress it to x.tar")
    with path.open("rb") as file:
        refuse_zip(file.read(_BLOCK), str(path))
    return Contents([Member(path.name, path, 0, path.stat().st_size)], [], [])


def _list(path: Path) -> Contents:
    parts: list[Contents] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        if not is_text(name):
            raise DensityFormatError(f"{path}: line {number} is not text; expected the name of a tar on each line")
        tar = path.parent / name
        if not tar.is_file():
            raise FileNotFoundError(f"{path}: line {number} names {name!r}, but there is no {tar}")
        parts.append(_tar(tar))
    return _join(parts)


def files_below(folder: Path) -> list[Path]:
    """The files of a folder and its subfolders, those that links lead to too; a folder once, however it is reached.

    A folder that is there itself and as a link is read under its own name.
    """
    found: list[Path] = []
    seen: set[Path] = set()
    tops = [folder]
    for top in tops:  # links are added on the way, so that the folders themselves come first
        real = top.resolve()
        for directory, subfolders, names in os.walk(top):
            here = Path(directory)
            if (place := real / here.relative_to(top)) in seen:
                subfolders.clear()
                continue
            seen.add(place)
            found += [path for name in names if (path := here / name).is_file()]
            tops += [path for name in sorted(subfolders, key=_natural) if (path := here / name).is_symlink()]
    return found


def _folder(folder: Path) -> Contents:
    paths = {path.relative_to(folder).as_posix(): path for path in files_below(folder)}
    files = [Member(name, paths[name], 0, paths[name].stat().st_size) for name in sorted(paths, key=_natural)]
    runs = _runs(files)
    return _join(_tar(file.source) if file.source.suffix.lower() == ".tar" else _sort([file], runs) for file in files)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that orders numbers within names by value: 2.cube before 10.cube."""
    return [(1, 0, part) if not part.isdigit() else (0, int(part), part) for part in re.split(r"(\d+)", name)]


def _tar(path: Path) -> Contents:
    """List what an uncompressed tar holds.

    Raises:
        DensityFormatError: if it is damaged or truncated, or its densities are not all stored as whole files.
    """
    try:
        with tarfile.open(path, mode="r:") as tar:
            files = [Member(info.name, path, info.offset_data, info.size) for info in tar if _is_whole(info, path)]
            end = tar.offset
    except tarfile.TarError as error:
        raise DensityFormatError(f"{path}: not a whole uncompressed tar: {error}") from error
    found = _sort(files, _runs(files))
    # tarfile takes a damaged header in the middle for the end of the archive; the true end is a block of zeros
    with path.open("rb") as file:
        file.seek(end)
        mark = file.read(_BLOCK)
    if mark != bytes(_BLOCK):
        what = "a damaged header" if mark else "the file ends"
        raise DensityFormatError(
            f"{path}: {what} at byte {end} after {len(found.members)} densities, expected another member or the end "
            "mark of a tar: it is truncated or damaged"
        )
    if (extra := _first_after(path, end)) is not None:
        raise DensityFormatError(
            f"{path}: after the end of the tar (at byte {end}) there is more, at byte {extra}, expected nothing but "
            "zeros: tars joined by cat are not read; name each tar in a .txt list, or join them with tar --concatenate"
        )
    return found


def _first_after(path: Path, end: int) -> int | None:
    """Offset of the first non-zero byte after the end of a tar; None if there is none."""
    with path.open("rb") as file:
        file.seek(end)
        while chunk := file.read(1 << 20):
            if stripped := chunk.lstrip(b"\0"):
                return file.tell() - len(stripped)
    return None


def _is_whole(info: tarfile.TarInfo, path: Path) -> bool:
    """Whether an entry of a tar is a file stored as it is; a density must be."""
    if info.isreg() and not info.issparse():
        return True
    if is_density_name(info.name) and not info.isdir():
        raise DensityFormatError(
            f"{path}: {info.name} is {'a sparse file' if info.issparse() else 'a link'}, expected the density itself; "
            "pack it with tar --dereference --hard-dereference and without --sparse"
        )
    return False
