"""A density with all that the page shows of it: counts, charges, fields, comparison with a reference, downloads."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import ase
import numpy as np
from numpy.typing import NDArray

from deepdft.density import DensityGrid
from deepdft.evaluation.partition import dipole_moment, hirshfeld_charges, promolecule, valence_electrons
from deepdft.inference.predictor import Predictor
from deepdft.io import write_density
from deepdft.metrics import eps_mae
from deepdft.units import DEBYE
from deepdft.viewer.limits import Limits
from deepdft.viewer.sources import Source
from deepdft.viewer.work import Progress

__all__ = ["FIELDS", "FILES", "Prediction", "difference", "predict"]

FIELDS = {
    "density": "density",
    "deformation": "density minus the sum of free atoms",
    "reference": "density of the uploaded file",
    "difference": "prediction minus reference",
    "iri": "interaction region indicator",
    "dori": "density overlap regions indicator",
}
"""What can be shown, and what it is."""
FILES = {"cube": "density.cube", "chgcar": "CHGCAR", "h5": "density.h5"}
"""Kinds of files that can be downloaded, and their names."""
DERIVED = ("iri", "dori")


@dataclass(eq=False)
class Prediction:
    """A predicted density, and what is derived from it when it is first asked for."""

    source: Source
    density: DensityGrid
    seconds: float
    warnings: list[str]
    predictor: Predictor
    label: str = ""
    fields: dict[str, NDArray[np.floating]] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        """Bytes of the arrays."""
        reference = self.source.reference
        kept = [self.density.values, *self.fields.values(), *([] if reference is None else [reference.values])]
        return sum(array.nbytes for array in kept)

    def available(self) -> list[str]:
        """The fields that there are, or that can be derived."""
        with_reference = ["reference", "difference"] if "difference" in self.fields else []
        free = ["deformation"] if "deformation" in self.fields else []
        return ["density", *free, *with_reference, *(name for name in DERIVED if name in self.fields)]

    def values(self, name: str) -> NDArray[np.floating]:
        """The values (nx, ny, nz) of a field.

        Raises:
            KeyError: if there is none of this name.
        """
        return self.density.values if name == "density" else self.fields[name]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What the page says of the density, in numbers."""
        density, atoms = self.density, self.density.atoms
        summary: dict[str, Any] = {
            "label": self.label or self.source.label,
            "formula": atoms.get_chemical_formula(empirical=bool(atoms.pbc.all())),
            "n_atoms": len(atoms),
            "symbols": atoms.get_chemical_symbols(),
            "shape": list(density.shape),
            "origin": density.origin.tolist(),
            "cell": density.atoms.cell.array.tolist(),
            "pbc": atoms.pbc.tolist(),
            "spacing": density.grid.spacing.max(),
            "n_electrons": density.n_electrons,
            "max_density": float(density.values.max()),
            "seconds": self.seconds,
            "warnings": self.warnings,
            "fields": self.available(),
            "ranges": {name: _range(self.values(name)) for name in self.available()},
            "python": self.python(),
        }
        if "deformation" in self.fields:  # every element has a free atom
            summary["expected_electrons"] = int(valence_electrons(atoms.numbers).sum())
            free = density.values - self.fields["deformation"]
            summary["charges"] = hirshfeld_charges(density, free).round(4).tolist()
            if not atoms.pbc.any():
                moment = dipole_moment(density, free) / DEBYE
                summary["dipole_debye"] = float(np.linalg.norm(moment))
                summary["dipole_vector_debye"] = moment.tolist()
        if "difference" in self.fields:
            summary["eps_mae"] = float(eps_mae(density.values, self.fields["reference"]))
        return summary

    def python(self) -> str:
        """Lines of Python that give the same density."""
        shape = tuple(self.density.shape)
        head = "import deepdft\nfrom deepdft.io.structures import read_structures"
        checkpoint = str(self.predictor.info.get("path", "bundled"))
        return (
            f"{head}\n\natoms = {self.source.python}\n"
            f'predictor = deepdft.Predictor.from_checkpoint("{checkpoint}")\n'
            f"density = predictor.predict(atoms, shape={shape})"
        )

    def file(self, kind: str, name: str) -> bytes:
        """The bytes of a file with a field.

        Raises:
            KeyError: if the kind or the field is unknown.
        """
        grid = DensityGrid(self.values(name), self.density.atoms, self.density.origin)
        with tempfile.TemporaryDirectory(prefix="deepdft-view-") as folder:
            path = Path(folder) / FILES[kind]
            write_density(path, grid)
            return path.read_bytes()


