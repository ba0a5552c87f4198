"""Checks before a prediction is written: what it would overwrite, and whether the disk has room."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from deepdft.inference.box import Box
from deepdft.inference.sparse import csv_comment
from deepdft.io.formats import output_format

__all__ = ["PREDICTED", "refuse_foreign", "refuse_too_large"]

PREDICTED = "predicted by"
"""Words in the comment of a file that mark it as a prediction."""


def refuse_foreign(output: Path) -> None:
    """Refuse to overwrite files that are not predictions, such as densities that took DFT hours.

    Raises:
        ValueError: if there is such a file.
    """
    if not output.exists():
        return
    read = csv_comment if output.suffix.lower() == ".csv" else output_format(output).comment_of
    if PREDICTED not in read(output):
        raise ValueError(
            f"output={output}: the file exists and is not a prediction; give another name, or move it away"
        )


def refuse_too_large(output: Path, boxes: Sequence[Box]) -> None:
    """Refuse a grid that does not fit on its disk before anything is written.

    Args:
        output: the first file.
        boxes: the grids, all in files beside it.

    Raises:
        ValueError: if there is no room.
    """
    folder = next(parent for parent in output.absolute().parents if parent.exists())
    n_points = sum(box.n_points for box in boxes)
    written = output_format(output)
    size, free = n_points * written.bytes_per_value, shutil.disk_usage(folder).free
    if size > 2 * free or (size > free and not written.is_compressed):
        grid = " × ".join(map(str, max(boxes, key=lambda box: box.n_points).shape))
        raise ValueError(
            f"output={output}: {grid} points need {size / 1e9:.3g} GB, and {folder} has {free / 1e9:.3g} GB left; "
            "take a wider spacing, or less vacuum or a smaller cell"
        )
