"""Densities at a list of points instead of a whole grid: points of a file, or those above a threshold."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepdft.density import Grid
from deepdft.files import atomic_write
from deepdft.inference.encoded import check_points

__all__ = ["PointDensities", "above", "check_points_output", "csv_comment", "read_points", "write_points"]

SUFFIXES = (".h5", ".hdf5", ".csv")


@dataclass(frozen=True, eq=False)
class PointDensities:
    """Densities at points."""

    points: NDArray[np.float64]
    """(n, 3) Å."""
    values: NDArray[np.float32]
    """(n, n_channels) e/Å³."""
    channels: tuple[str, ...]
    """Names of the columns of the values."""


def check_points_output(output: Path) -> None:
    """Refuse files that are no lists of points.

    Raises:
        ValueError: naming what is expected.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise ValueError(f"output={output}: densities at points go to x.csv or x.h5")


def read_points(path: str | Path) -> NDArray[np.float64]:
    """Points (n, 3) in Å from a .npy file, or from a .csv file with three numbers a line, a header allowed.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"points={path}: no such file")
    try:
        points = np.load(path, allow_pickle=False) if path.suffix.lower() == ".npy" else _read_csv(path)
        return check_points(points).astype(np.float64, copy=False)
    except (ValueError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(
            f"points={path}: expected a .npy array (n, 3), or a .csv with x,y,z in Å a line: {error}"
        ) from error


def _read_csv(path: Path) -> NDArray[np.float64]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row and not row[0].lstrip().startswith("#")]
    if rows and not _is_number(rows[0][0]):
        rows = rows[1:]
    if any(len(row) != 3 for row in rows):
        raise ValueError("a line has another number of columns than three")
    return np.array([[float(field) for field in row] for row in rows], dtype=np.float64).reshape(-1, 3)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def above(
    grid: Grid, chunks: Iterable[NDArray[np.floating]], threshold: float, channels: Sequence[str]
) -> PointDensities:
    """The points of a grid whose total density is above a threshold.

    Args:
        grid: the points.
        chunks: densities (n, n_channels) in e/Å³ of all points, counted with z fastest.
        threshold: e/Å³.
        channels: names of the columns.
    """
    indices, values, first = [np.empty(0, np.int64)], [np.empty((0, len(channels)), np.float32)], 0
    for chunk in chunks:
        kept = np.flatnonzero(chunk[:, 0] > threshold)
        indices.append(first + kept)
        values.append(chunk[kept].astype(np.float32))
        first += len(chunk)
    return PointDensities(grid.points(np.concatenate(indices)), np.concatenate(values), tuple(channels))


def write_points(output: Path, densities: PointDensities, comment: str) -> None:
    """Write densities at points: "points" and "values" of a .h5 file, or columns of a .csv file.

    Raises:
        ValueError: if the name has another suffix.
    """
    check_points_output(output)
    with atomic_write(output) as beside:
        if output.suffix.lower() == ".csv":
            with beside.open("w", encoding="utf-8", newline="") as file:
                file.write(f"# {comment}\n")
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["x (Å)", "y (Å)", "z (Å)", *(f"{name} (e/Å³)" for name in densities.channels)])
                for point, values in zip(densities.points, densities.values, strict=True):
                    writer.writerow([*(f"{x:.8g}" for x in point), *(f"{value:.8g}" for value in values)])
            return
        import h5py

        with h5py.File(beside, "w") as stored:
            stored.attrs["comment"] = comment
            stored.create_dataset("points", data=densities.points).attrs["unit"] = "Å"
            values = stored.create_dataset("values", data=densities.values)
            values.attrs.update({"unit": "e/Å³", "channels": list(densities.channels)})


def csv_comment(output: Path) -> str:
    """The first line of a file, which is the comment of one with densities at points."""
    with output.open(encoding="utf-8", errors="replace") as file:
        return file.readline(10_000)
