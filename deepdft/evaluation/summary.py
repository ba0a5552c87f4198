"""The figures of an evaluation over all structures: summary.json, and the table on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table
from scipy.stats import spearmanr

from deepdft import measures
from deepdft.evaluation.ensemble import StructureSpread
from deepdft.evaluation.errors import StructureErrors
from deepdft.measures import EPS_MAD, MEASURES

__all__ = [
    "calibrate",
    "electron_counts_that_differ",
    "expected_errors",
    "share_below",
    "summarise",
    "summarise_spread",
    "summary_table",
]

SAME_ELECTRONS = 0.01
"""Relative difference in electron counts, between prediction and reference, above which a structure is reported."""
STATISTICS = {"mean_absolute": "mean of |…|", "max_absolute": "largest |…|"}
"""Names of statistics in the table, if other than their keys."""


def summarise(rows: Sequence[StructureErrors]) -> dict[str, Any]:
    """The figures of an evaluation: every measure of `deepdft.measures` that is defined for any of the structures.

    A measure that is not defined for all of them (dipole moments of crystals) has `n_structures` of its own.

    Raises:
        ValueError: if there are no structures.
    """
    if not rows:
        raise ValueError("there are no structures to summarise")
    summary: dict[str, Any] = {}
    for measure in MEASURES:
        terms = [row.terms[measure.name] for row in rows if measure.name in row.terms]
        reduced = measures.summarise(measure, terms) if terms else None
        if isinstance(reduced, dict) and len(terms) < len(rows):
            reduced |= {"n_structures": len(terms)}
        if reduced is not None:
            summary[measure.name] = reduced
    calibration = calibrate(rows)
    if calibration is not None:
        summary["calibration"] = calibration
    return summary | {
        "n_structures": len(rows),
        "n_points": sum(row.n_points for row in rows),
        "worst": max(rows, key=lambda row: row.eps_mae).name,
    }


def calibrate(rows: Sequence[StructureErrors]) -> dict[str, Any] | None:
    """How well errors were expected; None where nothing was, and there is no spread to expect them from.

    Without a calibration, the spread of an ensemble times the factor that fits these structures is taken for the
    expected error. `coverage_1.5` and `coverage_2` are shares of the structures, 0 to 1, whose ε_mae is within these
    factors of the expected one; `rank_correlation` is Spearman's; `fitted` says whether the factor is of these very
    structures, `spread_scale` is that factor, None for a single model. `n_outside` structures had no expected error.
    """
    expectation = expected_errors(rows)
    if expectation is None:
        return None
    known = np.array([value is not None for value in expectation])
    outside = int((~known).sum())
    expected = np.array([value for value in expectation if value is not None])
    errors = np.array([row.eps_mae for row in rows])[known]
    factor = np.exp(np.abs(np.log(np.maximum(errors, 1e-12) / expected)))
    ranked = len(errors) > 2 and np.ptp(expected) > 0 and np.ptp(errors) > 0
    return {
        "spread_scale": _spread_scale(rows),
        "fitted": not any("expected_eps_mae" in row.terms for row in rows),
        "n_expected": len(errors),
        "n_outside": outside,
        "rank_correlation": float(spearmanr(expected, errors).statistic) if ranked else None,
        "coverage_1.5": float((factor <= 1.5).mean()),
        "coverage_2": float((factor <= 2.0).mean()),
    }


def expected_errors(rows: Sequence[StructureErrors]) -> list[float | None] | None:
    """Expected ε_mae in % of each structure, None for those outside; None altogether where nothing is expected."""
    if any("expected_eps_mae" in row.terms for row in rows):
        return [row["expected_eps_mae"] if "expected_eps_mae" in row.terms else None for row in rows]
    if any("outside" in row.terms for row in rows):
        return None  # calibrated, and all outside
    scale = _spread_scale(rows)
    return None if scale is None else [scale * row["spread"] for row in rows]


def _spread_scale(rows: Sequence[StructureErrors]) -> float | None:
    """The median of ε_mae over spread, which makes a spread an expected ε_mae; None without a spread."""
    if not all(row.terms.get("spread", (0.0, 1.0))[0] > 0 for row in rows):
        return None
    return float(np.median([row.eps_mae / row["spread"] for row in rows]))


def summarise_spread(rows: Sequence[StructureSpread], *, reference: str) -> dict[str, Any]:
    """The figures of an ensemble: `eps_mad`, like `eps_mae` of `summarise`, and mean deviations of the densities in %.

    Raises:
        ValueError: if there are no structures.
    """
    statistics = measures.summarise(EPS_MAD, [row.terms for row in rows])
    labels = list(rows[0].deviations)
    return {
        EPS_MAD.name: statistics,
        "functionals": labels,
        "reference": reference,
        "deviation": {label: float(np.mean([row.deviations[label] for row in rows])) for label in labels},
        "n_structures": len(rows),
        "n_points": sum(row.n_points for row in rows),
        "widest": max(rows, key=lambda row: row.eps_mad).name,
    }


def share_below(errors: Sequence[StructureErrors], spreads: Sequence[StructureSpread]) -> float:
    """Share of the structures, 0 to 1, whose model error is below the spread of the densities.

    Raises:
        ValueError: if they are not as many.
    """
    pairs = list(zip(errors, spreads, strict=True))
    return sum(error.eps_mae < spread.eps_mad for error, spread in pairs) / len(pairs)


def electron_counts_that_differ(rows: Sequence[StructureErrors]) -> str | None:
    """One line about structures whose predicted number of electrons is not the reference's; None if there are none.

    The usual reason is that the model was made for other valences than the data (VASP's Na has 1 or 7 electrons), which
    no other figure shows.
    """
    different = [row for row in rows if abs(row["electron_error"]) > SAME_ELECTRONS * abs(row.n_electrons)]
    if not different:
        return None
    worst = max(different, key=lambda row: abs(row["electron_error"] / row.n_electrons))
    return (
        f"the predicted number of electrons differs by more than {100 * SAME_ELECTRONS:g} % from the reference's in "
        f"{len(different)} of {len(rows)} structures, most in {worst.name} ({worst.formula}): "
        f"{worst.n_electrons_predicted:.4g} predicted, {worst.n_electrons:.4g} in the reference; "
        "check that the model was trained on the same kind of density (valence electrons per element, core electrons)"
    )


def summary_table(summary: dict[str, Any], *, title: str) -> Table:
    """Table of the figures for the terminal."""
    table = Table(title=escape(title), title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for measure in (EPS_MAD, *MEASURES):
        reduced = summary.get(measure.name)
        if isinstance(reduced, dict):
            for name in measure.shown:
                signed = "mean_absolute" in reduced and name == "mean"
                figure = f"{reduced[name]:+.3f}" if signed else f"{reduced[name]:.3f}"
                table.add_row(f"{measure.label} {STATISTICS.get(name, name)}", figure, measure.unit)
        elif reduced is not None:
            table.add_row(measure.label, f"{reduced:.3e}", measure.unit)
    _add_calibration(table, summary.get("calibration"))
    for label, deviation in summary.get("deviation", {}).items():
        table.add_row(escape(f"{label} from the median, mean"), f"{deviation:.3f}", "%")
    if "share_below_spread" in summary:
        table.add_row("structures with ε_mae below ε_mad", f"{100 * summary['share_below_spread']:.1f}", "%")
    table.add_row("structures", str(summary["n_structures"]), "")
    for key, text in (("widest", "widest spread"), ("worst", "worst")):
        if key in summary:
            table.add_row(text, escape(summary[key]), "")
    return table


def _add_calibration(table: Table, calibration: dict[str, Any] | None) -> None:
    """Add rows about expected and true errors."""
    if calibration is None:
        return
    if calibration["rank_correlation"] is not None:
        table.add_row("rank correlation of expected and true ε_mae", f"{calibration['rank_correlation']:.2f}", "")
    within = "structures within a factor of two of the expected ε_mae"
    table.add_row(within, f"{100 * calibration['coverage_2']:.1f}", "%")
    if calibration["fitted"]:
        table.add_row("ε_mae in units of the spread, fitted here", f"{calibration['spread_scale']:.3g}", "")
