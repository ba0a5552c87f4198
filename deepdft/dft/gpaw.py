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
from numpy.typing import NDArray

from deepdft.data.kind import DensityKind
from deepdft.density import DensityGrid
from deepdft.dft.calculation import Calculation, CalculationError, ignored_charge
from deepdft.dft.functionals import Functional
from deepdft.dft.gpaw_density import valence_densities

__all__ = ["GpawMolecule", "GpawPeriodic"]

SHARPEST = 0.5
"""Smallest smoothing in grid spacings; the sum over the grid is then right to 2e-4 (experiments/electron_counts)."""

SMALLEST_MOMENT = 0.1
"""μ_B; an atom with less, in its augmentation sphere, does not count in the magnetic state."""


@dataclass(frozen=True, kw_only=True)
class _Gpaw(ABC):
    """What calculations of molecules and of periodic structures have in common.

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
    """Of GPAW: density in electrons per valence electron, energy in eV per valence electron, …"""
    max_iterations: int
    """Self-consistency steps after which a structure is given up."""
    spin: bool = False
    """Whether the calculation is spin-polarised; its densities then have a channel "difference"."""
    magnetic_moments: Mapping[str, float] = field(default_factory=dict)
    """μ_B by element, to start with where a structure has no moments of its own; any make it spin-polarised."""
    hubbard_u: Mapping[str, float] = field(default_factory=dict)
    """eV by element, for its d electrons."""
    setups: Mapping[str, str] = field(default_factory=dict)
    """PAW sets by element, where not GPAW's usual ones, e.g. {Ni: "16"}."""
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
        """e, of every structure: that of `options` (GPAW spreads the opposite charge evenly over the cell), else 0."""
        return float(self.options.get("charge", 0.0))

    @property
    def channels(self) -> tuple[str, ...]:
        """The total density, and spin up minus spin down where the calculation is spin-polarised."""
        return ("total", "difference") if self.spin or self.magnetic_moments else ("total",)

    def check(self) -> None:
        """See that GPAW is there.

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
            del parameters["spin"]  # which older versions did not have: their generations are resumed
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
            except (FileNotFoundError, RuntimeError):  # the structures with this element fail, and say why
                continue
            found.append(f"{element}.{prefix}{functional} {data.fingerprint}")
        return ", ".join(found)

    def versions(self) -> dict[str, str]:
        """Of GPAW, its PAW sets and libxc."""
        import _gpaw

        packages = ("gpaw", "gpaw-data", "ase", "numpy", "scipy")
        return {name: importlib.metadata.version(name) for name in packages} | {"libxc": _gpaw.libxc_version}

    @abstractmethod
    def frame(self, atoms: ase.Atoms) -> ase.Atoms:
        """The structure in the cell of its calculation."""

    def _refuse_charge(self, atoms: ase.Atoms) -> None:
        if charge := ignored_charge(atoms, self.charge):
            raise CalculationError(
                f"{atoms.get_chemical_formula()} has the charge {charge:+d}, which would be ignored; expected a "
                "neutral structure, such as one with its counterions"
            )

    def shape(self, framed: ase.Atoms) -> tuple[int, int, int]:
        """Points of the stored grid."""
        # along the edges, not between faces: in a skew cell other planes of grid points lie further apart than those
        nx, ny, nz = (even_smooth(length / self.spacing) for length in framed.cell.lengths())
        return nx, ny, nz

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
        begun = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")  # e.g. of cells with sharp angles
            calculator = self.converge(atoms, functional)
        total, *others = valence_densities(calculator.dft, atoms, self.smoothing, self.shape(atoms))
        channels = {name: values.astype(np.float32) for name, values in zip(self.channels[1:], others, strict=True)}
        return Calculation(
            density=DensityGrid(total.astype(np.float32), atoms, channels=channels),
            n_valence=float(calculator.get_number_of_electrons()),
            energy=float(calculator.get_potential_energy()),
            iterations=int(calculator.get_number_of_iterations()),
            seconds=time.perf_counter() - begun,
            details=self._details(atoms, calculator, sorted({" ".join(str(w.message).split()) for w in caught})),
        )

    def converge(self, atoms: ase.Atoms, functional: Functional) -> Any:
        """A GPAW calculator in its self-consistent state; arguments and errors as for `calculate`."""
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
        """μ_B of each atom to start with: the structure's own, or those of the elements.

        They decide the state that is found: without any it is the one without moments, and H₂ from 1 μ_B of each atom
        stays a triplet.

        Raises:
            CalculationError: if there are none.
        """
        if len(self.channels) == 1:
            return [0.0] * len(atoms)
        if atoms.get_initial_magnetic_moments().any():
            return [float(moment) for moment in atoms.get_initial_magnetic_moments()]
        if not self.magnetic_moments:
            raise CalculationError(
                f"{atoms.get_chemical_formula()} has no magnetic moments to start with, which dft.spin=true needs: "
                "give dft.magnetic_moments={element: μ_B}, or structures with initial moments"
            )
        return [float(self.magnetic_moments.get(symbol, 0.0)) for symbol in atoms.symbols]

    def paw_sets(self) -> dict[str, str]:
        """GPAW's names of the PAW sets, with U."""
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
    """Å between the outermost atoms and the faces of the box, at least."""

    def frame(self, atoms: ase.Atoms) -> ase.Atoms:
        """The molecule in the middle of a box whose edges are multiples of the grid spacing.

        The box repeats, as in plane-wave codes.

        Raises:
            CalculationError: if it has a charge.
        """
        self._refuse_charge(atoms)
        extent = np.ptp(atoms.positions, axis=0) + 2 * self.vacuum
        lengths = np.array([even_smooth(length / self.spacing) for length in extent]) * self.spacing
        framed = ase.Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=lengths, pbc=True)
        framed.positions += lengths / 2 - (atoms.positions.max(axis=0) + atoms.positions.min(axis=0)) / 2
        framed.set_initial_magnetic_moments(atoms.get_initial_magnetic_moments())
        return framed

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
        self._refuse_charge(atoms)
        if not atoms.pbc.all() or atoms.cell.rank < 3:
            raise CalculationError(
                f"periodic in {int(atoms.pbc.sum())} directions, cell of rank {atoms.cell.rank}; dft=gpaw_periodic "
                "needs three: use dft=gpaw_molecule, or a structure with a cell"
            )
        framed = ase.Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        framed.wrap()
        framed.set_initial_magnetic_moments(atoms.get_initial_magnetic_moments())
        return framed

    def brillouin_zone(self, framed: ase.Atoms) -> dict[str, Any]:
        """A Γ-centred grid; of symmetries only that under time reversal."""
        lengths = 2 * np.pi * np.linalg.norm(framed.cell.reciprocal(), axis=1)
        size = [max(1, int(np.ceil(self.kpoint_density * length - 1e-9))) for length in lengths]
        return {"kpts": {"size": size, "gamma": True}, "symmetry": {"point_group": False}}


