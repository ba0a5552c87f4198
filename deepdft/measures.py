"""Measures of a predicted density, each declared once: validation, tables, summaries and reports all follow from it.

A measure of one structure is a quotient of two numbers that add up over points (`Measure.terms`), so every measure has
a value per structure and a value pooled over structures. To add one, append it to `MEASURES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepdft.comparison import Comparison, Number, Values
from deepdft.electrostatics import dipole_moment, hartree_energy

__all__ = [
    "EPS_MAD",
    "EPS_MAE",
    "MEASURES",
    "Measure",
    "Terms",
    "absolute_deviations",
    "flatten",
    "measures_of",
    "summarise",
]

NO_MOMENT = 1e-3
"""Structures with less than this many unpaired electrons per electron, ∫|m| / ∫ρ, have no relative error of m."""

Terms = tuple[Number, Number]
"""Numerator and denominator of a measure."""
Reduced = dict[str, float] | float | None
"""What a summary gives of a measure: statistics by name, one number, or nothing."""


@dataclass(frozen=True)
class Measure:
    """One way to say how far a prediction is from its reference."""

    name: str
    """Column of errors.csv and key of summary.json."""
    label: str
    """In tables."""
    unit: str
    """The unit of the values."""
    meaning: str
    """One clause that defines it."""
    terms: Callable[[Comparison], Terms | None]
    """Numerator and denominator for a structure; None where the measure is not defined."""
    reduce: Callable[[NDArray[np.float64], float], Reduced]
    """From values over structures, and the pooled value, to what a summary gives."""
    finish: Callable[[Number], Number] = lambda quotient: quotient
    """From the quotient of numerator and denominator to the value."""
    channel: str = "total"
    """Of the density."""
    whole_grid: bool = False
    """Whether it needs a grid, so that validation at random points does not have it."""
    shown: tuple[str, ...] = ("mean",)
    """Which statistics the table on the terminal shows."""
    tex: str = ""
    """Symbol for axes; empty for the label."""

    @property
    def axis_label(self) -> str:
        """Symbol and unit for the axis of a figure."""
        return f"{self.tex or self.label} ({self.unit})"

    @property
    def pooled_only(self) -> bool:
        """Whether a summary gives the value over all points and no statistics over structures."""
        return self.reduce is _pooled

    def value(self, numerator: Number, denominator: Number) -> Number:
        """The measure of one structure, or pooled over several."""
        return self.finish(numerator / denominator)


def measures_of(channels: Sequence[str], *, whole_grid: bool = True) -> list[Measure]:
    """The measures of a density with some channels, in the order of tables.

    Args:
        channels: names of the channels.
        whole_grid: whether the density is known on a whole grid.
    """
    return [m for m in MEASURES if m.channel in channels and (whole_grid or not m.whole_grid)]


def summarise(measure: Measure, terms: Sequence[Terms]) -> Reduced:
    """Statistics of a measure over structures, from the terms of each.

    Raises:
        ValueError: if there are no structures.
    """
    if not terms:
        raise ValueError("there are no structures to summarise")
    numerators, denominators = np.array(terms, dtype=np.float64).T
    values = np.array([measure.value(*pair) for pair in zip(numerators, denominators, strict=True)])
    return measure.reduce(values, float(measure.value(numerators.sum(), denominators.sum())))


def flatten(summary: Mapping[str, Any], measures: Sequence[Measure]) -> dict[str, float]:
    """The figures of a summary under names of one level, as loggers take them: "eps_mae_mean", "rmse", …"""
    found: dict[str, float] = {}
    for measure in measures:
        reduced = summary.get(measure.name)
        if isinstance(reduced, Mapping):
            found |= {f"{measure.name}_{statistic}": value for statistic, value in reduced.items()}
        elif reduced is not None:
            found[measure.name] = reduced
    return found


def absolute_deviations(densities: Values) -> Values:
    """|ρ_k - ρ_median| of K densities (K, …), with the median taken point by point.

    Source: Jørgensen & Bhowmik 2020, Eq. 8.
    """
    return np.abs(densities - np.median(densities, axis=0))


def _statistics(values: NDArray[np.float64], pooled: float) -> dict[str, float]:
    """Mean, median, 99th percentile and maximum over structures, and the pooled value."""
    return _distribution(values, pooled) | {"pooled": pooled}


def _distribution(values: NDArray[np.float64], pooled: float) -> dict[str, float]:
    """Mean, median, 99th percentile and maximum over structures."""
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p99": float(np.quantile(values, 0.99)),
        "max": float(values.max()),
    }


def _signed(values: NDArray[np.float64], pooled: float) -> dict[str, float]:
    """Means with and without the sign over structures, and the largest magnitude."""
    return {
        "mean": float(values.mean()),
        "mean_absolute": float(np.abs(values).mean()),
        "max_absolute": float(np.abs(values).max()),
    }


def _pooled(values: NDArray[np.float64], pooled: float) -> float:
    """The value over all points of all structures."""
    return pooled


def _listed(values: NDArray[np.float64], pooled: float) -> None:
    """Nothing: a property of the structures that errors.csv lists beside their errors."""


def _percent(fraction: Number) -> Number:
    return 100.0 * fraction


def _relative(c: Comparison) -> Terms:
    sums = c.sums["total"]
    return c.voxel * sums.absolute, c.voxel * sums.reference_absolute


def _relative_scaled(c: Comparison) -> Terms:
    """Σ|f ρ̂ - ρ| with f = Σρ / Σρ̂; f = 1 where that is not above zero."""
    sums, predicted, reference = c.sums["total"], c.predicted["total"], c.reference["total"]
    factor = sums.reference / (sums.reference + sums.signed or np.inf)
    factor = np.float64(factor if factor > 0 else 1.0)  # in float64 the product is too
    at_once = 2**16
    parts = (slice(start, start + at_once) for start in range(0, len(reference), at_once))
    absolute = sum(np.abs(factor * predicted[part] - reference[part]).sum() for part in parts)
    return c.voxel * absolute, c.voxel * sums.reference_absolute


def _dipole(c: Comparison) -> Terms | None:
    if c.grid is None or not c.isolated:
        return None
    return float(np.linalg.norm(dipole_moment(c.difference, c.grid.atoms, c.grid.origin))), 1.0


def _hartree(c: Comparison) -> Terms | None:
    electrons = c.voxel * c.sums["total"].reference
    if c.grid is None or not electrons > 0:
        return None
    return 1000.0 * hartree_energy(c.difference, c.grid.atoms, c.grid.origin, device=c.device), electrons


def _expected(c: Comparison) -> Terms | None:
    return None if c.spread is None or c.scale is None else (c.scale * c.spread[0], c.spread[1])


def _relative_moment(c: Comparison) -> Terms | None:
    moment = c.sums["difference"]
    if c.grid is not None and moment.reference_absolute <= NO_MOMENT * c.sums["total"].reference_absolute:
        return None
    return c.voxel * moment.absolute, c.voxel * moment.reference_absolute


def _absolute_moment_error(c: Comparison) -> Terms:
    sums = c.sums["difference"]
    return c.voxel * (sums.predicted_absolute - sums.reference_absolute), 1.0


EPS_MAE = Measure(
    "eps_mae",
    "ε_mae",
    "%",
    "∫|ρ̂ − ρ| / ∫|ρ| (Jørgensen & Bhowmik 2020, Eq. 7)",
    _relative,
    _statistics,
    finish=_percent,
    shown=("mean", "median", "p99", "max", "pooled"),
    tex="$\\varepsilon_\\mathrm{mae}$",
)

EPS_MAD = Measure(
    "eps_mad",
    "ε_mad",
    "%",
    "∫(1/K) Σ_k |ρ_k − ρ_median| / ∫|ρ_reference| over K densities (Jørgensen & Bhowmik 2020, Eq. 8)",
    lambda c: None,  # a measure of an ensemble, not of a prediction
    _statistics,
    finish=_percent,
    shown=("mean", "median", "p99", "max", "pooled"),
    tex="$\\varepsilon_\\mathrm{mad}$",
)

MEASURES: tuple[Measure, ...] = (
    EPS_MAE,
    Measure(
        "eps_mae_scaled",
        "ε_mae, scaled to the electron count",
        "%",
        "ε_mae of the prediction times the factor that gives it the reference's number of electrons",
        _relative_scaled,
        _statistics,
        finish=_percent,
        whole_grid=True,
    ),
    Measure(
        "mae",
        "MAE",
        "e/Å³",
        "mean of |ρ̂ − ρ| over the points",
        lambda c: (c.sums["total"].absolute, c.sums["total"].n_points),
        _pooled,
    ),
    Measure(
        "rmse",
        "RMSE",
        "e/Å³",
        "square root of the mean of (ρ̂ − ρ)² over the points",
        lambda c: (c.sums["total"].squared, c.sums["total"].n_points),
        _pooled,
        finish=lambda mean: mean**0.5,
    ),
    Measure(
        "electron_error",
        "electron error",
        "e",
        "∫(ρ̂ − ρ)",
        lambda c: (c.voxel * c.sums["total"].signed, 1.0),
        _signed,
        whole_grid=True,
        shown=("mean", "mean_absolute"),
    ),
    Measure(
        "dipole_error",
        "dipole error",
        "e Å",
        "|μ̂ − μ| of molecules, about the centre of nuclear charge",
        _dipole,
        _distribution,
        whole_grid=True,
    ),
    Measure(
        "hartree_error",
        "Hartree energy of the error",
        "meV/electron",
        "½∬Δρ(r)Δρ(r′)/|r − r′| with Δρ = ρ̂ − ρ; open boundaries for molecules, periodic without G = 0 otherwise",
        _hartree,
        _statistics,
        whole_grid=True,
    ),
    Measure(
        "spread",
        "spread of the ensemble",
        "%",
        "∫(1/K) Σ_k |ρ̂_k − median| / ∫|ρ̂| over the K members of an ensemble: ε_mad of its members",
        lambda c: c.spread,
        _statistics,
        finish=_percent,
        whole_grid=True,
    ),
    Measure(
        "expected_eps_mae",
        "expected ε_mae",
        "%",
        "the spread of the ensemble times a factor that was fitted to validation structures",
        _expected,
        _statistics,
        finish=_percent,
        whole_grid=True,
    ),
    Measure(
        "eps_mae_difference",
        "ε_mae of the spin density",
        "%",
        "∫|m̂ − m| / ∫|m| with the spin density m (up minus down), of structures that have a moment",
        _relative_moment,
        _statistics,
        finish=_percent,
        channel="difference",
        tex="$\\varepsilon_\\mathrm{mae}$ of the spin density",
    ),
    Measure(
        "difference_error_per_electron",
        "error of the spin density per electron",
        "%",
        "∫|m̂ − m| / ∫ρ with the spin density m (up minus down)",
        lambda c: (c.voxel * c.sums["difference"].absolute, c.voxel * c.sums["total"].reference_absolute),
        _statistics,
        finish=_percent,
        channel="difference",
    ),
    Measure(
        "moment",
        "moment",
        "μ_B",
        "∫m of the reference",
        lambda c: (c.voxel * c.sums["difference"].reference, 1.0),
        _listed,
        channel="difference",
        whole_grid=True,
    ),
    Measure(
        "moment_error",
        "moment error",
        "μ_B",
        "∫(m̂ − m)",
        lambda c: (c.voxel * c.sums["difference"].signed, 1.0),
        _signed,
        channel="difference",
        whole_grid=True,
        shown=("mean", "mean_absolute"),
    ),
    Measure(
        "absolute_moment",
        "absolute moment",
        "μ_B",
        "∫|m| of the reference",
        lambda c: (c.voxel * c.sums["difference"].reference_absolute, 1.0),
        _listed,
        channel="difference",
        whole_grid=True,
    ),
    Measure(
        "absolute_moment_error",
        "absolute moment error",
        "μ_B",
        "∫|m̂| − ∫|m|",
        _absolute_moment_error,
        _signed,
        channel="difference",
        whole_grid=True,
        shown=("mean", "mean_absolute"),
    ),
)
"""All measures of a prediction, in the order of tables."""
