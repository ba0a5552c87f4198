"""VASP's CHGCAR and CHG: density times cell volume, x fastest, in blocks after a POSCAR header.

The header in order: comment, scale, three lattice vectors, element symbols, counts, optionally "Selective dynamics",
"Direct" or "Cartesian", positions, blank line, grid. Blocks of values follow: the density; then, each after the grid
line again, one difference channel (collinear) or three magnetisation channels (noncollinear). In a CHGCAR each block
is followed by PAW augmentation occupancies, in a collinear one also by magnetic moments.

The format knows no origin and no isolated molecules: the writer moves the atoms so that the grid begins at zero, and
both are recorded in the comment line, from which the reader restores them. Atoms keep their order: where those of one
element do not stand together, the element appears again in the line of symbols.
"""

from __future__ import annotations

import io
import re
import tempfile
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import ase
import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from deepdft.density import TOTAL, DensityGrid, occupancies_of, volume
from deepdft.errors import DensityFormatError, InputWarning
from deepdft.io.decimals import format_fortran, format_values
from deepdft.io.formats.base import Chunks, Field, Format, rechunked
from deepdft.io.numbers import parse_values
from deepdft.io.occupancies import format_occupancies, parse_occupancies, split_occupancies
from deepdft.io.text import Lines, join_mark, mark_floats, mark_pbc, pbc_mark, quoted, split_mark

__all__ = ["AFTER_BLOCKS", "CHANNELS", "HEADER", "MOMENTS", "Chgcar", "header_text", "parse_chgcar"]


_VECTOR = rb"[ \t]*[-+.\dEeDd]+" + rb"[ \t]+[-+.\dEeDd]+" * 2
_FIRST_LINES = re.compile(rb"[^\n]*\n[-+.\dEeDd \t]+\r?\n" + (_VECTOR + rb"\s*\n") * 3)
_NAME = re.compile(r"(CHG|CHGCAR|AECCAR\d|PARCHG)([._-].*|\d*)", re.IGNORECASE)
_OTHER_SUFFIXES = {".json", ".txt", ".md", ".png", ".py", ".csv", ".yaml", ".log", ".part", ".xml", ".sh", ".ipynb"}
_PACKED_SUFFIXES = {".tar", ".zip", ".7z", ".rar"}

CHANNELS = {1: (), 2: ("difference",), 4: ("magnetization_x", "magnetization_y", "magnetization_z")}
"""Names of the blocks after the density, by the number of blocks."""

_PER_LINE = 5
MOMENTS = "magnetic_moments"
"""Name of the moments of the atoms in `DensityGrid.info`, as text, which VASP writes before a spin block."""
AFTER_BLOCKS = ("augmentation", MOMENTS)
"""Beginnings of the names in `DensityGrid.info` of the texts that follow the blocks of values."""
HEADER = "header"
"""Name in `Field.info` of the lines of another CHGCAR between its comment and its grid, written as they are."""
_ABBREVIATED = {"r": "Zr", "X": "Xe"}
_ZERO = re.compile(rb"[-+]?0*\.?0*(?:[EeDd][-+]?\d+)?")
_MOMENT = re.compile(r"[-+]?\d*\.\d+(?:[Ee][-+]?\d+)?")


@dataclass(frozen=True)
class _Header:
    atoms: ase.Atoms
    origin: NDArray[np.float64]
    comment: str
    shape: tuple[int, int, int]
    grid_line: re.Pattern[bytes]
    """Matches a line that repeats the grid, with the line end before it (a literal, which makes the search fast)."""
    end: int
    """Where the first block of values begins."""


