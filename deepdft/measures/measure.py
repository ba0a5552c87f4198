"""The definition of a measure of a predicted density, and statistics of its values over structures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepdft.comparison import Comparison, Number

__all__ = [
    "Measure",
    "Reduced",
    "Terms",
    "distribution",
    "flatten",
    "listed",
    "percent",
    "pooled_value",
    "signed",
    "statistics",
    "summarise",
]

Terms = tuple[Number, Number]
"""Numerator and denominator of a measure."""
Reduced = dict[str, float] | float | None
"""Entry of a measure in a summary: statistics by name, one number, or nothing."""


@dataclass(frozen=True)
class Measure:
    """A measure of how far a prediction is from its reference."""

    name: str
    """Column of errors.csv and key of summary.json."""
    label: str
    """Name in tables."""
    unit: str
    """The unit of the values."""
    meaning: str
    """One clause that defines it."""
    terms: Callable[[Comparison], Terms | None]
    """Numerator and denominator for a structure; None where the measure is not defined."""
    reduce: Callable[[NDArray[np.float64], float], Reduced]
    """Reduces the values of all structures, and the pooled value, to the entry of a summary."""
    finish: Callable[[Number], Number] = lambda quotient: quotient
    """Turns the quotient of numerator and denominator into the value."""
    channel: str = "total"
    """The channel of the density that it measures."""
    whole_grid: bool = False
    """Whether it needs the whole grid, so that validation at random points cannot compute it."""
    shown: tuple[str, ...] = ("mean",)
    """Statistics that the table on the terminal shows."""
    tex: str = ""
    """Symbol for axes in TeX; empty to use the label."""

    @property
    def axis_label(self) -> str:
        """Symbol and unit for the axis of a figure."""
        return f"{self.tex or self.label} ({self.unit})"

    @property
    def pooled_only(self) -> bool:
        """Whether a summary gives the value over all points and no statistics over structures."""
        return self.reduce is pooled_value

    def value(self, numerator: Number, denominator: Number) -> Number:
        """The measure of one structure, or pooled over several."""
        return self.finish(numerator / denominator)


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


def statistics(values: NDArray[np.float64], pooled: float) -> dict[str, float]:
    """Mean, median, 99th percentile and maximum over structures, and the pooled value."""
    return distribution(values, pooled) | {"pooled": pooled}


def distribution(values: NDArray[np.float64], pooled: float) -> dict[str, float]:
    """Mean, median, 99th percentile and maximum over structures."""
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p99": float(np.quantile(values, 0.99)),
        "max": float(values.max()),
    }


def signed(values: NDArray[np.float64], pooled: float) -> dict[str, float]:
    """Mean with sign, mean magnitude and largest magnitude over structures."""
    return {
        "mean": float(values.mean()),
        "mean_absolute": float(np.abs(values).mean()),
        "max_absolute": float(np.abs(values).max()),
    }


def pooled_value(values: NDArray[np.float64], pooled: float) -> float:
    """The value over all points of all structures."""
    return pooled


def listed(values: NDArray[np.float64], pooled: float) -> None:
    """Nothing: properties of structures, which errors.csv lists beside their errors, have no summary."""


def percent(fraction: Number) -> Number:
    """A fraction as a percentage."""
    return 100.0 * fraction
