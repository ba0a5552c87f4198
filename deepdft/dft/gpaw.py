"""Calculations with GPAW: plane waves and the projector augmented wave method, of molecules and of crystals."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import ase
import numpy as np

from deepdft.data.kind import DensityKind
from deepdft.density import DensityGrid
from deepdft.dft.calculation import Calculation, CalculationError
from deepdft.dft.frames import grid_shape, in_a_box, in_its_cell, kpoint_grid, refuse_charge
from deepdft.dft.functionals import Functional
from deepdft.dft.gpaw_density import valence_densities
from deepdft.dft.magnetism import initial_moments, magnetic_state, moment_arrays

__all__ = ["GpawMolecule", "GpawPeriodic"]

SHARPEST = 0.5
"""Smallest smoothing in grid spacings; the sum over the grid is then right to 2e-4 (experiments/electron_counts)."""


@dataclass(frozen=True, kw_only=True)
class _Gpaw(ABC):
    """Settings and steps that calculations of molecules and of periodic structures share.

    Raises:
        ValueError: if a setting is out of range.
    """

    cutoff: float
    """eV, of the plane waves."""
    spacing: float
    """Å, largest distance of the stored grid's points along the edges of the cell."""
    smoothing: float
    """Å, standard deviation of the Gaussian that the density is convolved with; at least half the spacing."""
    smearing: float
    """eV, width of the Fermi–Dirac occupations."""
    convergence: Mapping[str, float]
    """GPAW's convergence criteria: density in electrons per valence electron, energy in eV per valence electron, …"""
    max_iterations: int
    """Self-consistency steps after which a structure counts as not converged."""
    spin: bool = False
    """Whether the calculation is spin-polarised; its densities then have a channel "difference"."""
    magnetic_moments: Mapping[str, float] = field(default_factory=dict)
    """Initial moments in μ_B by element, for structures without moments of their own; giving any switches spin on."""
    hubbard_u: Mapping[str, float] = field(default_factory=dict)
    """Hubbard U in eV by element, for its d electrons."""
    setups: Mapping[str, str] = field(default_factory=dict)
    """PAW data sets by element, where they differ from GPAW's default, e.g. {Ni: "16"}."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further keywords of GPAW, e.g. {mixer: {beta: 0.02}}."""

    def __post_init__(self) -> None:
        for name in ("cutoff", "spacing", "smoothing", "max_iterations"):
            if not getattr(self, name) > 0:
                raise ValueError(f"dft.{name}={getattr(self, name)}: expected a number above zero")
        if self.smoothing < SHARPEST * self.spacing * (1 - 1e-9):
            raise ValueError(
                f"dft.smoothing={self.smoothing} Å is too sharp for dft.spacing={self.spacing} Å: the electrons on the "
                f"grid would not add up; smoothing must be {SHARPEST} × spacing or more"
            )

    @property
    def charge(self) -> float:
        """Charge of every structure in e, from `options`, by default 0; GPAW adds a uniform background."""
        return float(self.options.get("charge", 0.0))

    @property
    def channels(self) -> tuple[str, ...]:
        """The total density, and spin up minus spin down where the calculation is spin-polarised."""
        return ("total", "difference") if self.spin or self.magnetic_moments else ("total",)

    def check(self) -> None:
        """Check that GPAW is installed.

        Raises:
            ModuleNotFoundError: if it is not.
        """
        if importlib.util.find_spec("gpaw") is None:
            raise ModuleNotFoundError("GPAW is not installed: `make gpaw`, or pip install 'deepdft-lightning[gpaw]'")

    @property
    def definition(self) -> str:
        """What the densities are, in words."""
        return (
            "valence electrons (frozen core left out), all-electron partial waves inside the atoms, convolved with "
            f"an isotropic Gaussian of standard deviation {self.smoothing:g} Å; integral = valence electrons"
        )

    def describe(self) -> dict[str, Any]:
        """For index.json: the density's definition and all parameters."""
        parameters = {"kind": type(self).__name__} | asdict(self)
        if not self.spin:
            del parameters["spin"]  # as in older versions, whose generations can be resumed
        return {
            "method": f"GPAW, plane waves PW({self.cutoff:g} eV), PAW",
            "definition": self.definition,
            "parameters": parameters,
        }

    def kind(self, elements: Sequence[str], functionals: Sequence[Functional]) -> DensityKind:
        """What the densities are, with the name and md5 of each element's PAW set."""
        return DensityKind(
            self.definition,
            "GPAW",
            {element: self._paw_set(element, functionals) for element in elements},
            float(self.smoothing),
        )

    def _paw_set(self, element: str, functionals: Sequence[Functional]) -> str:
        """Name and md5 of the PAW sets of an element for some functionals, e.g. "O.PBE 3a1f…"."""
        from gpaw.setup_data import SetupData

        special = self.setups.get(element, "paw")
        prefix = "" if special == "paw" else f"{special}."
        found = []
        for functional in dict.fromkeys(functional.setups for functional in functionals):
            try:
                data = SetupData(element, functional, special)
            except (FileNotFoundError, RuntimeError):  # calculations with this element fail and report the reason
                continue
            found.append(f"{element}.{prefix}{functional} {data.fingerprint}")
        return ", ".join(found)

    def versions(self) -> dict[str, str]:
        """Versions of GPAW, its PAW data sets and libxc."""
        import _gpaw

        packages = ("gpaw", "gpaw-data", "ase", "numpy", "scipy")
        return {name: importlib.metadata.version(name) for name in packages} | {"libxc": _gpaw.libxc_version}

    @abstractmethod
    def frame(self, atoms: ase.Atoms) -> ase.Atoms:
        """The structure in the cell of its calculation."""

    def shape(self, framed: ase.Atoms) -> tuple[int, int, int]:
        """Shape of the stored grid."""
        return grid_shape(framed, self.spacing)

    @abstractmethod
    def brillouin_zone(self, framed: ase.Atoms) -> dict[str, Any]:
        """Keywords of GPAW for k-points and symmetry."""

    def calculate(self, atoms: ase.Atoms, functional: Functional) -> Calculation:
        """Density of one structure.

        Args:
            atoms: from `frame`.
            functional: exchange and correlation.

        Raises:
            CalculationError: if it does not converge.
        """
        started = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")  # e.g. of cells with sharp angles
            calculator = self.converge(atoms, functional)
        total, *others = valence_densities(calculator.dft, atoms, self.smoothing, self.shape(atoms))
        channels = {name: values.astype(np.float32) for name, values in zip(self.channels[1:], others, strict=True)}
        return Calculation(
            density=DensityGrid(
                total.astype(np.float32),
                atoms,
                channels=channels,
                atom_arrays=moment_arrays(self.initial_moments(atoms)) if others else {},
            ),
            n_valence=float(calculator.get_number_of_electrons()),
            energy=float(calculator.get_potential_energy()),
            iterations=int(calculator.get_number_of_iterations()),
            seconds=time.perf_counter() - started,
            details=self._details(atoms, calculator, sorted({" ".join(str(w.message).split()) for w in caught})),
        )

    def converge(self, atoms: ase.Atoms, functional: Functional) -> Any:
        """Run GPAW to self-consistency and return its calculator; arguments and errors as for `calculate`."""
        from gpaw import GPAW, KohnShamConvergenceError

        atoms = atoms.copy()
        atoms.set_initial_magnetic_moments(self.initial_moments(atoms))
        calculator = GPAW(
            mode={"name": "pw", "ecut": self.cutoff},
            xc=_exchange_correlation(functional),
            setups=self.paw_sets(),
            spinpol=len(self.channels) > 1,
            occupations={"name": "fermi-dirac", "width": self.smearing},
            convergence=dict(self.convergence),
            maxiter=self.max_iterations,
            txt=None,
            **self.brillouin_zone(atoms),
            **self.options,
        )
        change = np.inf
        try:
            for step in calculator.iconverge(atoms):
                change = step.dens.error
        except KohnShamConvergenceError as error:
            raise CalculationError(
                f"{functional.label}: not converged after {self.max_iterations} steps, the density still changes by "
                f"{change:.1e} electrons"
            ) from error
        return calculator

    def initial_moments(self, atoms: ase.Atoms) -> list[float]:
        """Moments of the atoms in μ_B to start from; zero without spin polarisation.

        Raises:
            CalculationError: if a spin-polarised calculation has neither moments of the structure nor of elements.
        """
        if len(self.channels) == 1:
            return [0.0] * len(atoms)
        if not (self.magnetic_moments or atoms.get_initial_magnetic_moments().any()):
            raise CalculationError(
                f"{atoms.get_chemical_formula()} has no magnetic moments to start from, which dft.spin=true needs: "
                "give dft.magnetic_moments={element: μ_B}, or structures with initial moments"
            )
        return initial_moments(atoms, self.magnetic_moments)

    def paw_sets(self) -> dict[str, str]:
        """PAW data sets in GPAW's notation, with their Hubbard U."""
        names: dict[str, str] = {"default": "paw"} | dict(self.setups)
        for element, u in self.hubbard_u.items():
            names[element] = f"{names.get(element, 'paw')}:d,{u}"
        return names

    def _details(self, atoms: ase.Atoms, calculator: Any, warned: Sequence[str]) -> dict[str, Any]:
        details: dict[str, Any] = {"calculation_grid": [int(n) for n in calculator.get_number_of_grid_points()]}
        kpoints = len(calculator.get_bz_k_points())
        if kpoints > 1:
            details["kpoints"] = kpoints
        if len(self.channels) > 1:
            details["magnetic_moment"] = float(calculator.get_magnetic_moment())
            moments = calculator.get_magnetic_moments()
            details["initial_moments"] = self.initial_moments(atoms)
            details["moments"] = [round(float(moment), 4) for moment in moments]
            details["magnetic_state"] = magnetic_state(moments)
        if warned:
            details["warnings"] = list(warned)
        return details


