"""Measures of a predicted density, each declared once: validation, tables, summaries and reports all follow from it.

A measure of one structure is a quotient of two numbers that add up over points (`Measure.terms`), so every measure has
a value per structure and a value pooled over structures. To add one, append it to `total.py` or `spin.py`.
"""

from collections.abc import Sequence

import numpy as np

from deepdft.comparison import Values
from deepdft.measures.measure import Measure, Terms, flatten, summarise
from deepdft.measures.paw import PAW_OCCUPANCIES
from deepdft.measures.spin import SPIN_DENSITY
from deepdft.measures.total import EPS_MAD, EPS_MAE, TOTAL_DENSITY

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

MEASURES: tuple[Measure, ...] = TOTAL_DENSITY + SPIN_DENSITY + PAW_OCCUPANCIES
"""All measures of a prediction, in the order of tables."""


def measures_of(channels: Sequence[str], *, whole_grid: bool = True) -> list[Measure]:
    """The measures of a density with some channels, in the order of tables.

    Args:
        channels: names of the channels, and "occupancies" of a model that predicts them.
        whole_grid: whether the density is known on a whole grid.
    """
    return [m for m in MEASURES if m.channel in channels and (whole_grid or not m.whole_grid)]


def absolute_deviations(densities: Values) -> Values:
    """|ρ_k - ρ_median| of K densities (K, …), with the median taken point by point.

    Source: Jørgensen & Bhowmik 2020, Eq. 8.
    """
    return np.abs(densities - np.median(densities, axis=0))