def parse_chgcar(text: bytes, name: str) -> DensityGrid:
    """Read the text of a CHGCAR or CHG.

    Args:
        text: of the whole file.
        name: of the file, for errors.

    Returns:
        The density; a second block is the channel "difference" (spin up minus spin down), three further blocks
        are "magnetization_x", "…_y", "…_z". `atom_arrays` holds the PAW augmentation "occupancies", and
        "occupancies_difference" of a second block; `info` holds "comment", "magnetic_moments" and the "augmentation"
        occupancies of a noncollinear calculation as text.

    Raises:
        DensityFormatError: if the file is damaged or another format.
    """
    try:
        header = _header(Lines(text))
        blocks, info, arrays = _blocks(text, header)
    except ValueError as error:
        raise DensityFormatError(f"{name}: not a valid CHGCAR: {error}") from error
    values = [_on_grid(block, header) for block in blocks]
    channels: dict[str, NDArray[np.floating]] = dict(zip(CHANNELS[len(values)], values[1:], strict=True))
    return DensityGrid(values[0], header.atoms, header.origin, channels, {"comment": header.comment, **info}, arrays)


def header_text(text: bytes) -> str:
    """The lines of a CHGCAR between its comment and its grid, with line ends of Unix.

    Raises:
        ValueError: if it is no CHGCAR.
    """
    header = _header(Lines(text))
    end = text.rindex(b"\n", 0, header.end - 1) + 1  # where the line of the grid begins
    return text[text.index(b"\n") + 1 : end].replace(b"\r\n", b"\n").decode("ascii", "replace")


def is_poscar(text: bytes) -> bool:
    """Whether a file, or its beginning, is a structure of VASP's without the grid and values of a CHGCAR."""
    lines = Lines(text)
    try:
        split_mark(lines.next("a comment"))
        cell, scale = _cell(lines)
        _positions(lines, len(_symbols(lines)), cell, scale)
    except ValueError:
        return False  # damaged, or cut off: whoever reads the whole says what is wrong
    rest = text[lines.position :].split(b"\n", 3)
    following = next((line.split() for line in rest if line.strip()), [])
    return not (len(following) == 3 and all(field.isdigit() for field in following))


def _on_grid(block: NDArray[np.float64], header: _Header) -> NDArray[np.float64]:
    """(nx, ny, nz) in e/Å³ from values times volume with x fastest."""
    nx, ny, nz = header.shape
    values = np.empty(header.shape)  # z fastest in memory, as everywhere else
    return np.divide(block.reshape(nz, ny, nx).T, volume(header.atoms.cell.array), out=values)


def _header(lines: Lines) -> _Header:
    comment, mark = split_mark(lines.next("a comment"))
    cell, scale = _cell(lines)
    symbols = _symbols(lines)
    positions = _positions(lines, len(symbols), cell, scale)
    atoms = ase.Atoms(symbols, positions=positions, cell=cell, pbc=mark_pbc(mark) or True)
    origin = np.array(mark_floats(mark, "origin") or (0.0, 0.0, 0.0))
    atoms.positions += origin  # the writer moved the atoms, for the format's grid begins at zero
    while not (line := lines.next("the grid, as three integers")).strip():
        pass
    fields = line.split()
    if len(fields) != 3 or not all(re.fullmatch(r"[1-9]\d*", field) for field in fields):
        raise ValueError(f"line {lines.number}: expected the grid, as three integers, got {quoted(line)}")
    pattern = rb"\n[ \t]*" + rb"[ \t]+".join(field.encode() for field in fields) + rb"[ \t\r]*(?=\n|\Z)"
    shape = (int(fields[0]), int(fields[1]), int(fields[2]))
    return _Header(atoms, origin, comment, shape, re.compile(pattern), lines.position)


