"""Making and writing figures without pyplot, so nothing global changes and no display is needed."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "PURPLE", "new_figure", "save"]

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#666666"
"""Okabe and Ito's colours, and Tol's purple: told apart by colour-blind readers."""


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure in the format of the suffix, beside first and then renamed."""
    path = Path(path)
    beside = path.with_name(f".{path.stem}.part{path.suffix}")
    figure.savefig(beside, dpi=160)
    beside.replace(path)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
