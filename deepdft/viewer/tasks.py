"""What the queue does: predict a structure, compare two, show the density of a file."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import ase
import numpy as np
from numpy.typing import NDArray

from deepdft.density import DensityGrid, Grid
from deepdft.evaluation.partition import promolecule, valence_electrons
from deepdft.inference.box import DEFAULT_VACUUM, fft_size, make_box
from deepdft.inference.fields import IRI_OF_EMPTY_SPACE
from deepdft.inference.predictor import Predictor
from deepdft.inference.uncertainty import predict_with_uncertainty
from deepdft.viewer.alignment import laid_over
from deepdft.viewer.limits import Limits
from deepdft.viewer.prediction import DERIVED, Prediction
from deepdft.viewer.sources import Source
from deepdft.viewer.work import Progress

__all__ = ["compare", "predict", "show_file"]

FIELDS_FROM = 0.01
"""e/Å³; fields are derived where the density is higher, which weak contacts are (0.02 and more)."""
COST_OF_FIELDS = 8
"""Time that derived fields take, over that of the density and all else."""
POINTS_AT_ONCE = 50_000
"""Points between two looks at whether the task was cancelled."""
SAME_VALENCES = 0.05
"""Relative difference up to which a density has the electrons of the free atoms; coarse grids add some percent."""


def predict(
    predictor: Predictor, source: Source, *, spacing: float, fields: list[str], limits: Limits
) -> Callable[[Progress], Prediction]:
    """A task that predicts a structure, on the grid of its reference where there is one."""

    def task(progress: Progress) -> Prediction:
        began = time.monotonic()
        share = 1.0 / (1 + COST_OF_FIELDS) if fields else 1.0
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            density, spread = _density(predictor, source, spacing, limits, lambda part: progress(share * part))
        messages = list(dict.fromkeys(" ".join(str(one.message).split()) for one in caught))
        found = Prediction(source, density, time.monotonic() - began, messages, predictor)
        found.trust = predictor.trust(source.atoms).as_dict()
        if spread is not None:
            found.fields["spread"] = spread
        _subtract_free_atoms(found)
        if source.reference is not None:
            _subtract_reference(found, source.reference)
        if fields:
            _derive(found, lambda part: progress(share + (1 - share) * part))
        _ = found.summary  # computed here, in the queue
        return found

    return task


def compare(first: Prediction, second: Prediction, limits: Limits) -> Callable[[Progress], Prediction]:
    """A task that compares two predictions on one grid.

    Two molecules are laid over each other, on a grid round both; otherwise the second is predicted on the grid of the
    first.
    """

    def task(progress: Progress) -> Prediction:
        began = time.monotonic()
        one, other, grid = first.source.atoms, second.source.atoms, first.density.grid
        density = first.density
        if not one.pbc.any() and not other.pbc.any() and first.source.reference is None:
            other = laid_over(other, one)
            grid = _grid_round(one, other, float(first.density.grid.spacing.max()))
            _check_points(grid.n_points, limits)
            density = _on_grid(first.predictor, one, grid, lambda part: progress(0.5 * part))
        compared = _on_grid(second.predictor, other, grid, lambda part: progress(0.5 + 0.5 * part))
        pair = replace(first.source, reference=None), replace(second.source, atoms=other, reference=None)
        found = Prediction(pair[0], density, time.monotonic() - began, [], first.predictor, pair[1])
        _subtract_free_atoms(found)
        _subtract_reference(found, compared)
        _ = found.summary
        return found

    return task


def show_file(predictor: Predictor, source: Source, reason: str) -> Callable[[Progress], Prediction]:
    """A task that shows the density of a file without a prediction, and the reason why there is none."""

    def task(progress: Progress) -> Prediction:
        began = time.monotonic()
        progress(0.0)
        assert source.reference is not None
        total = DensityGrid(source.reference.values, source.reference.atoms, source.reference.origin)
        found = Prediction(source, total, 0.0, [reason], predictor, is_prediction=False)
        _subtract_free_atoms(found)
        found.seconds = time.monotonic() - began
        _ = found.summary
        return found

    return task


def _density(
    predictor: Predictor, source: Source, spacing: float, limits: Limits, progress: Progress
) -> tuple[DensityGrid, NDArray[np.floating] | None]:
    """The density of a structure, and of an ensemble the standard deviation of its members."""
    progress(0.0)
    if source.reference is not None:
        return _on_grid(predictor, source.atoms, source.reference.grid, progress), None
    atoms: ase.Atoms = source.atoms.copy()
    _check_points(_n_points(atoms, spacing), limits)

    def told(done: int, of: int) -> None:
        progress(done / of)

    if len(predictor.model.members) > 1:
        predictor.check(atoms)
        box = make_box(atoms, spacing=spacing)
        found = predict_with_uncertainty(predictor.model, box, pbc=predictor.pbc, atoms=box.structure(), progress=told)
        return found.density, found.std.values
    return predictor.predict(atoms, spacing=spacing, progress=told), None


def _on_grid(predictor: Predictor, atoms: ase.Atoms, grid: Grid, progress: Progress) -> DensityGrid:
    """The density of atoms at the points of a grid that was made for others."""
    progress(0.0)
    encoded = predictor.encode(atoms)
    values = np.empty(grid.n_points, dtype=np.float32)
    for start in range(0, len(values), POINTS_AT_ONCE):
        part = slice(start, start + POINTS_AT_ONCE)
        values[part] = encoded.density(grid.points(part)).reshape(-1)
        progress(part.stop / len(values))
    placed = atoms.copy()
    placed.cell, placed.pbc = grid.atoms.cell, grid.atoms.pbc
    return DensityGrid(values.reshape(grid.shape), placed, grid.origin)


def _grid_round(first: ase.Atoms, second: ase.Atoms, spacing: float) -> Grid:
    """A grid in a box round two molecules."""
    positions = np.concatenate([first.positions, second.positions])
    low, high = positions.min(axis=0) - DEFAULT_VACUUM, positions.max(axis=0) + DEFAULT_VACUUM
    nx, ny, nz = (fft_size(int(np.ceil(length / spacing - 1e-9))) for length in high - low)
    boxed = first.copy()
    boxed.cell = np.diag(high - low)
    return Grid(boxed, (nx, ny, nz), low)


def _check_points(n_points: float, limits: Limits) -> None:
    if n_points > limits.max_points:
        raise ValueError(f"about {n_points:.2g} points; at most {limits.max_points} are shown: choose a coarser grid")


def _n_points(atoms: ase.Atoms, spacing: float) -> float:
    """About how many points a grid will have: the cell, or a box with 4 Å around a molecule."""
    if atoms.pbc.any() and atoms.cell.rank == 3:
        return float(np.prod(atoms.cell.lengths() / spacing))
    return float(np.prod((np.ptp(atoms.positions, axis=0) + 2 * DEFAULT_VACUUM) / spacing))


def _subtract_free_atoms(found: Prediction) -> None:
    """Add the difference from free atoms, where they have as many electrons as the density."""
    density = found.density
    try:
        free = promolecule(density.grid)
        expected = float(valence_electrons(density.atoms.numbers).sum())
    except ValueError as error:
        found.warnings.append(f"{error}: no charges, and no difference from free atoms")
        return
    if abs(density.n_electrons - expected) > SAME_VALENCES * expected:
        found.warnings.append(
            f"no charges, and no difference from free atoms: the density has {density.n_electrons:.1f} electrons, and "
            f"the free atoms {expected:g} in their valence shells"
        )
        return
    found.fields["deformation"] = (density.values - free).astype(np.float32)


def _subtract_reference(found: Prediction, reference: DensityGrid) -> None:
    found.fields["reference"] = reference.values
    found.fields["difference"] = (found.density.values - reference.values).astype(np.float32)


def _derive(found: Prediction, progress: Progress) -> None:
    """Add the fields that are derived, with what they are where there is hardly any density."""
    density = found.density
    inside = np.flatnonzero(density.values.ravel() > FIELDS_FROM)
    values = found.predictor.encode_fields(density.grid.atoms).at(
        density.points()[inside], [*DERIVED, "hessian"], progress=lambda done, of: progress(done / of)
    )
    second = values["hessian"][:, 1]
    columns = {
        "iri": (IRI_OF_EMPTY_SPACE, values["iri"]),
        "dori": (0.0, values["dori"]),
        "sign_lambda2_rho": (0.0, np.sign(second) * density.values.ravel()[inside]),
    }
    for name, (empty, column) in columns.items():
        field = np.full(density.grid.n_points, empty, dtype=np.float32)
        field[inside] = column
        found.fields[name] = field.reshape(density.shape)