@dataclass(frozen=True, kw_only=True)
class GpawMolecule(_Gpaw):
    """Molecules in a box, Γ point."""

    vacuum: float
    """Smallest distance between the outermost atoms and the faces of the box, Å."""

    def frame(self, atoms: ase.Atoms) -> ase.Atoms:
        """The molecule in the middle of a box whose edges are multiples of the grid spacing.

        The box repeats, as in plane-wave codes.

        Raises:
            CalculationError: if it has a charge.
        """
        refuse_charge(atoms, self.charge)
        return in_a_box(atoms, self.vacuum, self.spacing)

    def brillouin_zone(self, framed: ase.Atoms) -> dict[str, Any]:
        """Γ point, no symmetry."""
        return {"symmetry": "off"}


@dataclass(frozen=True, kw_only=True)
class GpawPeriodic(_Gpaw):
    """Crystals and liquids in their own cell."""

    kpoint_density: float
    """Å; points per 1/Å of reciprocal length: an edge of a Å gets 2π · density / a points. 0 is the Γ point."""

    def frame(self, atoms: ase.Atoms) -> ase.Atoms:
        """The structure as it is, with all atoms inside its cell.

        Raises:
            CalculationError: if it has a charge, or does not repeat in three directions.
        """
        refuse_charge(atoms, self.charge)
        return in_its_cell(atoms, "use dft=gpaw_molecule, or a structure with a cell")

    def brillouin_zone(self, framed: ase.Atoms) -> dict[str, Any]:
        """A Γ-centred grid, reduced by time-reversal symmetry only."""
        return {
            "kpts": {"size": kpoint_grid(framed, self.kpoint_density), "gamma": True},
            "symmetry": {"point_group": False},
        }


def _exchange_correlation(functional: Functional) -> Any:
    """GPAW's parameter object of a functional, which also selects the PAW data sets made for it."""
    from gpaw.dft import XC

    class _XC(XC):
        def functional(self, **kwargs: Any) -> Any:
            made = super().functional(**kwargs)
            made.get_setup_name = lambda: functional.setups
            return made

    return _XC(functional.kernel)
