"""Densities at points of a file, or at those grid points where the density is above a threshold, into a list."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import ase
import numpy as np

from deepdft.files import exclusive_lock
from deepdft.inference.box import Box
from deepdft.inference.output import PREDICTED, refuse_foreign
from deepdft.inference.predictor import Predictor
from deepdft.inference.sparse import PointDensities, above, check_points_output, read_points, write_points
from deepdft.runs.progress import progress_bar

__all__ = ["points_above_to_file", "points_to_file"]

T = TypeVar("T")


def points_to_file(
    predictor: Predictor, structures: Sequence[ase.Atoms], points: Path, output: Path, *, source: str, checkpoint: str
) -> None:
    """Predict the density of a structure at points of a file.

    Args:
        predictor: the model.
        structures: exactly one.
        points: a .npy or .csv file with (n, 3) coordinates in Å.
        output: x.csv or x.h5.
        source: what the structure was read from, for the comment in the file.
        checkpoint: where the model is from, for the same.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no points, there are several structures, or the output is no prediction.
    """
    atoms = _only(structures)
    places = read_points(points)
    began = time.monotonic()

    def densities() -> PointDensities:
        values = predictor.predict_points(atoms, places).reshape(len(places), -1)
        return PointDensities(places, values.astype(np.float32), predictor.model.channels)

    _write(output, densities, f"density of {source} at {points} {PREDICTED} {checkpoint}")
    print(f"{output}: {len(places)} points; {time.monotonic() - began:.1f} s")


def points_above_to_file(
    predictor: Predictor, boxes: Sequence[Box], threshold: float, output: Path, *, source: str, checkpoint: str
) -> None:
    """Predict a grid, and keep the points whose density is above a threshold.

    Args:
        predictor: the model.
        boxes: exactly one structure with its grid.
        threshold: e/Å³.
        output: x.csv or x.h5.
        source: what the structure was read from, for the comment in the file.
        checkpoint: where the model is from, for the same.

    Raises:
        ValueError: if there are several structures, or the output is no prediction.
    """
    box = _only(boxes)
    found: list[PointDensities] = []

    def densities() -> PointDensities:
        with progress_bar("predicting", box.n_points) as advance:
            found.append(
                above(box, predictor.predict_chunks(box, progress=advance), threshold, predictor.model.channels)
            )
        return found[0]

    _write(output, densities, f"density of {source} above {threshold:g} e/Å³ {PREDICTED} {checkpoint}")
    print(f"{output}: {len(found[0].points)} of {box.n_points} points are above {threshold:g} e/Å³")


def _only(items: Sequence[T]) -> T:
    if len(items) != 1:
        raise ValueError(f"points= and above= are for one structure, got {len(items)}; choose one with frames=")
    return items[0]


def _write(output: Path, densities: Callable[[], PointDensities], comment: str) -> None:
    """Write what is predicted once the file is known to be possible."""
    check_points_output(output)
    refuse_foreign(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(output, "prediction"):
        write_points(output, densities(), comment)
