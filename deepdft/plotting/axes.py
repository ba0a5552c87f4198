"""Logarithmic axes whose ticks are plain numbers."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

__all__ = ["plain_ticks", "readable_log_axis"]


def readable_log_axis(axes: Axes, low: float, high: float) -> None:
    """Give the horizontal axis ticks that are plain numbers."""
    axes.set_xlim(low, high)
    plain_ticks(axes.xaxis, low, high)


def plain_ticks(axis: Axis, low: float, high: float) -> None:
    """Set ticks of a logarithmic axis to plain numbers; within about a decade 1, 2, 5 … are all labelled."""
    coarse = ((300, (1.0,)), (6, (1.0, 2.0, 5.0)), (2.5, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)))
    subs = next((subs for ratio, subs in coarse if high / low > ratio), tuple(np.arange(1.0, 10.0, 0.5)))
    axis.set_major_locator(LogLocator(subs=subs))
    formatter = ScalarFormatter()
    formatter.set_scientific(False)
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(NullFormatter())
