"""Predicted densities for ASE: a calculator of what follows from the density, and is a property in ASE's sense.

It is a calculator rather than functions in the manner of ase.io because dipole moments and atomic charges are among
ASE's properties: `atoms.get_dipole_moment()`, trajectories, databases and caching work as with a DFT code. There are no
energies and no forces; asking for them raises ASE's `PropertyNotImplementedError`. Files are read and written by
`deepdft.read_density` and `write_density`, whose `DensityGrid.atoms` are ase.Atoms.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import ase
import numpy as np
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from numpy.typing import NDArray

from deepdft import bundled
from deepdft.density import DensityGrid
from deepdft.evaluation.partition import dipole_moment, hirshfeld_charges, promolecule
from deepdft.inference.predictor import Predictor

__all__ = ["DensityCalculator"]


class DensityCalculator(Calculator):
    """Densities, dipole moments (e Å) and Hirshfeld charges (e) from a trained model.

    Args:
        checkpoint: file, run directory or released folder; None for the bundled model of small molecules.
        spacing: largest distance between grid points, Å.
        device: "cpu", "cuda", "cuda:N" or "auto".
        trusted: packages outside deepdft whose model classes may be built.

    Raises:
        FileNotFoundError: if there is no checkpoint.
    """

    implemented_properties = ["dipole", "charges"]  # noqa: RUF012  declared so by ASE

    def __init__(
        self,
        checkpoint: str | os.PathLike[str] | None = None,
        *,
        spacing: float = 0.15,
        device: str = "auto",
        trusted: Sequence[str] = (),
    ) -> None:
        super().__init__()
        path = bundled.MODEL if checkpoint is None else checkpoint
        self.predictor = Predictor.from_checkpoint(path, device=device, trusted=trusted)
        self.spacing = spacing
        self._density: DensityGrid | None = None

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("charges",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Predict the density of a structure, and what follows from it; called by ASE when the atoms have changed."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        if self.atoms.pbc.any() and "dipole" in properties:
            raise PropertyNotImplementedError(
                "the dipole moment of a repeating structure depends on the choice of cell"
            )
        self._density = self.predictor.predict(self.atoms, spacing=self.spacing)
        free = promolecule(self._density.grid)
        self.results = {"charges": hirshfeld_charges(self._density, free)}
        if not self.atoms.pbc.any():
            self.results["dipole"] = dipole_moment(self._density, free)

    def get_density(self, atoms: ase.Atoms | None = None) -> DensityGrid:
        """The predicted density of the atoms, in e/Å³, predicted anew only if they have changed.

        Args:
            atoms: None for those of the last calculation.

        Raises:
            ValueError: if there are no atoms.
        """
        structure = self.atoms if atoms is None else atoms
        if structure is None:
            raise ValueError("give the atoms whose density is wanted")
        self.get_property("charges", structure)
        assert self._density is not None
        return self._density

    def get_pseudo_density(self, atoms: ase.Atoms | None = None) -> NDArray[np.floating]:
        """The values (nx, ny, nz) of `get_density` in e/Å³, under the name that ASE's DFT calculators use."""
        return self.get_density(atoms).values
