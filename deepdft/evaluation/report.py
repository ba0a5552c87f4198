"""What an evaluation leaves behind: the summary, the table on the terminal, and the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from deepdft import plotting
from deepdft.density import DensityGrid
from deepdft.evaluation.errors import StructureErrors
from deepdft.models.base import DensityModel
from deepdft.models.query import EncodedStructure

__all__ = ["histogram", "summarise", "summary_table", "worst_picture"]


def summarise(rows: Sequence[StructureErrors]) -> dict[str, Any]:
    """The figures of an evaluation.

    `eps_mae` has mean, median, p99 and max over structures, and `pooled`: the sum of the structures'
    numerators over the sum of their denominators. `mae` and `rmse` are over all grid points of all
    structures; `electron_error` is over structures.

    Raises:
        ValueError: if there are no structures.
    """
    if not rows:
        raise ValueError("there are no structures to summarise")
    eps = np.array([row.eps_mae for row in rows])
    points = np.array([row.n_points for row in rows], dtype=np.float64)
    mae, rmse = (np.array([getattr(row, name) for row in rows]) for name in ("mae", "rmse"))
    electrons = np.array([row.electron_error for row in rows])
    pooled = 100.0 * sum(row.absolute_error for row in rows) / sum(row.absolute_density for row in rows)
    return {
        "eps_mae": {
            "mean": float(eps.mean()),
            "median": float(np.median(eps)),
            "p99": float(np.quantile(eps, 0.99)),
            "max": float(eps.max()),
            "pooled": float(pooled),
        },
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


def summary_table(summary: dict[str, Any], *, title: str) -> Table:
    """The figures as a table for the terminal."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name, value in summary["eps_mae"].items():
        table.add_row(f"ε_mae {name}", f"{value:.3f}", "%")
    table.add_row("MAE", f"{summary['mae']:.3e}", "e/Å³")
    table.add_row("RMSE", f"{summary['rmse']:.3e}", "e/Å³")
    table.add_row("electron error, mean", f"{summary['electron_error']['mean']:+.3f}", "e")
    table.add_row("electron error, mean of |…|", f"{summary['electron_error']['mean_absolute']:.3f}", "e")
    table.add_row("structures", str(summary["n_structures"]), "")
    table.add_row("worst", summary["worst"], "")
    return table


def histogram(rows: Sequence[StructureErrors], path: Path, *, title: str | None = None) -> None:
    """Write the histogram of ε_mae with its outliers marked and named."""
    figure = plotting.error_histogram([row.eps_mae for row in rows], [row.name for row in rows], title=title)
    plotting.save(figure, path)


def worst_picture(
    model: DensityModel,
    reference: DensityGrid,
    errors: StructureErrors,
    path: Path,
    *,
    pbc: bool | None = None,
) -> None:
    """Write reference, prediction and difference of a structure on a plane."""
    encoded = EncodedStructure(model, reference.atoms, pbc=pbc)
    figure = plotting.compare_predicted(reference, encoded.density, name=errors.name, eps_mae=errors.eps_mae)
    plotting.save(figure, path)
