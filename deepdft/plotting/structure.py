"""Drawing of the atoms and the cell of a structure on a plane."""

from __future__ import annotations

from collections.abc import Collection
from itertools import product
from typing import Literal

import ase
import numpy as np
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from deepdft.plotting.figure import ORANGE
from deepdft.plotting.planes import IN_PLANE, Plane, cell_outline

__all__ = ["add_legend", "draw_structure"]

NEAR_PLANE = 4 * IN_PLANE
"""Å: atoms further from the plane than this are not drawn."""
AT_EDGE = 0.15
"""Å beyond the edge of the picture up to which atoms are drawn, such as those on the faces of a cell."""
LABEL_SIZE = 0.25
"""Å from the edge within which atoms have their label on the inner side."""


def draw_structure(
    axes: Axes,
    plane: Plane,
    atoms: ase.Atoms,
    origin: NDArray[np.float64],
    *,
    unknown: Collection[int] = (),
    unlike: Collection[int] = (),
) -> dict[str, Artist]:
    """Draw the elements of atoms in the plane, circles for those beside it, and the outline of the cell.

    Args:
        axes: with the plane's coordinates in Å.
        plane: the plane.
        atoms: the structure.
        origin: (3,) Å, corner of the cell.
        unknown: atomic numbers of elements that the model was not trained on, which are marked.
        unlike: indices of atoms with surroundings that the model was not trained on, which are marked.

    Returns:
        What was drawn, for a legend: label → artist.
    """
    axes.set(xlabel="Å", ylabel="Å", xlim=(0, plane.size[0]), ylim=(0, plane.size[1]), aspect="equal")
    drawn: dict[str, Artist] = {}
    cell = atoms.cell.array
    if atoms.cell.rank == 3 and atoms.pbc.any():
        outline = plane.project(cell_outline(cell, origin, plane.origin, plane.normal))
        axes.fill(outline[:, 0], outline[:, 1], fill=False, edgecolor="0.6", linewidth=0.9, linestyle="--")
        inside = (outline[:, :2] > -1e-6) & (outline[:, :2] < np.array(plane.size) + 1e-6)
        if inside.any():
            drawn["boundary of the cell"] = Line2D([], [], color="0.6", linewidth=0.9, linestyle="--")
    repeats = [(-1, 0, 1) if repeated and atoms.cell.rank == 3 else (0,) for repeated in atoms.pbc]
    for image in product(*repeats):
        for index, (x, y, height) in enumerate(plane.project(atoms.positions + image @ cell)):
            at_edge = -AT_EDGE < x < plane.size[0] + AT_EDGE and -AT_EDGE < y < plane.size[1] + AT_EDGE
            if not at_edge or abs(height) >= NEAR_PLANE:
                continue
            if int(atoms.numbers[index]) in unknown:
                drawn["element that the model was not trained on"] = _mark(axes, x, y)
            elif index in unlike:
                drawn["surroundings unlike any the model was trained on"] = _mark(axes, x, y, dashed=True)
            if abs(height) < IN_PLANE:
                _label(axes, plane, x, y, atoms.symbols[index])
            else:
                drawn[f"atom up to {NEAR_PLANE:.1f} Å above or below the plane"] = _circle(axes, x, y)
    return drawn


def add_legend(figure: Figure, drawn: dict[str, Artist]) -> None:
    """Explain below the picture what it shows besides labelled atoms."""
    if drawn:
        figure.legend(list(drawn.values()), list(drawn), loc="outside lower center", ncols=1, frameon=False, fontsize=8)


def _label(axes: Axes, plane: Plane, x: float, y: float, symbol: str) -> None:
    """Write the symbol of an atom; near the edge of the picture it is on the inner side."""
    horizontal: dict[int, Literal["left", "center", "right"]] = {-1: "left", 0: "center", 1: "right"}
    vertical: dict[int, Literal["bottom", "center", "top"]] = {-1: "bottom", 0: "center", 1: "top"}
    axes.text(
        float(np.clip(x, 0.0, plane.size[0])),
        float(np.clip(y, 0.0, plane.size[1])),
        symbol,
        ha=horizontal[_edge(x, plane.size[0])],
        va=vertical[_edge(y, plane.size[1])],
        fontsize=9,
        fontweight="bold",
        color="black",
        path_effects=[patheffects.withStroke(linewidth=2.5, foreground="white")],
    )


def _edge(coordinate: float, length: float) -> int:
    """Side of a coordinate: -1 near the start, 1 near the end, 0 in between."""
    return int(coordinate > length - LABEL_SIZE) - int(coordinate < LABEL_SIZE)


def _circle(axes: Axes, x: float, y: float) -> Artist:
    (circle,) = axes.plot(
        x, y, "o", color="white", markeredgecolor="black", markersize=4, markeredgewidth=0.6, alpha=0.7, clip_on=False
    )
    circle.set_linestyle("none")
    return circle


def _mark(axes: Axes, x: float, y: float, *, dashed: bool = False) -> Artist:
    """A ring around an atom."""
    (ring,) = axes.plot(
        x,
        y,
        marker="$\N{DOTTED CIRCLE}$" if dashed else "o",
        fillstyle="none",
        color=ORANGE,
        markersize=17,
        markeredgewidth=0.6 if dashed else 1.8,
        linestyle="none",
        clip_on=False,
    )
    return ring