def _cell(lines: Lines) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lattice vectors (3, 3) in Å and the scale factor(s) (3,) along x, y, z."""
    line = lines.next("the scale factor")
    fields = line.split()
    try:
        factors = np.array([float(field) for field in fields])
    except ValueError:
        factors = np.empty(0)
    if factors.size not in (1, 3) or not np.isfinite(factors).all() or 0.0 in factors or factors[1:].min(initial=1) < 0:
        raise ValueError(f"line {lines.number}: expected one or three scale factors, got {quoted(line)}")
    cell = np.array([lines.floats(3, "a lattice vector") for _ in range(3)])
    if volume(cell) == 0.0:
        raise ValueError("the three lattice vectors span no volume")
    if factors[0] < 0:
        if factors.size == 3:
            raise ValueError("of three scale factors none may be negative")
        factors = np.array([(-factors[0] / volume(cell)) ** (1 / 3)])  # a negative scale is the wanted volume
    scale = np.broadcast_to(factors, 3)
    return cell * scale, scale


def _symbols(lines: Lines) -> list[str]:
    """One symbol for each atom."""
    line = lines.next("element symbols")
    names = line.split()
    if names and all(name.isdigit() for name in names):
        raise ValueError(
            f"line {lines.number} holds counts ({quoted(line)}) where element symbols are expected: the header "
            "is VASP 4's; insert a line with the symbols of the elements above it"
        )
    symbols = [_element(name) for name in names]
    if None in symbols or not names:
        raise ValueError(f"line {lines.number}: expected element symbols, got {quoted(line)}")
    line = lines.next("the number of atoms of each element")
    while not all(word.isdigit() for word in line.split()) and None not in (more := list(map(_element, line.split()))):
        symbols += more  # VASP begins a new line after twenty elements
        line = lines.next("the number of atoms of each element")
    counts = line.split()
    while 0 < len(counts) < len(symbols) and all(count.isdigit() for count in counts):
        counts += (line := lines.next("the number of atoms of each element")).split()
    if len(counts) != len(symbols) or not all(count.isdigit() for count in counts):
        raise ValueError(
            f"line {lines.number}: expected the number of atoms of each of {len(symbols)} elements, got {quoted(line)}"
        )
    if sum(map(int, counts)) > len(lines.text) // 6:  # "0 0 0\n" is the shortest line of an atom
        raise ValueError(f"line {lines.number}: more atoms ({quoted(line)}) than the file has lines")
    return [str(symbol) for symbol, count in zip(symbols, counts, strict=True) for _ in range(int(count))]


def _element(name: str) -> str | None:
    """The element of a name in the line of symbols, or None.

    "Ni_pv" and "O/1a2b3c" say which POTCAR it was, "H.5" and "H1.25" are hydrogens with a fractional charge that
    saturate a surface. VASP cuts "Zr" to "r" and writes "X" for xenon.
    """
    symbol = re.split(r"[_/]", name)[0]
    if re.fullmatch(r"H\d?\.\d*", symbol):
        return "H"
    if symbol in _ABBREVIATED:
        warnings.warn(f"the element symbol {symbol!r} is read as {_ABBREVIATED[symbol]}", InputWarning, stacklevel=2)
        return _ABBREVIATED[symbol]
    return symbol if symbol in atomic_numbers else None


def _positions(
    lines: Lines, n_atoms: int, cell: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n_atoms, 3) Å."""
    line = lines.next('"Direct" or "Cartesian"').strip()
    if line[:1] in ("S", "s"):  # selective dynamics: flags follow the positions
        line = lines.next('"Direct" or "Cartesian"').strip()
    if line[:1] not in tuple("DdCcKk"):
        raise ValueError(f'line {lines.number}: expected "Direct" or "Cartesian", got {quoted(line)}')
    rows = [lines.floats(3, "the position of an atom", words_after=True) for _ in range(n_atoms)]
    positions = np.array(rows).reshape(n_atoms, 3)
    return positions @ cell if line[:1] in ("D", "d") else positions * scale


_OCCUPANCIES = re.compile(rb"^[ \t]*(augmentation)", re.MULTILINE)
"""Where occupancies begin: in a line of their own, as glued to a number the word would cut that short."""


