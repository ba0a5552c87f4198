"""Errors of predicted densities over the full grids of a store, one structure after the other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from deepdft.comparison import Comparison, PointSums
from deepdft.density import OCCUPANCIES, TOTAL, DensityGrid, occupancies_of
from deepdft.evaluation.parts import StructureRow, write_table
from deepdft.inference.assessment import TRUST, assess
from deepdft.inference.uncertainty import Members
from deepdft.measures import EPS_MAD, EPS_MAE, MEASURES, Terms, absolute_deviations, measures_of
from deepdft.models.base import DensityModel
from deepdft.nn.occupancies import occupancy_errors

__all__ = [
    "References",
    "StructureErrors",
    "columns",
    "evaluate",
    "evaluate_structure",
    "structure_errors",
    "write_csv",
]

NO_INFO: Mapping[str, Any] = {}
BY_NAME = {measure.name: measure for measure in MEASURES}


class References(Protocol):
    """Reference densities: a density store, or an ensemble."""

    names: list[str]
    """Names of the structures."""

    def density(self, i: int, label: str | None = None) -> DensityGrid:
        """Structure `i` with one of its densities."""


@dataclass(frozen=True)
class StructureErrors(StructureRow):
    """Errors of a predicted density over the whole grid of one structure."""

    terms: dict[str, Terms]
    """Measure → numerator and denominator, for the measures that are defined for the structure."""

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "terms", {name: tuple(pair) for name, pair in self.terms.items()}
        )  # JSON turns tuples into lists

    def __getitem__(self, name: str) -> float:
        """The value of a measure.

        Raises:
            KeyError: if it is not defined for the structure.
        """
        return float(BY_NAME[name].value(*self.terms[name]))

    @property
    def values(self) -> dict[str, float]:
        """Name of a measure → value, in the order of tables."""
        return {name: self[name] for name in BY_NAME if name in self.terms}

    @property
    def eps_mae(self) -> float:
        """∫|ρ̂ - ρ| / ∫|ρ| in %."""
        return self[EPS_MAE.name]

    @property
    def n_electrons_predicted(self) -> float:
        """Integral of the predicted density."""
        return self.n_electrons + self["electron_error"]


def structure_errors(
    model: DensityModel,
    reference: DensityGrid,
    *,
    pbc: bool | None = None,
    index: int = 0,
    name: str = "",
    info: Mapping[str, Any] = NO_INFO,
) -> StructureErrors:
    """Predict a density on the grid of its reference and compare; sums are in double precision.

    Channels that only the model or only the reference has are left out.

    Args:
        model: in evaluation mode.
        reference: density on its full grid.
        pbc: None as the structure has it, True forced on, False ignored.
        index: of the structure in its store.
        name: of the structure in its store.
        info: of the model's checkpoint, whose trust record says what error to expect.

    Raises:
        ValueError: if the reference is zero everywhere, or a prediction is not finite.
    """
    comparison = _compare(model, reference, pbc=pbc, info=info)
    totals = comparison.sums[TOTAL]
    if not all(np.isfinite(sums.squared) for sums in comparison.sums.values()):
        raise ValueError(f"{name}: the predicted density is not finite; the checkpoint's training has diverged")
    if totals.reference_absolute == 0:
        raise ValueError(f"{name}: the reference density is zero everywhere: a relative error is not defined")
    measured = (*comparison.sums, OCCUPANCIES) if comparison.occupancies else tuple(comparison.sums)
    terms = {measure.name: measure.terms(comparison) for measure in measures_of(measured)}
    return StructureErrors(
        index=index,
        name=name,
        formula=reference.atoms.get_chemical_formula(),
        n_atoms=len(reference.atoms),
        n_points=reference.values.size,
        n_electrons=reference.n_electrons,
        terms={name: (float(pair[0]), float(pair[1])) for name, pair in terms.items() if pair is not None},
    )


def _compare(model: DensityModel, reference: DensityGrid, *, pbc: bool | None, info: Mapping[str, Any]) -> Comparison:
    """Predict on the whole grid of a reference, chunk by chunk, and accumulate sums."""
    members = Members(model, reference.grid, pbc=pbc)
    columns = {i: name for i, name in enumerate(model.channels) if name in reference.channel_names}
    exact = {name: reference.channel(name).ravel() for name in columns.values()}
    predicted = {name: np.empty_like(values) for name, values in exact.items()}
    sums: dict[str, PointSums] = {}
    deviation = 0.0
    for chunk in members.chunks():
        densities = members.densities(chunk)  # (n_members, n, n_channels)
        mean = densities[0] if len(densities) == 1 else densities.mean(axis=0)
        if len(densities) > 1:
            deviation += float(absolute_deviations(densities[:, :, 0]).mean(axis=0).sum(dtype=np.float64))
        for i, name in columns.items():
            predicted[name][chunk] = mean[:, i]
            added = PointSums.over(mean[:, i].astype(np.float64), exact[name][chunk].astype(np.float64))
            sums[name] = sums[name] + added if name in sums else added
    voxel = reference.voxel_volume
    spread = (voxel * deviation, voxel * sums[TOTAL].predicted_absolute) if len(model.members) > 1 else None
    trust = assess(
        model, reference.atoms, info, pbc=pbc, spread=None if spread is None else float(EPS_MAD.value(*spread))
    )
    return Comparison(
        sums,
        grid=reference.grid,
        predicted=predicted,
        reference=exact,
        spread=spread,
        expected=trust.expected_eps_mae,
        outside=trust.outside if TRUST in info else None,
        occupancies=_occupancy_sums(model, members, reference),
        novelty=None if trust.novelty is None or np.isinf(trust.novelty).any() else float(trust.novelty.max()),
        device=members.encoded[0].structures.positions.device,
    )


def _occupancy_sums(model: DensityModel, members: Members, reference: DensityGrid) -> tuple[float, float] | None:
    """Sums of squared errors and of squared spreads of PAW occupancies; None if prediction or reference has none."""
    names = [occupancies_of(channel) for channel in model.channels]
    predicted = members.occupancies()
    if predicted is None or any(name not in reference.atom_arrays for name in names):
        return None
    exact = np.stack([reference.atom_arrays[name] for name in names], axis=1)
    errors, spread = occupancy_errors(predicted, torch.from_numpy(exact).to(predicted.values.device))
    return float(errors.double().square().sum()), float(spread.double().square().sum())


def evaluate_structure(
    model: DensityModel,
    store: References,
    index: int,
    *,
    pbc: bool | None = None,
    label: str | None = None,
    info: Mapping[str, Any] = NO_INFO,
) -> StructureErrors:
    """Errors of one structure of a store; the arguments are those of `evaluate`."""
    reference = store.density(index, label=label)
    return structure_errors(model, reference, pbc=pbc, index=index, name=store.names[index], info=info)


def evaluate(
    model: DensityModel,
    store: References,
    indices: Iterable[int],
    *,
    pbc: bool | None = None,
    label: str | None = None,
    info: Mapping[str, Any] = NO_INFO,
) -> Iterator[StructureErrors]:
    """Errors of some structures of a store.

    Args:
        model: in evaluation mode.
        store: the references.
        indices: which structures.
        pbc: None as the structures have it, True forced on, False ignored.
        label: which density of an ensemble store; None for its first.
        info: of the model's checkpoint, whose trust record says what error to expect.
    """
    for index in indices:
        yield evaluate_structure(model, store, index, pbc=pbc, label=label, info=info)


def columns(rows: Sequence[StructureErrors]) -> dict[str, list[float | None]]:
    """Columns of the measures that are defined for any of the structures; None where undefined."""
    values = [row.values for row in rows]
    defined = [name for name in BY_NAME if any(name in found for found in values)]
    return {name: [found.get(name) for found in values] for name in defined}


def write_csv(path: str | os.PathLike[str], rows: Sequence[StructureErrors]) -> None:
    """Write errors.csv: the columns of every evaluation, then the measures."""
    write_table(path, StructureRow.columns(rows) | columns(rows))
