"""Errors of predicted densities over the full grids of a store, one structure after the other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deepdft.density import DensityGrid
from deepdft.evaluation.parts import StructureRow, write_table
from deepdft.inference.encoded import EncodedStructure
from deepdft.models.base import DensityModel

__all__ = [
    "COLUMNS",
    "References",
    "StructureErrors",
    "evaluate",
    "evaluate_structure",
    "structure_errors",
    "write_csv",
]

COLUMNS = (
    "name",
    "formula",
    "n_atoms",
    "n_points",
    "n_electrons",
    "eps_mae",
    "eps_mae_scaled",
    "mae",
    "rmse",
    "electron_error",
)
"""The columns of errors.csv."""


class References(Protocol):
    """Reference densities: a density store, or an ensemble."""

    names: list[str]
    """Of the structures."""

    def density(self, i: int, label: str | None = None) -> DensityGrid:
        """Structure `i` with one of its densities."""


@dataclass(frozen=True)
class StructureErrors(StructureRow):
    """How far a predicted density is from its reference, over the whole grid of one structure."""

    eps_mae: float
    """∫|ρ - ρ̂| / ∫|ρ| in %."""
    eps_mae_scaled: float
    """The same of the prediction times a factor that makes its integral that of the reference, in %."""
    mae: float
    """Mean of |ρ - ρ̂| in e/Å³."""
    rmse: float
    """Root of the mean of (ρ - ρ̂)² in e/Å³."""
    electron_error: float
    """Integral of the predicted minus integral of the reference density, in electrons."""
    absolute_error: float
    """∫|ρ - ρ̂| in electrons: the numerator of eps_mae."""
    absolute_density: float
    """∫|ρ| in electrons: the denominator of eps_mae."""


def structure_errors(
    model: DensityModel,
    reference: DensityGrid,
    *,
    pbc: bool | None = None,
    position: int = 0,
    name: str = "",
) -> StructureErrors:
    """Predict a density on the grid of its reference and compare; sums are in float64.

    Args:
        model: in evaluation mode.
        reference: density on its full grid.
        pbc: None as the structure has it, True forced on, False ignored.
        position: of the structure in its store.
        name: of the structure in its store.

    Raises:
        ValueError: if the reference is zero everywhere, or a prediction is not finite.

    Source: ε_mae is Eq. 7 of Jørgensen & Bhowmik 2020.
    """
    encoded = EncodedStructure(model, reference.atoms, pbc=pbc)
    values = reference.values.ravel()
    predicted = np.empty_like(values)
    sums = np.zeros(4)  # Σ(ρ̂ - ρ), Σ|ρ̂ - ρ|, Σ(ρ̂ - ρ)², Σ|ρ|
    parts = [slice(start, start + encoded.slice_size) for start in encoded.starts(values.size)]
    for part in parts:
        exact = values[part].astype(np.float64)
        predicted[part] = encoded.density_on_grid(reference, part)
        difference = predicted[part] - exact
        sums += difference.sum(), np.abs(difference).sum(), (difference**2).sum(), np.abs(exact).sum()
    if not np.isfinite(sums).all():
        raise ValueError(f"{name}: the predicted density is not finite; the checkpoint's training has diverged")
    if sums[3] == 0:
        raise ValueError(f"{name}: the reference density is zero everywhere: a relative error is not defined")
    signed, absolute, squared, density = sums.tolist()
    return StructureErrors(
        position=position,
        name=name,
        formula=reference.atoms.get_chemical_formula(),
        n_atoms=len(reference.atoms),
        n_points=values.size,
        n_electrons=reference.n_electrons,
        eps_mae=100.0 * absolute / density,
        eps_mae_scaled=100.0 * _absolute_error_scaled(predicted, values, parts) / density,
        mae=absolute / values.size,
        rmse=float(np.sqrt(squared / values.size)),
        electron_error=signed * reference.voxel_volume,
        absolute_error=absolute * reference.voxel_volume,
        absolute_density=density * reference.voxel_volume,
    )


def _absolute_error_scaled(
    predicted: NDArray[np.floating], exact: NDArray[np.floating], parts: Sequence[slice]
) -> float:
    """Σ|f ρ̂ - ρ| with f = Σρ / Σρ̂; where that is not above zero, f = 1."""
    factor = exact.sum(dtype=np.float64) / (predicted.sum(dtype=np.float64) or np.inf)
    factor = np.float64(factor if factor > 0 else 1.0)  # in float64 the product is too
    return float(sum(np.abs(factor * predicted[part] - exact[part]).sum() for part in parts))


def evaluate_structure(
    model: DensityModel,
    store: References,
    position: int,
    *,
    pbc: bool | None = None,
    label: str | None = None,
) -> StructureErrors:
    """Errors of one structure of a store; the arguments are those of `evaluate`."""
    reference = store.density(position, label=label)
    return structure_errors(model, reference, pbc=pbc, position=position, name=store.names[position])


def evaluate(
    model: DensityModel,
    store: References,
    positions: Iterable[int],
    *,
    pbc: bool | None = None,
    label: str | None = None,
) -> Iterator[StructureErrors]:
    """Errors of some structures of a store.

    Args:
        model: in evaluation mode.
        store: the references.
        positions: which structures.
        pbc: None as the structures have it, True forced on, False ignored.
        label: which density of an ensemble store; None for its first.
    """
    for position in positions:
        yield evaluate_structure(model, store, position, pbc=pbc, label=label)


def write_csv(path: str | os.PathLike[str], rows: Sequence[StructureErrors]) -> None:
    """Write errors.csv, beside first and then renamed."""
    write_table(path, {column: [getattr(row, column) for row in rows] for column in COLUMNS})