def _blocks(
    text: bytes, header: _Header
) -> tuple[list[NDArray[np.float64]], dict[str, str], dict[str, NDArray[np.floating]]]:
    """The blocks of values as they stand there, and the text and the numbers of the atoms after each."""
    n_values = int(np.prod(header.shape, dtype=object))
    starts = [header.end, *(match.end() for match in header.grid_line.finditer(text, header.end - 1))]
    ends = [*(text.rfind(b"\n", 0, start) + 1 for start in starts[1:]), len(text)]
    if len(starts) not in CHANNELS:
        raise ValueError(f"{len(starts)} blocks of values, expected 1, 2 (collinear spin) or 4 (noncollinear)")
    blocks: list[NDArray[np.float64]] = []
    info: dict[str, str] = {}
    arrays: dict[str, NDArray[np.floating]] = {}
    for start, end, name in zip(starts, ends, ("", *CHANNELS[len(starts)]), strict=True):
        found = _OCCUPANCIES.search(text, start, end)
        split = end if found is None else found.start(1)
        label = f"{name or 'density'} on the grid {'x'.join(map(str, header.shape))}"
        try:
            blocks.append(parse_values(_without_padding(text[start:split], n_values), n_values))
        except ValueError as error:
            raise ValueError(f"{label}: {error}") from error
        occupancies, moments = _split_moments(text[split:end], len(header.atoms))
        if occupancies:
            rows = parse_occupancies(occupancies, len(header.atoms))
            if rows is None:
                info[f"augmentation_{name}".rstrip("_")] = occupancies.decode("ascii", "replace")
            else:
                arrays[occupancies_of(name or TOTAL)] = rows
        info |= {f"magnetic_moments_{name}".rstrip("_"): moments} if moments else {}
    return blocks, info, arrays


def _without_padding(block: bytes, n_values: int) -> bytes:
    """The block without the zeros with which scripts such as chgsum.pl fill its last line."""
    width = len(block.lstrip(b"\r\n").split(b"\n", 1)[0].split())
    in_last_line = n_values % width if width else 0
    start = block.rstrip().rfind(b"\n") + 1
    words = block[start:].split()
    if not in_last_line or len(words) != width or not all(map(_ZERO.fullmatch, words[in_last_line:])):
        return block
    if len(block[:start].split()) + in_last_line != n_values:
        return block
    return block[:start] + b" " + b" ".join(words[:in_last_line]) + b"\n"


def _split_moments(text: bytes, n_atoms: int) -> tuple[bytes, str]:
    """The augmentation occupancies, and the magnetic moments that follow them where there is a spin block."""
    position = split_occupancies(text)
    occupancies, rest = text[:position], text[position:].decode("ascii", "replace")
    moments = rest.split()
    if moments and not (len(moments) == n_atoms and all(map(_MOMENT.fullmatch, moments))):
        raise ValueError(
            f"augmentation occupancies: behind them, {quoted(rest)} is neither the line with the grid nor a "
            f"magnetic moment for each of {n_atoms} atoms"
        )
    return occupancies, rest if moments else ""


