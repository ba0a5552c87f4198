"""Learning curves: errors against training steps or time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, ScalarFormatter
from numpy.typing import ArrayLike

from deepdft.plotting.figure import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure

__all__ = ["learning_curves"]


def learning_curves(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    quantity: str = "$\\varepsilon_\\mathrm{mae}$ (%)",
    x_label: str = "training steps",
    title: str | None = None,
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """Errors against steps (or time) on logarithmic axes, each curve named at its end.

    Args:
        curves: name → (x, errors), each (n,); points without a finite error are left out.
        quantity: label of the vertical axis with its unit.
        x_label: label of the horizontal axis.
        title: of the picture.
        levels: name → error of a yardstick, drawn as a dotted line.

    Raises:
        ValueError: if there is no curve with a point.
    """
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    styles = zip((BLUE, ORANGE, GREEN, PURPLE, GREY, "black") * 3, "os^Dv*" * 3, strict=True)
    drawn = 0
    for (name, (x, y)), (colour, marker) in zip(curves.items(), styles, strict=False):
        steps, errors = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        usable = np.isfinite(errors) & np.isfinite(steps) & (steps > 0)
        if usable.any():
            drawn += 1
            label = f"{name}: {errors[usable][-1]:.3g}"
            every = max(1, int(usable.sum()) // 12)
            axes.plot(
                steps[usable],
                errors[usable],
                color=colour,
                marker=marker,
                markevery=every,
                markersize=4,
                label=label,
            )
    if drawn == 0:
        raise ValueError("no learning curve has a point to draw")
    for name, level in (levels or {}).items():
        axes.axhline(level, color=GREY, linestyle=":", linewidth=1.2)
        axes.annotate(
            f"{name} {level:.3g}",
            (0.01, level),
            xycoords=("axes fraction", "data"),
            color=GREY,
            fontsize=8,
            va="bottom",
        )
    axes.set(xscale="log", yscale="log", xlabel=x_label, ylabel=quantity, title=title or "")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    first, last = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if last / first > 1000 else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(ScalarFormatter() if first < 1 else EngFormatter(sep=""))  # 0.5; 500, 2k, 1M
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
