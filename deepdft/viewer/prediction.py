"""A density with all that the page shows of it: counts, charges, fields, comparison with a reference, downloads."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import ase
import numpy as np
from numpy.typing import NDArray

from deepdft import bundled
from deepdft.density import DensityGrid, Grid
from deepdft.evaluation.partition import dipole_moment, hirshfeld_charges, valence_electrons
from deepdft.inference.predictor import Predictor
from deepdft.io import write_density
from deepdft.metrics import eps_mae
from deepdft.plotting.formulas import formula
from deepdft.units import DEBYE
from deepdft.viewer.atoms import atoms_shown, extent, plane_of_atoms
from deepdft.viewer.sources import Source

__all__ = ["DERIVED", "FIELDS", "FILES", "Prediction"]

FIELDS = {
    "density": "density",
    "deformation": "density minus the sum of free atoms",
    "spread": "standard deviation of the members of an ensemble",
    "reference": "density of the uploaded file, or the second of a comparison",
    "difference": "density minus reference",
    "iri": "interaction region indicator",
    "dori": "density overlap regions indicator",
    "sign_lambda2_rho": "density with the sign of the second eigenvalue of its Hessian, negative in bonds",
}
"""Field → its description."""
FILES = {"cube": "density.cube", "chgcar": "CHGCAR", "h5": "density.h5"}
"""Kind of file that can be downloaded → its name."""
DERIVED = ("iri", "dori")
"""Fields that are derived from the density by differentiation; `sign_lambda2_rho` comes with them."""


@dataclass(eq=False)
class Prediction:
    """A density on show, and everything derived from it."""

    source: Source
    density: DensityGrid
    seconds: float
    warnings: list[str]
    predictor: Predictor
    second: Source | None = None
    """What the structure is compared with, in a comparison of two."""
    trust: dict[str, Any] | None = None
    """How far to trust it, as `Trust.as_dict` has it."""
    is_prediction: bool = True
    """False for the density of a file that the model cannot predict."""
    fields: dict[str, NDArray[np.floating]] = field(default_factory=dict)
    """Fields (nx, ny, nz) beside the density, by name."""

    @property
    def n_bytes(self) -> int:
        """Bytes of the arrays."""
        reference = self.source.reference
        kept = [self.density.values, *self.fields.values(), *([] if reference is None else [reference.values])]
        return sum(array.nbytes for array in kept)

    def available(self) -> list[str]:
        """Names of the fields that exist."""
        return ["density", *(name for name in FIELDS if name in self.fields)]

    def values(self, name: str) -> NDArray[np.floating]:
        """The values (nx, ny, nz) of a field.

        Raises:
            KeyError: if there is none of this name.
        """
        return self.density.values if name == "density" else self.fields[name]

    def on_grid(self, atoms: ase.Atoms) -> Grid:
        """The grid of the density, with other atoms."""
        moved: ase.Atoms = atoms.copy()
        moved.cell, moved.pbc = self.density.atoms.cell, self.density.atoms.pbc
        return Grid(moved, self.density.shape, self.density.origin)

    @property
    def label(self) -> str:
        """Name of the structure."""
        return self.source.label if self.second is None else f"{self.source.label} and {self.second.label}"

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Numbers that the page shows about the density."""
        density, atoms = self.density, self.density.atoms
        periodic = bool(atoms.pbc.any())
        _, positions = atoms_shown(density.grid)
        tilt, turn = plane_of_atoms(positions, periodic=periodic)
        summary: dict[str, Any] = {
            "label": self.label,
            "labels": None if self.second is None else [self.source.label, self.second.label],
            "is_prediction": self.is_prediction,
            "derivable": self.is_prediction and self.second is None,
            "formula": formula(atoms),
            "n_atoms": len(atoms),
            "symbols": atoms.get_chemical_symbols(),
            "shape": list(density.shape),
            "origin": density.origin.tolist(),
            "cell": density.atoms.cell.array.tolist(),
            "pbc": atoms.pbc.tolist(),
            "spacing": density.grid.spacing.max(),
            "plane": {"tilt": tilt, "turn": turn},
            "extent": extent(positions, density.grid),
            "n_electrons": density.n_electrons,
            "max_density": float(density.values.max()),
            "seconds": self.seconds,
            "warnings": self.warnings,
            "trust": self.trust,
            "fields": self.available(),
            "ranges": {name: _range(self.values(name)) for name in self.available()},
            "python": self.python(),
        }
        if "deformation" in self.fields:  # every element has a free atom
            summary["expected_electrons"] = int(valence_electrons(atoms.numbers).sum())
            free = density.values - self.fields["deformation"]
            summary["charges"] = hirshfeld_charges(density, free).round(4).tolist()
            if not periodic:
                moment = dipole_moment(density, free) / DEBYE
                summary["dipole_debye"] = float(np.linalg.norm(moment))
                summary["dipole_vector_debye"] = moment.tolist()
        if "difference" in self.fields:
            summary["eps_mae"] = float(eps_mae(density.values, self.fields["reference"]))
        return summary

    def python(self) -> str:
        """Lines of Python that give the same density."""
        if not self.is_prediction:
            return f'import deepdft\n\ndensity = deepdft.read_density("{self.source.label}")'
        path = Path(str(self.predictor.info.get("path", "bundled")))
        checkpoint = "bundled" if path == bundled.MODEL else str(path)
        return (
            "import deepdft\nfrom deepdft.io.structures import read_structures\n\n"
            f"atoms = {self.source.python}\n"
            f'predictor = deepdft.Predictor.from_checkpoint("{checkpoint}")\n'
            f"density = predictor.predict(atoms, shape={tuple(self.density.shape)})"
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