class Chgcar(Format):
    """CHGCAR: twelve significant digits; a spin block and augmentation occupancies where there are any."""

    name = "chgcar"
    suffixes = (".chgcar", ".vasp")
    order = "F"
    bytes_per_value = 18

    def has_name(self, base: str) -> bool:
        """Whether the name is one of VASP's, or has a suffix of the format."""
        if super().has_name(base):
            return True
        suffix = PurePosixPath(base).suffix.lower()
        return _NAME.fullmatch(base) is not None and suffix not in _OTHER_SUFFIXES | _PACKED_SUFFIXES

    def recognises(self, data: bytes) -> bool:
        """Whether the first lines are those of a POSCAR."""
        return _FIRST_LINES.match(data) is not None

    def read(self, data: bytes, name: str) -> DensityGrid:
        """Read the text of a CHGCAR."""
        return parse_chgcar(data, name)

    def write(self, file: BinaryIO, content: Field, chunks: Chunks) -> None:
        """Write the blocks one after another; channels after the first wait in temporary files."""
        if len(content.grid.atoms) == 0:
            raise ValueError("a CHGCAR needs at least one atom; write a cube or .h5 file")
        others = content.channels[1:]
        if others not in CHANNELS.values():
            raise ValueError(
                f"a CHGCAR holds the channels {' or '.join(map(repr, CHANNELS.values()))}, got {others}; "
                "write a cube or HDF5"
            )
        file.write(_head(content).encode("ascii", "replace"))
        factor = content.grid.volume
        with ExitStack() as stack:
            waiting = [stack.enter_context(_spool(file)) for _ in others]
            file.write(_shape(content))
            for chunk in rechunked(chunks, _PER_LINE):
                file.write(_lines(chunk[:, 0], factor, content))
                for channel, place in enumerate(waiting, start=1):
                    place.write(np.ascontiguousarray(chunk[:, channel], dtype=np.float64).data)
            file.write(_after_block(content, ""))
            for name, place in zip(others, waiting, strict=True):
                file.write(_shape(content))
                place.seek(0)
                while part := place.read(_PER_LINE * 8 * 100_000):
                    file.write(_lines(np.frombuffer(part), factor, content))
                file.write(_after_block(content, name))


def _spool(file: BinaryIO) -> BinaryIO:
    """Where values wait for their block: beside the file that is written, as /tmp may be small; in memory if it is."""
    name = getattr(file, "name", None)
    return io.BytesIO() if name is None else cast(BinaryIO, tempfile.TemporaryFile(dir=Path(name).parent))


def _head(content: Field) -> str:
    """All lines up to the blank one before the grid."""
    grid = content.grid
    atoms = grid.atoms
    mark = {"origin": ",".join(f"{x:.17g}" for x in grid.origin)} if grid.origin.any() else {}
    if not atoms.pbc.all():
        mark["pbc"] = pbc_mark(atoms.pbc)
    unit = content.unit.replace("Å", "A").replace("³", "^3")
    note = "" if content.is_density else f" {content.name} ({unit}) times volume"
    first = join_mark(content.comment + note, mark)
    if HEADER in content.info:
        return f"{first}\n{content.info[HEADER]}"
    groups = [(symbol, len(list(group))) for symbol, group in groupby(atoms.get_chemical_symbols())]
    lines = [
        first,
        "   1.00000000000000     ",
        *map(_row, grid.cell),
        "".join(f"   {symbol:2s}" for symbol, _ in groups),
        "".join(f"{count:6d}" for _, count in groups),
        "Direct",
        *map(_row, (atoms.positions - grid.origin) @ np.linalg.inv(grid.cell)),
        " ",
    ]
    return "\n".join(lines) + "\n"


def _row(vector: NDArray[np.floating]) -> str:
    return "".join(f" {x:21.16f}" for x in vector)


def _shape(content: Field) -> bytes:
    """The line before the values."""
    return ("".join(f"{n:5d}" for n in content.grid.shape) + "\n").encode()


def _lines(values: NDArray[np.floating], factor: float, content: Field) -> bytes:
    """Values times volume as text, five to a line; with the header of VASP's file, in its own digits."""
    times_volume = values.astype(np.float64) * factor
    if HEADER in content.info:
        return format_fortran(times_volume, 11, _PER_LINE).encode()
    return format_values(times_volume, 11, _PER_LINE).encode()


def _after_block(content: Field, name: str) -> bytes:
    """What follows a block of values: occupancies, and magnetic moments where a spin block follows."""
    rows = content.atom_arrays.get(occupancies_of(name or TOTAL))
    keys = AFTER_BLOCKS if len(content.channels) > 1 else AFTER_BLOCKS[:1]
    texts = [content.info.get(f"{key}_{name}".rstrip("_"), "") for key in keys]
    if rows is not None:
        texts[0] = format_occupancies(rows)
    return "".join(text if text.endswith("\n") else text + "\n" for text in texts if text).encode()
