"""The pictures of an evaluation: histograms, the worst structures, and the spread of densities."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepdft import plotting
from deepdft.density import DensityGrid
from deepdft.evaluation.ensemble import StructureSpread, deviation_at
from deepdft.evaluation.ensemble_structure import EnsembleStructure
from deepdft.evaluation.errors import StructureErrors
from deepdft.evaluation.summary import expected_errors
from deepdft.inference.encoded import EncodedStructure
from deepdft.measures import EPS_MAD, EPS_MAE
from deepdft.models.base import DensityModel

__all__ = [
    "calibration_picture",
    "histogram",
    "remove_worst_pictures",
    "spread_histogram",
    "spread_picture",
    "worst_pictures",
]

WORST = re.compile(r"worst(_([2-9]|[1-9]\d+))?\.png")
"""Pattern of the names of the pictures that `worst_pictures` writes."""


def histogram(rows: Sequence[StructureErrors], path: Path, *, title: str | None = None) -> None:
    """Write the histogram of ε_mae, with outliers marked and named."""
    figure = plotting.error_histogram([row.eps_mae for row in rows], [row.name for row in rows], title=title)
    plotting.save(figure, path)


def calibration_picture(rows: Sequence[StructureErrors], path: Path, *, title: str | None = None) -> bool:
    """Write expected against true ε_mae; False, and nothing, where no error is expected of any structure.

    The expected error of an ensemble that was not calibrated is its spread times the factor that fits these structures.
    """
    expectation = expected_errors(rows)
    if expectation is None:
        return False
    known = [(value, row) for value, row in zip(expectation, rows, strict=True) if value is not None]
    if title is not None and len(known) < len(rows):
        title += f"\n{len(rows) - len(known)} outside, without an expected error"
    figure = plotting.calibration(
        [value for value, _ in known], [row.eps_mae for _, row in known], [row.name for _, row in known], title=title
    )
    plotting.save(figure, path)
    return True


def spread_histogram(
    spreads: Sequence[StructureSpread],
    errors: Sequence[StructureErrors] | None,
    path: Path,
    *,
    title: str | None = None,
) -> None:
    """Write the histogram of ε_mad, with that of a model's ε_mae if there is one (the paper's Figure 3)."""
    if errors is None:
        values, names = [row.eps_mad for row in spreads], [row.name for row in spreads]
        figure = plotting.error_histogram(values, names, quantity=EPS_MAD.axis_label, title=title)
    else:
        series = {
            f"model, {EPS_MAE.tex}": {row.name: row.eps_mae for row in errors},
            f"DFT, {EPS_MAD.tex}": {row.name: row.eps_mad for row in spreads},
        }
        figure = plotting.error_distributions(series, title=title)
    plotting.save(figure, path)


def worst_pictures(
    model: DensityModel,
    references: Callable[[int], DensityGrid],
    rows: Sequence[StructureErrors],
    folder: Path,
    *,
    pbc: bool | None = None,
    at_most: int = 3,
) -> list[str]:
    """Write reference, prediction and difference on a plane of the structures with the largest errors.

    The pictures that an earlier evaluation left in the folder are removed.

    Args:
        model: in evaluation mode.
        references: index → density.
        rows: the errors.
        folder: for worst.png, worst_2.png, …
        pbc: None as the structures have it, True forced on, False ignored.
        at_most: this many.

    Returns:
        The names of the files.
    """
    remove_worst_pictures(folder)
    names = []
    worst = sorted(rows, key=lambda row: -row.eps_mae)[:at_most]
    for place, row in enumerate(worst, start=1):
        reference = references(row.index)
        encoded = EncodedStructure(model, reference.atoms, pbc=pbc)
        figure = plotting.compare_predicted(reference, encoded.total, name=row.name, eps_mae=row.eps_mae)
        names.append("worst.png" if place == 1 else f"worst_{place}.png")
        plotting.save(figure, folder / names[-1])
    return names


def remove_worst_pictures(folder: Path) -> None:
    """Remove worst.png, worst_2.png, … of an earlier evaluation, which may be of another model."""
    for path in folder.iterdir():
        if WORST.fullmatch(path.name):
            path.unlink()


def spread_picture(
    structure: EnsembleStructure,
    reference: DensityGrid,
    spread: StructureSpread,
    path: Path,
    *,
    predict: Callable[[NDArray[np.float64]], NDArray[np.floating]] | None = None,
) -> None:
    """Write a density, the deviation of the ensemble and, on the same scale, the error of a model on a plane.

    Args:
        structure: with its K densities.
        reference: its density that the model is compared with.
        spread: its figures, for the title.
        path: of the picture.
        predict: gives the model's density (n,) in e/Å³ at points (n, 3) in Å.
    """
    plane = plotting.choose_plane(reference.atoms, reference.origin)
    stencil = plotting.PlaneStencil(
        plane,
        shape=reference.shape,
        cell=reference.atoms.cell.array,
        origin=reference.origin,
        pbc=reference.atoms.pbc,
    )
    exact = reference.values.ravel()[stencil.indices].astype(np.float64)
    deviation = stencil(deviation_at(structure, stencil.indices))
    limit = max(float(np.nanquantile(deviation, 0.995)), 1e-9)
    scale = plotting.Scale("deviation (e/Å³)", (0.0, limit), (), colours="magma_r", extend="max")
    labels = list(spread.deviations)
    shown = [
        ("reference", stencil(exact), plotting.SCALES["density"]),
        (f"{len(labels)} densities: mean |ρ − median|", deviation, scale),
    ]
    if predict is not None:
        error = np.abs(predict(reference.points(stencil.indices)) - exact)
        shown.append(("model: |prediction − reference|", stencil(error), scale))
    title = f"{plotting.heading(reference.atoms, name=spread.name)}    {EPS_MAD.tex} = {spread.eps_mad:.3g} %"
    plotting.save(plotting.panels(plane, reference.atoms, shown, title=title, origin=reference.origin), path)