def _range(values: NDArray[np.floating]) -> list[float]:
    """Smallest and largest value, and the 99.5th percentile of absolute values, where a field's features lie."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return [0.0, 0.0, 0.0]
    step = max(1, finite.size // 200_000)
    return [float(finite.min()), float(finite.max()), float(np.percentile(np.abs(finite[::step]), 99.5))]


def predict(
    predictor: Predictor, source: Source, *, spacing: float, fields: list[str], limits: Limits
) -> Callable[[Progress], Prediction]:
    """A task that predicts a structure, on the grid of its reference where there is one."""

    def task(progress: Progress) -> Prediction:
        began = time.monotonic()
        shape = None if source.reference is None else source.reference.shape
        share = 1.0 / (1 + 8 * len(fields))  # a point of a derived field takes several times as long
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            density = _density(predictor, source, spacing, shape, limits, lambda part: progress(share * part))
        said = list(dict.fromkeys(" ".join(str(one.message).split()) for one in caught))
        found = Prediction(source, density, time.monotonic() - began, said, predictor)
        try:
            found.fields["deformation"] = (density.values - promolecule(density.grid)).astype(np.float32)
        except ValueError as error:
            found.warnings.append(str(error))
        if source.reference is not None:
            found.fields["reference"] = source.reference.values
            found.fields["difference"] = (density.values - source.reference.values).astype(np.float32)
        if fields:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                encoded = predictor.encode_fields(density.grid.atoms)
                values = encoded.at(
                    density.points(), fields, progress=lambda done, of: progress(share + (1 - share) * done / of)
                )
            found.fields |= {name: array.reshape(density.shape).astype(np.float32) for name, array in values.items()}
        _ = found.summary  # computed here, in the queue
        return found

    return task


def _density(
    predictor: Predictor,
    source: Source,
    spacing: float,
    shape: tuple[int, int, int] | None,
    limits: Limits,
    progress: Progress,
) -> DensityGrid:
    progress(0.0)
    atoms: ase.Atoms = source.atoms.copy()
    if shape is None:
        n_points = _n_points(atoms, spacing)
        if n_points > limits.max_points:
            raise ValueError(
                f"about {n_points:.2g} points; at most {limits.max_points} are shown: choose a coarser grid"
            )
        return predictor.predict(atoms, spacing=spacing, progress=lambda done, of: progress(done / of))
    reference = source.reference
    assert reference is not None
    encoded = predictor.encode(atoms)
    values = np.empty(reference.grid.n_points, dtype=np.float32)
    step = 50_000
    for start in range(0, len(values), step):
        values[start : start + step] = encoded.density(reference.points(slice(start, start + step))).reshape(-1)
        progress((start + step) / len(values))
    atoms.cell, atoms.pbc = reference.atoms.cell, reference.atoms.pbc
    return DensityGrid(values.reshape(reference.shape), atoms, reference.origin)


def _n_points(atoms: ase.Atoms, spacing: float) -> float:
    """About how many points a grid will have: the cell, or a box with 4 Å around a molecule."""
    if atoms.pbc.any() and atoms.cell.rank == 3:
        return float(np.prod(atoms.cell.lengths() / spacing))
    return float(np.prod((np.ptp(atoms.positions, axis=0) + 8.0) / spacing))


def difference(first: Prediction, second: Prediction) -> Callable[[Progress], Prediction]:
    """A task that shows one prediction minus another, the second predicted again on the grid of the first."""
    reference = second.source
    paired = Source(first.source.label, first.source.atoms, python=first.source.python)

    def task(progress: Progress) -> Prediction:
        began = time.monotonic()
        on_grid = Source(reference.label, reference.atoms, first.density)
        other = _density(second.predictor, on_grid, 0.0, first.density.shape, Limits(), progress)
        found = Prediction(paired, first.density, time.monotonic() - began, [], first.predictor)
        found.label = f"{first.source.label} minus {reference.label}"
        found.fields["deformation"] = first.fields.get("deformation", first.density.values * 0)
        found.fields["reference"] = other.values
        found.fields["difference"] = (first.density.values - other.values).astype(np.float32)
        return found

    return task
