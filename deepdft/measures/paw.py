"""Measures of PAW augmentation occupancies."""

from __future__ import annotations

from deepdft.density import OCCUPANCIES
from deepdft.measures.measure import Measure, percent, statistics

__all__ = ["PAW_OCCUPANCIES"]

PAW_OCCUPANCIES: tuple[Measure, ...] = (
    Measure(
        "occupancy_error",
        "error of PAW occupancies",
        "% of spread",
        "root mean square error of the augmentation occupancies, over their standard deviation among training atoms of "
        "the element",
        lambda c: c.occupancies,
        statistics,
        finish=lambda quotient: percent(quotient**0.5),
        channel=OCCUPANCIES,
    ),
)
"""Measures of PAW occupancies; their channel is that of models that predict them."""
