"""Files that an evaluation writes row by row: parts from which it resumes when interrupted, and the final table."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from deepdft.files import atomic_write

__all__ = ["StructureRow", "append_part", "begin_part", "compute", "read_part", "write_table"]

Row = TypeVar("Row")

COLUMNS = ("name", "formula", "n_atoms", "n_points", "n_electrons")
"""Columns of errors.csv that do not depend on the measures."""


@dataclass(frozen=True)
class StructureRow:
    """The part of a row that every evaluation reports of a structure."""

    index: int
    """Index in the store or ensemble."""
    name: str
    """Name in the store or ensemble."""
    formula: str
    """Chemical formula in Hill order."""
    n_atoms: int
    """Number of atoms."""
    n_points: int
    """Number of grid points."""
    n_electrons: float
    """Integral of the reference density."""

    @staticmethod
    def columns(rows: Sequence[StructureRow]) -> dict[str, list[Any]]:
        """The first columns of errors.csv."""
        return {column: [getattr(row, column) for row in rows] for column in COLUMNS}


def compute(
    indices: Iterable[int],
    row: Callable[[int], Row],
    *,
    part: Path,
    progress: Callable[[Row], None],
) -> Iterator[Row]:
    """Compute rows of some structures; each is appended to `part` as soon as it is known.

    Args:
        indices: which structures.
        row: computes the row, a dataclass, of a structure.
        part: file started by `begin_part`, from which an interrupted evaluation resumes.
        progress: called with each row.
    """
    for index in indices:
        found = row(index)
        append_part(part, found)
        progress(found)
        yield found


def begin_part(part: Path, key: Mapping[str, Any]) -> None:
    """Start a part file for an evaluation identified by `key`, or keep one that the same evaluation has started."""
    if _first_line(part) != json.dumps(dict(key), sort_keys=True):
        part.write_text(json.dumps(dict(key), sort_keys=True) + "\n", encoding="utf-8")
        return
    whole = part.read_bytes()
    if not whole.endswith(b"\n"):  # the process was killed while it wrote a line
        part.write_bytes(whole[: whole.rindex(b"\n") + 1])


def append_part(part: Path, row: Any) -> None:
    """Add a row, a dataclass, as one line of JSON."""
    with part.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def read_part(part: Path, key: Mapping[str, Any], kind: Callable[..., Row]) -> list[Row]:
    """Rows (of dataclass `kind`) in a part file of the same evaluation; empty if it belongs to another."""
    if _first_line(part) != json.dumps(dict(key), sort_keys=True):
        return []
    lines = part.read_text(encoding="utf-8").splitlines(keepends=True)[1:]
    return [kind(**json.loads(line)) for line in lines if line.endswith("\n")]


def _first_line(part: Path) -> str | None:
    if not part.is_file():
        return None
    with part.open(encoding="utf-8") as file:
        return file.readline().rstrip("\n")


def write_table(path: str | os.PathLike[str], columns: Mapping[str, Sequence[Any]]) -> None:
    """Write a CSV file of columns of equal length, whole or not at all; None is an empty field."""
    rows = list(zip(*columns.values(), strict=True))
    with atomic_write(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
