"""Figures without pyplot, so that no global state changes and no display is needed."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deepdft.files import atomic_write

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "PURPLE", "new_figure", "plain", "save"]

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#666666"
"""Colours of Okabe and Ito, and Tol's purple, which colour-blind readers can distinguish."""


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure in the format of the suffix, whole or not at all."""
    with atomic_write(path) as beside:
        figure.savefig(beside, dpi=160, format=Path(path).suffix.removeprefix(".") or "png", bbox_inches="tight")


def plain(text: str) -> str:
    """Text on one line that matplotlib draws literally: a name may look like its formulas ($x$)."""
    one_line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))
    return one_line.replace("$", r"\$")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches."""
    figure = Figure(figsize=(width, height), layout="compressed")
    FigureCanvasAgg(figure)
    return figure
