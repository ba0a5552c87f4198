"""Calculations with Quantum ESPRESSO's pw.x, which give pseudo-densities of the chosen pseudopotentials."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.units import Hartree
from numpy.typing import NDArray

from deepdft.data.kind import DensityKind
from deepdft.density import OCCUPANCIES, DensityGrid
from deepdft.dft.calculation import Calculation, CalculationError
from deepdft.dft.frames import grid_shape, in_a_box, in_its_cell, kpoint_grid, refuse_charge
from deepdft.dft.functionals import Functional
from deepdft.dft.magnetism import initial_moments, moment_arrays
from deepdft.dft.qe_occupations import PAW_FILE, read_occupations
from deepdft.dft.qe_save import Save, identify
from deepdft.dft.upf import n_valence, partial_waves_of

__all__ = ["CODE", "QuantumEspresso", "fortran", "run_pw"]

NAMES = {"PBE": "PBE", "revPBE": "REVPBE", "PW91": "PW91", "PBEsol": "PBESOL", "PZ": "PZ", "RPBE": "RPBE"}
"""Functional → its name in pw.x."""
DEFINITION = (
    "valence pseudo-density of plane waves and pseudopotentials, with augmentation charges where they are ultrasoft or "
    "PAW, as pw.x keeps it; not convolved; integral = valence electrons"
)
CODE = "Quantum ESPRESSO"


@dataclass(frozen=True, kw_only=True)
class QuantumEspresso:
    """Molecules in a box, or crystals in their own cell.

    Raises:
        ValueError: if a setting is out of range.
    """

    pseudopotentials: Mapping[str, str]
    """Files by element, in `pseudo_dir`."""
    pseudo_dir: str
    """Folder of the pseudopotentials."""
    cutoff: float
    """Plane-wave cutoff of the wave functions, Ry."""
    density_cutoff: float
    """Plane-wave cutoff of the density, Ry: 4 × `cutoff` for norm-conserving pseudopotentials, 8 to 12 × for others."""
    spacing: float
    """Å, largest distance of the stored grid's points along the edges of the cell."""
    vacuum: float | None
    """Smallest distance between a molecule and the faces of its box, Å; None keeps structures in their own cell."""
    kpoint_density: float
    """Density of k-points, Å: an edge of a Å gets 2π · density / a points around Γ; 0 is the Γ point alone."""
    smearing: float
    """Width of Gaussian occupations, eV; 0 for fixed occupations."""
    convergence: float
    """Estimated error of the energy below which a calculation has converged, Ry."""
    max_iterations: int
    """Self-consistency steps after which a structure counts as not converged."""
    spin: bool = False
    """Whether the calculation is spin-polarised; its densities then have a channel "difference"."""
    magnetic_moments: Mapping[str, float] = field(default_factory=dict)
    """Initial moments in μ_B by element, for structures without moments of their own."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further settings by namelist, e.g. {electrons: {mixing_beta: 0.4}}."""
    command: str = "pw.x"
    """The pw.x program: a name on PATH, or a path."""

    def __post_init__(self) -> None:
        if not isinstance(self.command, str):
            raise ValueError(f"dft.command={self.command}: expected the name of a program, such as pw.x")
        for name in ("cutoff", "density_cutoff", "spacing", "convergence", "max_iterations"):
            if not getattr(self, name) > 0:
                raise ValueError(f"dft.{name}={getattr(self, name)}: expected a number above zero")
        if self.density_cutoff < 4 * self.cutoff:
            raise ValueError(f"dft.density_cutoff={self.density_cutoff}: expected 4 × dft.cutoff or more")

    @property
    def charge(self) -> float:
        """Charge of every structure in e: `tot_charge` in `options`, by default 0."""
        return float(self.options.get("system", {}).get("tot_charge", 0.0))

    @property
    def channels(self) -> tuple[str, ...]:
        """The total density, and spin up minus spin down where the calculation is spin-polarised."""
        return ("total", "difference") if self.spin else ("total",)

    def check(self) -> None:
        """Check that pw.x and the pseudopotentials are there.

        Raises:
            ModuleNotFoundError: without pw.x.
            FileNotFoundError: without a pseudopotential.
        """
        if shutil.which(self.command) is None:
            raise ModuleNotFoundError(f"{self.command} is not on PATH: run `make qe`, or give dft.command")
        for name in self.pseudopotentials.values():
            if not (Path(self.pseudo_dir) / name).is_file():
                raise FileNotFoundError(f"dft.pseudopotentials: no file {name} in dft.pseudo_dir={self.pseudo_dir}")

    def describe(self) -> dict[str, Any]:
        """For index.json: the density's definition and all parameters."""
        parameters = {"kind": type(self).__name__} | asdict(self)
        return {
            "method": f"{CODE}, plane waves {self.cutoff:g}/{self.density_cutoff:g} Ry, pseudopotentials",
            "definition": DEFINITION,
            "parameters": parameters,
        }

    def kind(self, elements: Sequence[str], functionals: Sequence[Functional]) -> DensityKind:
        """What the densities are, with name and md5 of the pseudopotentials."""
        files = {element: self.pseudopotentials[element] for element in elements if element in self.pseudopotentials}
        folder = Path(self.pseudo_dir)
        return DensityKind(DEFINITION, CODE, {element: identify(folder / name) for element, name in files.items()})

    def versions(self) -> dict[str, str]:
        """Versions of pw.x and numpy."""
        with tempfile.TemporaryDirectory() as folder:
            text = subprocess.run(
                [self.command], input="", capture_output=True, text=True, cwd=folder, env=_environment(), check=False
            ).stdout
        found = re.search(r"Program PWSCF v\.(\S+)", text)
        return {"quantum_espresso": found[1] if found else "unknown", "numpy": np.__version__}

    def frame(self, atoms: ase.Atoms) -> ase.Atoms:
        """A molecule in the middle of a box with vacuum, or a crystal in its cell.

        Raises:
            CalculationError: if an element has no pseudopotential, the structure a charge, or a crystal no cell.
        """
        missing = sorted(set(atoms.symbols) - set(self.pseudopotentials))
        if missing:
            raise CalculationError(f"no pseudopotential of {', '.join(missing)}: give dft.pseudopotentials")
        refuse_charge(atoms, self.charge)
        if self.vacuum is None:
            return in_its_cell(atoms, "give dft.vacuum, or a structure with a cell")
        return in_a_box(atoms, self.vacuum, self.spacing)

    def shape(self, framed: ase.Atoms) -> tuple[int, int, int]:
        """Shape of the stored grid."""
        return grid_shape(framed, self.spacing)

    def calculate(self, atoms: ase.Atoms, functional: Functional) -> Calculation:
        """Density of one structure, calculated in a temporary folder.

        Args:
            atoms: from `frame`.
            functional: exchange and correlation; the pseudopotentials should be made for it.

        Raises:
            CalculationError: if it does not converge.
        """
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "scf.in").write_text(self.input(atoms, functional))
            run_pw(Path(folder) / "scf.in", self.command)
            save = Save(Path(folder) / "pwscf.save")
            if not save.is_converged:
                raise CalculationError(f"{functional.label}: not converged after {self.max_iterations} steps")
            total, *others = save.density().on_grid(self.shape(atoms)).astype(np.float32)
            details: dict[str, Any] = {"calculation_grid": list(save.shape)}
            if self.spin:
                details["magnetic_moment"] = save.magnetic_moment
                details["initial_moments"] = self.initial_moments(atoms)
            return Calculation(
                density=DensityGrid(
                    total,
                    atoms,
                    channels=dict(zip(self.channels[1:], others, strict=True)),
                    atom_arrays=self._occupations(save, atoms)
                    | (moment_arrays(self.initial_moments(atoms)) if self.spin else {}),
                ),
                n_valence=save.n_electrons,
                energy=save.energy * Hartree,
                iterations=save.iterations,
                seconds=time.perf_counter() - started,
                details=details,
            )

    def _occupations(self, save: Save, atoms: ase.Atoms) -> dict[str, NDArray[np.floating]]:
        """PAW occupancies as `DensityGrid.atom_arrays` holds them; none with spin, or of other pseudopotentials."""
        if self.spin or not (save.folder / PAW_FILE).exists():
            return {}
        folder = Path(self.pseudo_dir)
        waves = {element: partial_waves_of(folder / self.pseudopotentials[element]) for element in set(atoms.symbols)}
        return {OCCUPANCIES: read_occupations(save.folder / PAW_FILE, [waves[symbol] for symbol in atoms.symbols])}

    def initial_moments(self, atoms: ase.Atoms) -> list[float]:
        """Moments of the atoms in μ_B to start from: the structure's own, or those of the elements."""
        return initial_moments(atoms, self.magnetic_moments)

    def input(self, atoms: ase.Atoms, functional: Functional) -> str:
        """The input of pw.x.

        Raises:
            CalculationError: if pw.x has no such functional.
        """
        if functional.label not in NAMES:
            raise CalculationError(f"pw.x has no functional {functional.label}; expected one of {', '.join(NAMES)}")
        moments = self.initial_moments(atoms) if self.spin else [0.0] * len(atoms)
        species: dict[tuple[str, float], str] = {}
        for key in zip(atoms.symbols, moments, strict=True):
            species.setdefault(key, f"{key[0]}{sum(symbol == key[0] for symbol, _ in species) or ''}")
        namelists: dict[str, dict[str, Any]] = {
            "control": {"calculation": "scf", "outdir": ".", "pseudo_dir": str(Path(self.pseudo_dir).absolute())},
            "system": {
                "ibrav": 0,
                "nat": len(atoms),
                "ntyp": len(species),
                "ecutwfc": self.cutoff,
                "ecutrho": self.density_cutoff,
                "input_dft": NAMES[functional.label],
                "nosym": True,
            },
            "electrons": {"conv_thr": self.convergence, "electron_maxstep": self.max_iterations},
        }
        if self.smearing:
            namelists["system"] |= {
                "occupations": "smearing", "smearing": "gaussian", "degauss": 2 * self.smearing / Hartree
            }  # fmt: skip
        if self.spin:
            namelists["system"]["nspin"] = 2
            for number, (symbol, moment) in enumerate(species, start=1):
                share = moment / n_valence(Path(self.pseudo_dir) / self.pseudopotentials[symbol])
                namelists["system"][f"starting_magnetization({number})"] = float(np.clip(share, -1, 1))
        for name, settings in self.options.items():
            namelists.setdefault(name.lower(), {}).update(settings)
        text = "".join(_namelist(name, content) for name, content in namelists.items())
        text += "ATOMIC_SPECIES\n" + "".join(
            f"{name} {ase.data.atomic_masses[ase.data.atomic_numbers[symbol]]:.4f} {self.pseudopotentials[symbol]}\n"
            for (symbol, _), name in species.items()
        )
        text += "CELL_PARAMETERS angstrom\n" + "".join(f"{x:.12f} {y:.12f} {z:.12f}\n" for x, y, z in atoms.cell.array)
        text += "ATOMIC_POSITIONS angstrom\n" + "".join(
            f"{species[key]} {x:.12f} {y:.12f} {z:.12f}\n"
            for key, (x, y, z) in zip(zip(atoms.symbols, moments, strict=True), atoms.positions, strict=True)
        )
        return text + self._kpoints(atoms)

    def _kpoints(self, atoms: ase.Atoms) -> str:
        size = kpoint_grid(atoms, self.kpoint_density)
        if size == [1, 1, 1]:
            return "K_POINTS gamma\n"
        return f"K_POINTS automatic\n{size[0]} {size[1]} {size[2]} 0 0 0\n"


