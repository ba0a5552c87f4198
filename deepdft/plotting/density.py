"""Densities on a plane: one density, or reference, prediction and their difference."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import ase
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray

from deepdft.density import DensityGrid
from deepdft.measures import EPS_MAE
from deepdft.metrics import eps_mae
from deepdft.plotting.figure import new_figure, plain
from deepdft.plotting.formulas import formula_tex
from deepdft.plotting.planes import Plane, PlaneStencil, choose_plane, plane_values
from deepdft.plotting.scales import DENSITY, Scale, diverging
from deepdft.plotting.structure import add_legend, draw_structure

__all__ = ["compare", "compare_predicted", "comparison", "heading", "panels", "plane_picture", "slices"]


def slices(
    density: DensityGrid, *, title: str | None = None, model: str | None = None, unknown: Collection[int] = ()
) -> Figure:
    """A density on the plane that contains most of its structure.

    Args:
        density: on its grid.
        title: None for the formula, the model and the number of valence electrons.
        model: name of the model that predicted the density, for the title.
        unknown: atomic numbers of elements that the model was not trained on, which are marked.
    """
    plane = choose_plane(density.atoms, density.origin)
    return plane_picture(
        plane,
        density.atoms,
        plane_values(density, plane),
        origin=density.origin,
        title=heading(density.atoms, model=model, n_electrons=density.n_electrons) if title is None else title,
        unknown=unknown,
    )


def heading(
    atoms: ase.Atoms, *, name: str | None = None, model: str | None = None, n_electrons: float | None = None
) -> str:
    """The title of a picture of a structure, on up to two lines.

    Args:
        atoms: the structure, for its formula.
        name: of the structure, before the formula.
        model: name of the model, on the second line.
        n_electrons: integral of the density, on the second line.
    """
    first = formula_tex(atoms) if name is None else f"{plain(name)}, {formula_tex(atoms)}"
    second = [] if model is None else [plain(model)]
    if n_electrons is not None:
        second.append(f"{n_electrons:.2f} valence electrons")
    return "\n".join([first, ", ".join(second)] if second else [first])


def plane_picture(
    plane: Plane,
    atoms: ase.Atoms,
    values: NDArray[np.floating],
    *,
    origin: ArrayLike = (0.0, 0.0, 0.0),
    title: str | None = None,
    scale: Scale = DENSITY,
    unknown: Collection[int] = (),
    unlike: Collection[int] = (),
) -> Figure:
    """Values on a plane with the atoms in it: a density, or another quantity with its `scale`.

    Args:
        plane: the plane.
        atoms: the structure.
        values: (rows, columns) on the plane, in the unit of the scale: e/Å³.
        origin: (3,) Å, corner of the cell.
        title: None for the formula.
        scale: how the quantity is shown, an entry of `deepdft.plotting.SCALES`.
        unknown: atomic numbers of elements that the model was not trained on, which are marked.
        unlike: indices of atoms with surroundings that the model was not trained on, which are marked.
    """
    width, height = _panel_size(plane, longest=4.8)
    figure = new_figure(width + 1.1, height + 1.0)
    axes = figure.subplots()
    image = _draw_values(axes, plane, values, scale)
    drawn = draw_structure(axes, plane, atoms, np.asarray(origin, dtype=np.float64), unknown=unknown, unlike=unlike)
    axes.set_title(heading(atoms) if title is None else title, fontsize=11)
    _colour_bar(figure, axes, image, scale)
    add_legend(figure, drawn)
    return figure


def comparison(reference: DensityGrid, predicted: DensityGrid, *, name: str | None = None) -> Figure:
    """Reference, prediction and their difference on a plane, with ε_mae over the whole grid.

    Raises:
        ValueError: if the grids differ.
    """
    plane = choose_plane(reference.atoms, reference.origin)
    error = eps_mae(predicted.values, reference.values)
    return compare(
        plane,
        reference.atoms,
        plane_values(reference, plane),
        plane_values(predicted, plane),
        eps_mae=error,
        name=name,
        origin=reference.origin,
    )


def compare_predicted(
    reference: DensityGrid,
    predict: Callable[[NDArray[np.float64]], NDArray[np.floating]],
    *,
    name: str | None = None,
    eps_mae: float | None = None,
) -> Figure:
    """Like `comparison`, but the model is evaluated only at the grid points that the picture needs.

    Args:
        reference: on its grid.
        predict: gives the density (n,) in e/Å³ at points (n, 3) in Å.
        name: of the structure; None for the formula.
        eps_mae: %, for the title.
    """
    plane = choose_plane(reference.atoms, reference.origin)
    stencil = PlaneStencil(
        plane,
        shape=reference.shape,
        cell=reference.atoms.cell.array,
        origin=reference.origin,
        pbc=reference.atoms.pbc,
    )
    return compare(
        plane,
        reference.atoms,
        stencil(reference.values.ravel()[stencil.indices]),
        stencil(predict(reference.points(stencil.indices))),
        eps_mae=eps_mae,
        name=name,
        origin=reference.origin,
    )


def compare(
    plane: Plane,
    atoms: ase.Atoms,
    reference: NDArray[np.floating],
    predicted: NDArray[np.floating],
    *,
    eps_mae: float | None = None,
    name: str | None = None,
    origin: ArrayLike = (0.0, 0.0, 0.0),
) -> Figure:
    """Reference, prediction and their difference side by side.

    Args:
        plane: the plane.
        atoms: the structure.
        reference: (rows, columns) e/Å³ on the plane.
        predicted: (rows, columns) e/Å³ on the plane.
        eps_mae: % over the whole grid, for the title.
        name: of the structure; None for the formula.
        origin: (3,) Å, corner of the cell.
    """
    difference = predicted - reference
    title = heading(atoms, name=name)
    if eps_mae is not None:
        title += f"    {EPS_MAE.tex} = {eps_mae:.3g} %"
    shown = [
        ("reference", reference, DENSITY),
        ("prediction", predicted, DENSITY),
        ("prediction − reference", difference, diverging("difference (e/Å³)", difference)),
    ]
    return panels(plane, atoms, shown, title=title, origin=origin)


def panels(
    plane: Plane,
    atoms: ase.Atoms,
    shown: Sequence[tuple[str, NDArray[np.floating], Scale]],
    *,
    title: str,
    origin: ArrayLike = (0.0, 0.0, 0.0),
) -> Figure:
    """Several quantities on one plane side by side; neighbours with the same scale share its colour bar.

    Args:
        plane: the plane.
        atoms: the structure.
        shown: title, (rows, columns) values on the plane, and scale of each panel.
        title: above all panels.
        origin: (3,) Å, corner of the cell.
    """
    width, height = _panel_size(plane)
    n = len(shown)
    drawn: dict[str, Artist] = {}
    if width > 2 * height:  # long and flat: panels go below each other
        figure = new_figure(2 * width + 1.6, 2 * n * height + 1.6)
        grid = figure.subplots(n, 1, sharex=True, sharey=True)
    else:
        figure = new_figure(n * width + 2.0, height + 1.1)
        grid = figure.subplots(1, n, sharex=True, sharey=True)
    for place, (axes, (panel_title, values, scale)) in enumerate(zip(grid, shown, strict=True)):
        image = _draw_values(axes, plane, values, scale)
        drawn = draw_structure(axes, plane, atoms, np.asarray(origin, dtype=np.float64))
        axes.set_title(panel_title, fontsize=10)
        axes.label_outer()
        if place + 1 == n or shown[place + 1][2] is not scale:
            _colour_bar(figure, axes, image, scale)
    figure.suptitle(title, fontsize=12)
    add_legend(figure, drawn)
    return figure


def _panel_size(plane: Plane, longest: float = 3.6) -> tuple[float, float]:
    """Size in inches: the longer side is given, and neither is below 1.2."""
    width, height = plane.size
    scale = longest / max(width, height)
    return max(width * scale, 1.2), max(height * scale, 1.2)


def _colour_bar(figure: Figure, axes: Axes, image: AxesImage, scale: Scale) -> None:
    """Draw a colour bar as high as the picture beside it, with the contour lines on it."""
    beside = axes.inset_axes((1.03, 0.0, 0.045, 1.0))
    figure.colorbar(image, cax=beside, label=scale.label, extend=scale.extend)
    for level in scale.contours:
        beside.axhline(level, color=scale.line, linewidth=0.8, alpha=0.8)


def _draw_values(axes: Axes, plane: Plane, values: NDArray[np.floating], scale: Scale) -> AxesImage:
    """Draw colours with contour lines."""
    extent = (0, plane.size[0], 0, plane.size[1])
    shown = np.maximum(values, scale.limits[0] / 10) if scale.logarithmic else np.asarray(values)  # NaN stays NaN
    image = axes.imshow(
        shown, cmap=scale.colours, norm=scale.norm(), extent=extent, origin="lower", interpolation="bilinear"
    )
    levels = [level for level in scale.contours if np.nanmin(shown) < level < np.nanmax(shown)]
    if levels:
        axes.contour(shown, levels=levels, extent=extent, colors=scale.line, linewidths=0.5, alpha=0.6)
    return image
