"""An engine without DFT: a Gaussian on each atom; fast, and wrong on request."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np

from deepdft.data.kind import DensityKind
from deepdft.density import DensityGrid, grid_points
from deepdft.dft.calculation import Calculation, CalculationError
from deepdft.dft.functionals import Functional


@dataclass(frozen=True)
class FakeEngine:
    """Densities that differ between functionals by the width of their Gaussians."""

    seconds: float = 0.0
    log: str | None = None
    """Folder where each calculation leaves a file."""
    charge: float = 0.0
    channels: tuple[str, ...] = ("total",)

    def kind(self, elements: Sequence[str], functionals: Sequence[Functional]) -> DensityKind:
        return DensityKind("Gaussians", "fake", {element: f"{element} of no set" for element in elements})

    def check(self) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        parameters = {key: value for key, value in asdict(self).items() if key == "seconds"}
        return {"method": "fake", "definition": "Gaussians", "parameters": parameters}

    def versions(self) -> dict[str, str]:
        return {"fake": "1"}

    def frame(self, atoms: ase.Atoms) -> ase.Atoms:
        if "He" in atoms.symbols:
            raise CalculationError("helium has no box")
        framed = ase.Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=[6.0, 6.0, 6.0], pbc=True)
        framed.positions += 3.0 - framed.positions.mean(axis=0)
        return framed

    def shape(self, framed: ase.Atoms) -> tuple[int, int, int]:
        return 18, 20, 18 + 2 * (len(framed) % 3)

    def calculate(self, atoms: ase.Atoms, functional: Functional) -> Calculation:
        if self.log is not None:
            (Path(self.log) / f"{atoms.symbols}-{functional.label}-{time.time_ns()}").touch()
        time.sleep(self.seconds)
        if "Xe" in atoms.symbols:
            raise CalculationError(f"{functional.label}: not converged after 7 steps")
        if "Kr" in atoms.symbols:
            raise RuntimeError("a bug\nin two lines")
        if "Rn" in atoms.symbols:
            os.kill(os.getpid(), signal.SIGKILL)
        width = 0.5 + 0.01 * len(functional.label)
        points = grid_points(atoms.cell.array, self.shape(atoms), np.zeros(3))
        apart = points[:, None] - atoms.positions
        squared = ((apart - 6.0 * np.round(apart / 6.0)) ** 2).sum(axis=-1)
        values = (atoms.numbers * np.exp(-0.5 * squared / width**2) / (2 * np.pi * width**2) ** 1.5).sum(axis=1)
        electrons = float(atoms.numbers.sum()) + (0.1 if "Ar" in atoms.symbols else 0.0)
        total = values.reshape(self.shape(atoms)).astype(np.float32)
        channels = dict.fromkeys(self.channels[1:], 0.25 * total)
        density = DensityGrid(total, atoms, channels=channels, atom_arrays={"occupancies": atoms.positions})
        return Calculation(density, n_valence=electrons, energy=-1.5, iterations=7, seconds=self.seconds)
