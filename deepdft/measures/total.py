"""Measures of the total density."""

from __future__ import annotations

import numpy as np

from deepdft import chunks
from deepdft.comparison import Comparison
from deepdft.electrostatics import dipole_moment, hartree_energy
from deepdft.measures.measure import Measure, Terms, distribution, percent, pooled_value, signed, statistics

__all__ = ["EPS_MAD", "EPS_MAE", "TOTAL_DENSITY"]


def _relative(c: Comparison) -> Terms:
    sums = c.sums["total"]
    return c.voxel * sums.absolute, c.voxel * sums.reference_absolute


def _relative_scaled(c: Comparison) -> Terms:
    """Σ|f ρ̂ - ρ| with f = Σρ / Σρ̂; f = 1 where that is not above zero."""
    sums, predicted, reference = c.sums["total"], c.predicted["total"], c.reference["total"]
    factor = sums.reference / (sums.reference + sums.signed or np.inf)
    factor = np.float64(factor if factor > 0 else 1.0)  # in float64, so that the product is too
    parts = (slice(i, i + chunks.CPU.points_scaled) for i in range(0, len(reference), chunks.CPU.points_scaled))
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
    electrons = c.voxel * c.sums["total"].predicted_absolute
    return None if c.expected is None else (c.expected / 100.0 * electrons, electrons)


def _novelty(c: Comparison) -> Terms | None:
    return None if c.novelty is None else (c.novelty, 1.0)


def _outside(c: Comparison) -> Terms | None:
    return None if c.outside is None else (float(c.outside), 1.0)


EPS_MAE = Measure(
    "eps_mae",
    "ε_mae",
    "%",
    "∫|ρ̂ − ρ| / ∫|ρ| (Jørgensen & Bhowmik 2020, Eq. 7)",
    _relative,
    statistics,
    finish=percent,
    shown=("mean", "median", "p99", "max", "pooled"),
    tex="$\\varepsilon_\\mathrm{mae}$",
)

EPS_MAD = Measure(
    "eps_mad",
    "ε_mad",
    "%",
    "∫(1/K) Σ_k |ρ_k − ρ_median| / ∫|ρ_reference| over K densities (Jørgensen & Bhowmik 2020, Eq. 8)",
    lambda c: None,  # a measure of an ensemble, not of a prediction
    statistics,
    finish=percent,
    shown=("mean", "median", "p99", "max", "pooled"),
    tex="$\\varepsilon_\\mathrm{mad}$",
)

TOTAL_DENSITY: tuple[Measure, ...] = (
    EPS_MAE,
    Measure(
        "eps_mae_scaled",
        "ε_mae, scaled to the electron count",
        "%",
        "ε_mae of the prediction times the factor that gives it the reference's number of electrons",
        _relative_scaled,
        statistics,
        finish=percent,
        whole_grid=True,
    ),
    Measure(
        "mae",
        "MAE",
        "e/Å³",
        "mean of |ρ̂ − ρ| over the points",
        lambda c: (c.sums["total"].absolute, c.sums["total"].n_points),
        pooled_value,
    ),
    Measure(
        "rmse",
        "RMSE",
        "e/Å³",
        "square root of the mean of (ρ̂ − ρ)² over the points",
        lambda c: (c.sums["total"].squared, c.sums["total"].n_points),
        pooled_value,
        finish=lambda mean: mean**0.5,
    ),
    Measure(
        "electron_error",
        "electron error",
        "e",
        "∫(ρ̂ − ρ)",
        lambda c: (c.voxel * c.sums["total"].signed, 1.0),
        signed,
        whole_grid=True,
        shown=("mean", "mean_absolute"),
    ),
    Measure(
        "dipole_error",
        "dipole error",
        "e Å",
        "|μ̂ − μ| of molecules, about the centre of nuclear charge",
        _dipole,
        distribution,
        whole_grid=True,
    ),
    Measure(
        "hartree_error",
        "Hartree energy of the error",
        "meV/electron",
        "½∬Δρ(r)Δρ(r′)/|r − r′| with Δρ = ρ̂ − ρ; open boundaries for molecules, periodic without G = 0 otherwise",
        _hartree,
        statistics,
        whole_grid=True,
    ),
    Measure(
        "spread",
        "spread of the ensemble",
        "%",
        "∫(1/K) Σ_k |ρ̂_k − median| / ∫|ρ̂| over the K members of an ensemble: ε_mad of its members",
        lambda c: c.spread,
        statistics,
        finish=percent,
        whole_grid=True,
    ),
    Measure(
        "expected_eps_mae",
        "expected ε_mae",
        "%",
        "what the checkpoint leads to expect: calibrated on validation structures, and missing for what is outside",
        _expected,
        statistics,
        finish=percent,
        whole_grid=True,
    ),
    Measure(
        "novelty",
        "largest novelty of an atom",
        "of the limit",
        "how unlike the training set its surroundings are; above 1 the structure is outside",
        _novelty,
        distribution,
        whole_grid=True,
        shown=("median", "max"),
    ),
    Measure(
        "outside",
        "outside the training set",
        "of structures",
        "1 for a structure with an atom beyond the limit or of a new element, or periodic as no training structure is",
        _outside,
        distribution,
        whole_grid=True,
        shown=("mean",),
    ),
)
"""Measures of the total density, in the order of tables."""
