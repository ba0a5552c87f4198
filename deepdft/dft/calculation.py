"""The result of a calculation of one structure, and the interface of an engine that calculates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import ase

from deepdft.data.kind import DensityKind
from deepdft.density import DensityGrid
from deepdft.dft.functionals import Functional
from deepdft.io.structures import total_charge

__all__ = ["COUNT_TOLERANCE", "Calculation", "CalculationError", "Engine", "ignored_charge"]

COUNT_TOLERANCE = 1e-3
"""Relative error allowed in the number of electrons on the grid."""


class CalculationError(ValueError):
    """A structure has no density; the message says why."""


@dataclass(frozen=True, eq=False)
class Calculation:
    """The density of one structure with one functional, and its cost."""

    density: DensityGrid
    n_valence: float
    """Electrons that the density must hold."""
    energy: float
    """Total energy in eV, relative to the method's own zero."""
    iterations: int
    """Self-consistency steps."""
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)
    """Further results for this structure."""

    def record(self) -> dict[str, Any]:
        """The entry of this calculation in the store's log."""
        return {
            "energy": self.energy,
            "electrons": round(self.density.n_electrons, 6),
            "n_valence": self.n_valence,
            "iterations": self.iterations,
            "seconds": round(self.seconds, 2),
            **self.details,
        }

    def check(self) -> None:
        """Check the number of electrons on the grid and, with spin, the magnetic moment.

        Raises:
            CalculationError: if it does not.
        """
        found = self.density.n_electrons
        if not abs(found - self.n_valence) <= COUNT_TOLERANCE * self.n_valence:
            raise CalculationError(
                f"{found:.3f} electrons on the grid, expected {self.n_valence:g}; take a finer grid or more smoothing"
            )
        if "difference" in self.density.channels and "magnetic_moment" in self.details:
            moment = float(self.density.channel("difference").sum(dtype="float64")) * self.density.voxel_volume
            if not abs(moment - self.details["magnetic_moment"]) <= COUNT_TOLERANCE * max(self.n_valence, 1.0):
                raise CalculationError(
                    f"the spin density integrates to {moment:.3f} μ_B, the calculation has "
                    f"{self.details['magnetic_moment']:.3f}; take a finer grid or more smoothing"
                )


def ignored_charge(atoms: ase.Atoms, calculated: float) -> int:
    """The charge in e that a structure declares if it differs from the calculated one, else 0."""
    charge = total_charge(atoms)
    return 0 if charge == calculated else charge


class Engine(Protocol):
    """A program that calculates densities: the interface of one class with a YAML file in conf/dft.

    It must be picklable, as it travels to workers.
    """

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels of its densities: ("total",), or ("total", "difference") with spin."""

    @property
    def charge(self) -> float:
        """Charge of every structure as it is calculated, e."""

    def check(self) -> None:
        """Raise ModuleNotFoundError with installation advice if it cannot run."""

    def describe(self) -> dict[str, Any]:
        """Entries of index.json: "method", "definition" of the density and "parameters", which decide the result."""

    def kind(self, elements: Sequence[str], functionals: Sequence[Functional]) -> DensityKind:
        """The kind of its densities, with the pseudopotentials or PAW sets of these elements."""

    def versions(self) -> dict[str, str]:
        """Versions of the programs it uses."""

    def frame(self, atoms: ase.Atoms) -> ase.Atoms:
        """The structure in the cell of its calculation; CalculationError if it is unsuitable."""

    def shape(self, framed: ase.Atoms) -> tuple[int, int, int]:
        """Grid shape of a framed structure's densities, the same for all functionals."""

    def calculate(self, atoms: ase.Atoms, functional: Functional) -> Calculation:
        """Density of a framed structure; CalculationError if it does not converge."""