def run_pw(path: Path, command: str = "pw.x") -> str:
    """Run pw.x on an input in the folder of that file, on one core.

    Returns:
        What it printed, also kept beside the input as `.out`.

    Raises:
        CalculationError: if it stops with an error, in pw.x's words.
    """
    result = subprocess.run(
        [command, "-in", path.name], capture_output=True, text=True, cwd=path.parent, env=_environment(), check=False
    )
    path.with_suffix(".out").write_text(result.stdout)
    (path.parent / "input_tmp.in").unlink(missing_ok=True)  # pw.x leaves a copy of its input
    if "JOB DONE" not in result.stdout:
        found = re.search(r"Error in routine.*?\n(.*?)\n", result.stdout + result.stderr)
        lines = (result.stdout + result.stderr).strip().splitlines() or [f"exit status {result.returncode}"]
        reason = found[0] if found else lines[-1]
        raise CalculationError(f"{command} failed: {' '.join(reason.split())}")
    return result.stdout


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "LC_ALL": "C"}


def _namelist(name: str, content: Mapping[str, Any]) -> str:
    lines = "".join(f"  {key} = {fortran(value)}\n" for key, value in content.items())
    return f"&{name.upper()}\n{lines}/\n"


def fortran(value: Any) -> str:
    """A value as Fortran's namelists write it."""
    if isinstance(value, bool):
        return f".{str(value).lower()}."
    if isinstance(value, str):
        return f"'{value}'"
    return str(value)
