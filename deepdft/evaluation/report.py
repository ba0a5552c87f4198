"""What an evaluation leaves behind: the summary, the table on the terminal, and the pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from deepdft import plotting
from deepdft.density import DensityGrid
from deepdft.evaluation.ensemble import StructureSpread, deviation_at
from deepdft.evaluation.ensemble_sources import EnsembleStructure
from deepdft.evaluation.errors import StructureErrors
from deepdft.inference.encoded import EncodedStructure
from deepdft.models.base import DensityModel

__all__ = [
    "histogram",
    "remove_worst_pictures",
    "share_below",
    "spread_histogram",
    "spread_picture",
    "summarise",
    "summarise_spread",
    "summary_table",
    "worst_pictures",
]

WORST = re.compile(r"worst(_([2-9]|[1-9]\d+))?\.png")
"""Names of the pictures that `worst_pictures` writes."""


def summarise(rows: Sequence[StructureErrors]) -> dict[str, Any]:
    """The figures of an evaluation.

    `eps_mae` has mean, median, p99 and max over structures, and `pooled`: the sum of the structures'
    numerators over the sum of their denominators. `eps_mae_scaled` is the same for predictions scaled to the
    reference's number of electrons. `mae` and `rmse` are over all grid points of all
    structures; `electron_error` is over structures.

    Raises:
        ValueError: if there are no structures.
    """
    if not rows:
        raise ValueError("there are no structures to summarise")
    points = np.array([row.n_points for row in rows], dtype=np.float64)
    mae, rmse = (np.array([getattr(row, name) for row in rows]) for name in ("mae", "rmse"))
    electrons = np.array([row.electron_error for row in rows])
    return {
        "eps_mae": _error_statistics(rows, "eps_mae"),
        "eps_mae_scaled": _error_statistics(rows, "eps_mae_scaled"),
        "mae": float((mae * points).sum() / points.sum()),
        "rmse": float(np.sqrt((rmse**2 * points).sum() / points.sum())),
        "electron_error": {
            "mean": float(electrons.mean()),
            "mean_absolute": float(np.abs(electrons).mean()),
            "max_absolute": float(np.abs(electrons).max()),
        },
        "n_structures": len(rows),
        "n_points": int(points.sum()),
        "worst": max(rows, key=lambda row: row.eps_mae).name,
    }


def summarise_spread(rows: Sequence[StructureSpread], *, reference: str) -> dict[str, Any]:
    """The figures of an ensemble: `eps_mad` as `eps_mae` of `summarise`, and the mean deviation of each density in %.

    Raises:
        ValueError: if there are no structures.
    """
    if not rows:
        raise ValueError("there are no structures to summarise")
    labels = list(rows[0].deviations)
    return {
        "eps_mad": _statistics(
            [row.eps_mad for row in rows],
            pooled=sum(row.absolute_deviation for row in rows) / sum(row.absolute_density for row in rows),
        ),
        "functionals": labels,
        "reference": reference,
        "deviation": {label: float(np.mean([row.deviations[label] for row in rows])) for label in labels},
        "n_structures": len(rows),
        "n_points": sum(row.n_points for row in rows),
        "widest": max(rows, key=lambda row: row.eps_mad).name,
    }


def _error_statistics(rows: Sequence[StructureErrors], measure: str) -> dict[str, float]:
    values = np.array([getattr(row, measure) for row in rows])
    density = np.array([row.absolute_density for row in rows])
    return _statistics(values.tolist(), pooled=float(values @ density / density.sum()) / 100.0)


def _statistics(values: Sequence[float], *, pooled: float) -> dict[str, float]:
    """Of a measure in % over structures; `pooled` is a fraction."""
    return {
        "mean": float(np.mean(values)),
        "median": float(np.median(values)),
        "p99": float(np.quantile(values, 0.99)),
        "max": float(np.max(values)),
        "pooled": float(100.0 * pooled),
    }


def share_below(errors: Sequence[StructureErrors], spreads: Sequence[StructureSpread]) -> float:
    """Share of the structures, 0 to 1, whose model error is below the spread of the densities.

    Raises:
        ValueError: if they are not as many.
    """
    pairs = list(zip(errors, spreads, strict=True))
    return sum(error.eps_mae < spread.eps_mad for error, spread in pairs) / len(pairs)


def summary_table(summary: dict[str, Any], *, title: str) -> Table:
    """The figures as a table for the terminal."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for measure, symbol in (("eps_mad", "ε_mad"), ("eps_mae", "ε_mae")):
        for name, value in summary.get(measure, {}).items():
            table.add_row(f"{symbol} {name}", f"{value:.3f}", "%")
    for label, deviation in summary.get("deviation", {}).items():
        table.add_row(f"{label} from the median, mean", f"{deviation:.3f}", "%")
    if "share_below_spread" in summary:
        table.add_row("structures with ε_mae below ε_mad", f"{100 * summary['share_below_spread']:.1f}", "%")
    if "eps_mae" in summary:
        scaled = summary["eps_mae_scaled"]["mean"]
        table.add_row("ε_mae mean, scaled to the electron count", f"{scaled:.3f}", "%")
        table.add_row("MAE", f"{summary['mae']:.3e}", "e/Å³")
        table.add_row("RMSE", f"{summary['rmse']:.3e}", "e/Å³")
        table.add_row("electron error, mean", f"{summary['electron_error']['mean']:+.3f}", "e")
        table.add_row("electron error, mean of |…|", f"{summary['electron_error']['mean_absolute']:.3f}", "e")
    table.add_row("structures", str(summary["n_structures"]), "")
    for key, text in (("widest", "widest spread"), ("worst", "worst")):
        if key in summary:
            table.add_row(text, summary[key], "")
    return table


def histogram(rows: Sequence[StructureErrors], path: Path, *, title: str | None = None) -> None:
    """Write the histogram of ε_mae with its outliers marked and named."""
    figure = plotting.error_histogram([row.eps_mae for row in rows], [row.name for row in rows], title=title)
    plotting.save(figure, path)


def spread_histogram(
    spreads: Sequence[StructureSpread],
    errors: Sequence[StructureErrors] | None,
    path: Path,
    *,
    title: str | None = None,
) -> None:
    """Write the histogram of ε_mad, with that of a model's ε_mae where there is one (the paper's Figure 3)."""
    if errors is None:
        values, names = [row.eps_mad for row in spreads], [row.name for row in spreads]
        figure = plotting.error_histogram(values, names, quantity="$\\varepsilon_\\mathrm{mad}$ (%)", title=title)
    else:
        series = {
            "model, $\\varepsilon_\\mathrm{mae}$": {row.name: row.eps_mae for row in errors},
            "DFT, $\\varepsilon_\\mathrm{mad}$": {row.name: row.eps_mad for row in spreads},
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
        references: position → density.
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
        reference = references(row.position)
        encoded = EncodedStructure(model, reference.atoms, pbc=pbc)
        figure = plotting.compare_predicted(reference, encoded.density, name=row.name, eps_mae=row.eps_mae)
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
    heading = f"{spread.name}    $\\varepsilon_\\mathrm{{mad}}$ = {spread.eps_mad:.3g} %"
    plotting.save(plotting.panels(plane, reference.atoms, shown, heading=heading, origin=reference.origin), path)
