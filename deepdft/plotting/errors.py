"""Errors of many structures: histograms, and distributions of several kinds side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from deepdft.plotting.axes import readable_log_axis
from deepdft.plotting.figure import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure, plain

__all__ = ["error_distributions", "error_histogram", "outlier_indices"]

FEW_STRUCTURES = 10
"""Number of structures below which they are drawn as points; bars would suggest a distribution."""


def error_histogram(
    errors: ArrayLike,
    names: Sequence[str],
    *,
    quantity: str = "$\\varepsilon_\\mathrm{mae}$ (%)",
    title: str | None = None,
    named: int = 5,
) -> Figure:
    """Histogram of errors on a logarithmic axis, with mean, median, and the outliers marked and named.

    Fewer than `FEW_STRUCTURES` are drawn as a strip of points, each with its name.

    Outliers lie above the third quartile by more than 1.5 times the distance of the quartiles of log(error)
    (Tukey's fence); the largest `named` are named, and the largest error always is.

    Args:
        errors: (n,) above zero.
        names: n names.
        quantity: label of the axis with its unit.
        title: of the picture.
        named: at most this many names.

    Raises:
        ValueError: if there are no errors, or names and errors differ in number.
    """
    values = np.asarray(errors, dtype=np.float64)
    if values.size == 0 or values.shape != (len(names),):
        raise ValueError(f"a histogram needs as many names as errors, got {values.shape} and {len(names)} names")
    values = values.clip(1e-12)
    few = len(values) < FEW_STRUCTURES
    figure = new_figure(6.4, 3.2 if few else 4.0)
    axes = figure.subplots()
    low, high = values.min() / 1.15, values.max() * 1.15
    axes.set_xscale("log")
    readable_log_axis(axes, low, high)
    axes.axvline(values.mean(), color=ORANGE, linewidth=1.6, label=f"mean {values.mean():.3g}")
    median = np.median(values)
    axes.axvline(median, color="black", linewidth=1.6, linestyle="--", label=f"median {median:.3g}")
    if few:
        _strip(axes, values, names)
    else:
        _bars(axes, values, names, low=low, high=high, named=named)
    axes.set(xlabel=quantity, title=plain(title or f"{len(values)} structures"))
    axes.legend(frameon=False, loc="upper left", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _strip(axes: Axes, values: NDArray[np.floating], names: Sequence[str]) -> None:
    """Draw a point with its name for every structure."""
    axes.plot(values, np.zeros(len(values)), "o", color=BLUE, markersize=8, alpha=0.75, clip_on=False, zorder=5)
    axes.set_ylim(0, 1)
    _name(axes, values, names, base=0.0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _bars(
    axes: Axes, values: NDArray[np.floating], names: Sequence[str], *, low: float, high: float, named: int
) -> None:
    """Draw a histogram with its outliers marked and named."""
    edges = np.geomspace(low, high, int(np.clip(2 * len(values) ** 0.5, 6, 60)) + 1)
    counts, _ = np.histogram(values, edges)
    axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.75)
    axes.vlines(edges, 0, np.maximum(np.append(counts, 0), np.append(0, counts)), color="white", linewidth=0.6)
    axes.set_ylim(0, 1.25 * counts.max())
    outliers = outlier_indices(values)
    marked = outliers or [int(np.argmax(values))]
    largest = f"largest: {plain(names[marked[0]])} {values[marked[0]]:.3g}"
    label = f"outliers ({len(outliers)})" if outliers else largest
    zeros = np.zeros(len(marked))
    axes.plot(values[marked], zeros, "v", color=PURPLE, markersize=8, clip_on=False, zorder=5, label=label)
    if outliers:
        chosen = outliers[:named]
        beside = counts[edges[1:] > values[chosen].min() / 1.1].max() / (1.25 * counts.max())
        _name(axes, values[chosen], [names[index] for index in chosen], base=min(beside, 0.4))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("structures")


def error_distributions(
    series: Mapping[str, Mapping[str, float]],
    *,
    quantity: str = "error (% of the electrons)",
    title: str | None = None,
    named: int = 3,
) -> Figure:
    """Distributions of several kinds of errors on one logarithmic axis, in percent of structures, with means.

    Series of fewer than `FEW_STRUCTURES` are drawn as points.

    Args:
        series: what is measured → name of a structure → error, above zero.
        quantity: label of the axis with its unit.
        title: of the picture.
        named: at most this many outliers of the first series are named.

    Raises:
        ValueError: if a series is empty.

    Source: Figure 3 of Jørgensen & Bhowmik 2020.
    """
    if not series or not all(series.values()):
        raise ValueError("a histogram needs at least one error of each kind")
    values = {what: np.array(list(errors.values()), dtype=np.float64).clip(1e-12) for what, errors in series.items()}
    low = min(errors.min() for errors in values.values()) / 1.15
    high = max(errors.max() for errors in values.values()) * 1.15
    n_bins = int(np.clip(2 * max(map(len, values.values())) ** 0.5, 10, 80))
    edges = np.geomspace(low, high, n_bins + 1)
    shares = {
        what: 100.0 * np.histogram(errors, edges)[0] / len(errors)
        for what, errors in values.items()
        if len(errors) >= FEW_STRUCTURES
    }
    top = max((share.max() for share in shares.values()), default=100.0)
    figure = new_figure(6.8, 4.2 if shares else 3.2)
    axes = figure.subplots()
    axes.set(xscale="log", xlim=(low, high), ylim=(0, 1.3 * top))
    for place, ((what, errors), colour) in enumerate(
        zip(values.items(), (BLUE, ORANGE, GREEN, PURPLE, GREY) * 3, strict=False)
    ):
        label = f"{what}: mean {errors.mean():.3g} ({len(errors)})"
        axes.axvline(errors.mean(), color=colour, linewidth=1.4, linestyle="--")
        if what in shares:
            _share_bars(axes, errors, shares[what], edges, colour=colour, label=label)
        else:
            height = 0.02 + 0.05 * place if shares else 0.04 + 0.6 * place / len(values)
            heights = np.full(len(errors), 1.3 * top * height)
            axes.plot(errors, heights, "o", color=colour, markersize=7, alpha=0.75, zorder=5, label=label)
    readable_log_axis(axes, low, high)
    what, errors = next(iter(values.items()))
    chosen = outlier_indices(errors)[:named] if what in shares else []
    if chosen:
        beside = max(share[edges[1:] > errors[chosen].min() / 1.1].max() for share in shares.values()) / (1.3 * top)
        names = list(series[what])
        _name(axes, errors[chosen], [names[index] for index in chosen], base=min(beside, 0.4))
    axes.set(xlabel=quantity, title=plain(title or ""))
    if shares:
        axes.set_ylabel("structures (%)")
        axes.set_yticks([tick for tick in MaxNLocator(6).tick_values(0, top) if tick <= 100])
    else:
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    axes.legend(loc="upper left", facecolor="white", edgecolor="none", framealpha=0.85)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _share_bars(
    axes: Axes,
    errors: NDArray[np.floating],
    shares: NDArray[np.floating],
    edges: NDArray[np.floating],
    *,
    colour: str,
    label: str,
) -> None:
    """Draw the histogram of one series among several, with its outliers marked."""
    axes.stairs(shares, edges, fill=True, color=colour, alpha=0.35)
    axes.stairs(shares, edges, color=colour, linewidth=1.2, label=label)
    outliers = outlier_indices(errors)
    zeros = np.zeros(len(outliers))
    axes.plot(errors[outliers], zeros, "v", color=colour, markersize=8, clip_on=False, zorder=5)


def outlier_indices(errors: NDArray[np.floating]) -> list[int]:
    """Indices of errors above Tukey's upper fence of log(error), the largest first."""
    logs = np.log(errors)
    first, third = np.quantile(logs, [0.25, 0.75])
    above = np.flatnonzero(logs > third + 1.5 * (third - first) + 1e-9)
    return [int(index) for index in above[np.argsort(-errors[above], kind="stable")]]


def _name(axes: Axes, values: NDArray[np.floating], names: Sequence[str], *, base: float) -> None:
    """Write names vertically above their errors, shifted to the left where they would overlap.

    `base` is the height of the bars there, as a fraction of the axes.
    """
    right = 0.985
    for index in np.argsort(-values):
        x = axes.transAxes.inverted().transform(axes.transData.transform((values[index], 0.0)))[0]
        right = min(x, right)
        axes.annotate(
            f"{plain(names[index])}  {values[index]:.3g}",
            xy=(values[index], 0.0),
            xycoords=("data", "axes fraction"),
            xytext=(right, base + 0.1),
            textcoords="axes fraction",
            ha="center",
            va="bottom",
            rotation=90,
            fontsize=8,
            color=PURPLE,
            path_effects=[patheffects.withStroke(linewidth=2.5, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": PURPLE, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4},
        )
        right -= 0.035
