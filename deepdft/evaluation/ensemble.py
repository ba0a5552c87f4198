"""ε_mad: the spread of K densities of each structure, plane by plane in little memory."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepdft import chunks
from deepdft.density import volume
from deepdft.evaluation import errors as model_errors
from deepdft.evaluation.ensemble_structure import EnsembleStructure
from deepdft.evaluation.errors import StructureErrors
from deepdft.evaluation.parts import StructureRow, write_table
from deepdft.measures import EPS_MAD, Terms, absolute_deviations

__all__ = ["StructureSpread", "deviation_at", "reference_label", "structure_spread", "write_csv"]


@dataclass(frozen=True)
class StructureSpread(StructureRow):
    """The spread of K densities of one structure over its whole grid."""

    electron_spread: float
    """Largest minus smallest integral of the K densities, in electrons."""
    deviations: dict[str, float]
    """∫|ρ_k - ρ_median| / ∫|ρ_reference| in % for each density; their mean is eps_mad."""
    terms: Terms
    """∫(1/K) Σ_k |ρ_k - ρ_median| and ∫|ρ_reference| in electrons: numerator and denominator of eps_mad."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple(self.terms))  # JSON turns tuples into lists

    @property
    def eps_mad(self) -> float:
        """∫(1/K) Σ_k |ρ_k - ρ_median| / ∫|ρ_reference| in %."""
        return float(EPS_MAD.value(*self.terms))


def structure_spread(structure: EnsembleStructure, reference: str, *, index: int = 0) -> StructureSpread:
    """The spread of the densities of one structure; sums are in float64, memory is bounded.

    Args:
        structure: with its K densities.
        reference: label of the density in the denominator.
        index: of the structure in its ensemble.

    Raises:
        ValueError: if a density is not finite, or the reference is zero everywhere.

    Source: ε_mad is Eq. 8 of Jørgensen & Bhowmik 2020; the median is taken point by point.
    """
    labels = list(structure.planes)
    deviations, electrons, density = np.zeros(len(labels)), np.zeros(len(labels)), 0.0
    for planes in _slabs(structure):
        rho = np.stack([structure.planes[label](planes).astype(np.float64) for label in labels])  # (K, planes, ny, nz)
        electrons += rho.sum(axis=(1, 2, 3))
        density += np.abs(rho[labels.index(reference)]).sum()
        deviations += absolute_deviations(rho).sum(axis=(1, 2, 3))
    if not np.isfinite(electrons).all():
        broken = next(label for label, sum_ in zip(labels, electrons, strict=True) if not np.isfinite(sum_))
        raise ValueError(f"{structure.name}: the density of {broken} is not finite everywhere; compute it again")
    if density == 0:
        raise ValueError(
            f"{structure.name}: the density of {reference} is zero everywhere: a relative spread is not defined"
        )
    n_points = math.prod(structure.shape)
    voxel = volume(structure.atoms.cell.array) / n_points
    return StructureSpread(
        index=index,
        name=structure.name,
        formula=structure.atoms.get_chemical_formula(),
        n_atoms=len(structure.atoms),
        n_points=n_points,
        n_electrons=float(electrons[labels.index(reference)]) * voxel,
        electron_spread=float(np.ptp(electrons)) * voxel,
        deviations=dict(zip(labels, (100.0 * deviations / density).tolist(), strict=True)),
        terms=(float(deviations.mean()) * voxel, float(density) * voxel),
    )


def deviation_at(structure: EnsembleStructure, indices: NDArray[np.integer]) -> NDArray[np.float64]:
    """(1/K) Σ_k |ρ_k - ρ_median| (n,) in e/Å³ at some grid points (n,), counted in C order."""
    rho = np.stack([_values_at(structure, label, indices) for label in structure.planes])  # (K, n)
    return absolute_deviations(rho).mean(axis=0)


def _values_at(structure: EnsembleStructure, label: str, indices: NDArray[np.integer]) -> NDArray[np.float64]:
    """One density at some grid points, read a few planes at a time."""
    values = np.empty(len(indices))
    plane = structure.shape[1] * structure.shape[2]
    for planes in _slabs(structure):
        here = (indices >= planes.start * plane) & (indices < planes.stop * plane)
        values[here] = structure.planes[label](planes).reshape(-1)[indices[here] - planes.start * plane]
    return values


def _slabs(structure: EnsembleStructure) -> Iterator[slice]:
    """Slices of planes along the first axis, of about `chunks.CPU.points_accumulated` points."""
    nx, ny, nz = structure.shape
    step = max(1, chunks.CPU.points_accumulated // (ny * nz))
    for start in range(0, nx, step):
        yield slice(start, min(start + step, nx))


def reference_label(labels: Sequence[str], wanted: str | None) -> str:
    """The label of the density in the denominator, with which models are compared: PBE by default.

    Raises:
        ValueError: if it is not among the labels.
    """
    label = "PBE" if wanted is None else wanted
    if label not in labels:
        why = f"reference={wanted}: no density has this label" if wanted is not None else "no density is labelled PBE"
        raise ValueError(f"{why}; give reference= one of {', '.join(labels)}")
    return label


def write_csv(
    path: str | os.PathLike[str], rows: Sequence[StructureSpread], errors: Sequence[StructureErrors] | None = None
) -> None:
    """Write errors.csv: the spread of each structure and, if a model was evaluated, its errors.

    Args:
        path: of the file.
        rows: the spreads.
        errors: of a model, in the same order.

    Raises:
        ValueError: if there are not as many errors as spreads.
    """
    table = StructureRow.columns(rows)
    table |= {name: [getattr(row, name) for row in rows] for name in ("eps_mad", "electron_spread")}
    if errors is not None:
        table |= model_errors.columns(errors)
    labels = list(rows[0].deviations) if rows else []
    table |= {f"deviation_{label}": [row.deviations[label] for row in rows] for label in labels}
    write_table(path, table)