def magnetic_state(moments: NDArray[np.floating]) -> str:
    """The state that moments (n_atoms,) in μ_B belong to: none, ferromagnetic, antiferromagnetic or ferrimagnetic."""
    moments = np.asarray(moments)
    large = moments[np.abs(moments) > SMALLEST_MOMENT]
    if large.size == 0:
        return "none"
    if (large > 0).all() or (large < 0).all():
        return "ferromagnetic"
    return "antiferromagnetic" if abs(large.sum()) < 0.05 * np.abs(large).sum() else "ferrimagnetic"


def even_smooth(least: float) -> int:
    """The smallest even number of at least `least` without prime factors above 7: good for Fourier transforms."""
    count = max(2, int(np.ceil(least - 1e-9)))
    while count % 2 or _without_factors(count) > 1:
        count += 1
    return count


def _without_factors(count: int) -> int:
    for factor in (2, 3, 5, 7):
        while count % factor == 0:
            count //= factor
    return count


def _exchange_correlation(functional: Functional) -> Any:
    """GPAW's parameter object; with the wanted PAW sets where their name is not the functional's."""
    from gpaw.dft import XC

    class _XC(XC):
        def functional(self, **kwargs: Any) -> Any:
            made = super().functional(**kwargs)
            made.get_setup_name = lambda: functional.setups
            return made

    return _XC(functional.kernel)
