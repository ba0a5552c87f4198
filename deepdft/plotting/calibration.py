"""Expected against true errors of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from deepdft.plotting.axes import plain_ticks, readable_log_axis
from deepdft.plotting.figure import BLUE, GREY, ORANGE, new_figure, plain

__all__ = ["calibration"]


def calibration(
    expected: ArrayLike, errors: ArrayLike, names: Sequence[str], *, title: str | None = None, named: int = 3
) -> Figure:
    """Expected against true errors of structures on logarithmic axes, with the diagonal and a factor of two around it.

    Args:
        expected: (n,) expected ε_mae in %, above zero.
        errors: (n,) ε_mae in %, above zero.
        names: n names.
        title: of the picture.
        named: the structures with the largest ratio of true to expected error are named, at most this many.

    Raises:
        ValueError: if there are no errors, or they are not as many as their expectations and names.
    """
    x, y = np.asarray(expected, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    if x.size == 0 or x.shape != y.shape or x.shape != (len(names),):
        raise ValueError(f"expected as many errors as expectations and names, got {y.shape}, {x.shape}, {len(names)}")
    x, y = x.clip(1e-12), y.clip(1e-12)
    low, high = min(x.min(), y.min()) / 2, max(x.max(), y.max()) * 2
    figure = new_figure(4.8, 4.6)
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", ylim=(low, high), aspect="equal")
    ends = np.array([low, high])
    axes.fill_between(ends, ends / 2, ends * 2, color=GREY, alpha=0.15, linewidth=0, label="within a factor of two")
    axes.plot(ends, ends, color="black", linewidth=1.0, label="expected = true")
    inside = (x <= 2 * y) & (y <= 2 * x)
    axes.plot(x[inside], y[inside], "o", color=BLUE, markersize=5, alpha=0.7)
    axes.plot(x[~inside], y[~inside], "o", color=ORANGE, markersize=5, alpha=0.8)
    for index in np.argsort(x / y)[:named]:
        if y[index] > 2 * x[index]:
            axes.annotate(
                plain(names[index]), (x[index], y[index]), xytext=(4, 4), textcoords="offset points", fontsize=8
            )
    readable_log_axis(axes, low, high)
    plain_ticks(axes.yaxis, low, high)
    axes.set(xlabel="expected $\\varepsilon_\\mathrm{mae}$ (%)", ylabel="$\\varepsilon_\\mathrm{mae}$ (%)")
    axes.set_title(plain(title or f"{len(x)} structures"), fontsize=11)
    axes.legend(frameon=False, loc="upper left", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
