"""Measures of the spin density m, spin up minus spin down."""

from __future__ import annotations

from deepdft.comparison import Comparison
from deepdft.measures.measure import Measure, Terms, listed, percent, signed, statistics

__all__ = ["SPIN_DENSITY"]

NO_MOMENT = 1e-3
"""Unpaired electrons per electron, ∫|m| / ∫ρ, below which a relative error of m is not defined."""


def _relative_moment(c: Comparison) -> Terms | None:
    moment = c.sums["difference"]
    if c.grid is not None and moment.reference_absolute <= NO_MOMENT * c.sums["total"].reference_absolute:
        return None
    return c.voxel * moment.absolute, c.voxel * moment.reference_absolute


def _absolute_moment_error(c: Comparison) -> Terms:
    sums = c.sums["difference"]
    return c.voxel * (sums.predicted_absolute - sums.reference_absolute), 1.0


SPIN_DENSITY: tuple[Measure, ...] = (
    Measure(
        "eps_mae_difference",
        "ε_mae of the spin density",
        "%",
        "∫|m̂ − m| / ∫|m| with the spin density m (up minus down), of structures that have a moment",
        _relative_moment,
        statistics,
        finish=percent,
        channel="difference",
        tex="$\\varepsilon_\\mathrm{mae}$ of the spin density",
    ),
    Measure(
        "difference_error_per_electron",
        "error of the spin density per electron",
        "%",
        "∫|m̂ − m| / ∫ρ with the spin density m (up minus down)",
        lambda c: (c.voxel * c.sums["difference"].absolute, c.voxel * c.sums["total"].reference_absolute),
        statistics,
        finish=percent,
        channel="difference",
    ),
    Measure(
        "moment",
        "moment",
        "μ_B",
        "∫m of the reference",
        lambda c: (c.voxel * c.sums["difference"].reference, 1.0),
        listed,
        channel="difference",
        whole_grid=True,
    ),
    Measure(
        "moment_error",
        "moment error",
        "μ_B",
        "∫(m̂ − m)",
        lambda c: (c.voxel * c.sums["difference"].signed, 1.0),
        signed,
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
        listed,
        channel="difference",
        whole_grid=True,
    ),
    Measure(
        "absolute_moment_error",
        "absolute moment error",
        "μ_B",
        "∫|m̂| − ∫|m|",
        _absolute_moment_error,
        signed,
        channel="difference",
        whole_grid=True,
        shown=("mean", "mean_absolute"),
    ),
)
"""Measures of the spin density, in the order of tables."""
