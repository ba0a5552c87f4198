"""Boxes of a molecular liquid: molecules are packed at a density, then equilibrated by molecular dynamics."""

from __future__ import annotations

from typing import Any

import ase
import ase.units
import numpy as np
from ase.data import vdw_radii
from ase.md.langevin import Langevin
from ase.neighborlist import natural_cutoffs, neighbor_list
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from deepdft.io.smiles import atoms_from_smiles

__all__ = ["LiquidBoxes", "bonds", "equilibrate", "is_whole", "pack"]

CONTACT = 0.8
"""Smallest distance between atoms of different molecules when packing, in sums of van der Waals radii."""
PACKINGS = 10
"""Attempts to pack a box, each from a different random start."""
STRETCH = 1.35
"""A bond counts as broken, or as formed, at this multiple of the sum of covalent radii."""
GRAMS = 1.66053907
"""Mass of one atomic mass unit per cubic Å in g/cm³ (CODATA 2018)."""


class LiquidBoxes:
    """Snapshots of a liquid, each from a packing and a trajectory of its own.

    A snapshot in which a molecule has broken, or two have reacted, is not used: the trajectory is restarted.

    Args:
        count: of boxes.
        smiles: of the molecule.
        n_molecules: in a box.
        density: g/cm³.
        temperature: K, of the molecular dynamics.
        steps: of the molecular dynamics.
        timestep: fs.
        attempts: trajectories until a box is given up.
        seed: of packing and dynamics; box `i` depends on the seed and `i` alone.
        first: number of the first one, for a store that continues another.

    Raises:
        ValueError: if the first number is negative.
    """

    def __init__(
        self,
        *,
        count: int,
        smiles: str,
        n_molecules: int,
        density: float,
        temperature: float,
        steps: int,
        timestep: float = 0.5,
        attempts: int = 5,
        seed: int = 0,
        first: int = 0,
    ) -> None:
        if first < 0:
            raise ValueError(f"recipe.first={first}: a number of a box, 0 or more")
        self.count = count
        self.molecule = atoms_from_smiles(smiles)
        self.n_molecules = n_molecules
        self.density = density
        self.temperature = temperature
        self.steps = steps
        self.timestep = timestep
        self.attempts = attempts
        self.seed = seed
        self.first = first

    def __len__(self) -> int:
        """Number of boxes."""
        return self.count

    def make(self, number: int) -> tuple[str, ase.Atoms]:
        """Name and atoms of box `number`, counted from `first`.

        Raises:
            ValueError: if the molecules did not stay whole in any attempt.
            ModuleNotFoundError: if tblite is not installed.
        """
        number += self.first
        formula = self.molecule.get_chemical_formula()
        name = f"{self.n_molecules}-{formula}-{number:05d}"
        for attempt in range(self.attempts):
            rng = np.random.default_rng([self.seed, number, attempt])
            atoms = pack(self.molecule, self.n_molecules, self.density, rng)
            equilibrate(atoms, gfn1(), temperature=self.temperature, steps=self.steps, timestep=self.timestep, rng=rng)
            if is_whole(atoms, self.molecule):
                atoms.wrap()
                return name, atoms[np.argsort(atoms.numbers, kind="stable")]
        raise ValueError(
            f"{name}: molecules broke in {self.attempts} trajectories at {self.temperature:g} K; lower "
            "recipe.temperature or recipe.steps"
        )


def gfn1() -> Any:
    """The semi-empirical method GFN1-xTB, which also handles periodic boxes.

    Raises:
        ModuleNotFoundError: if tblite is not installed.
    """
    try:
        from tblite.ase import TBLite
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("molecular dynamics of liquids needs tblite: pip install tblite") from error
    return TBLite(method="GFN1-xTB", verbosity=0)


def pack(molecule: ase.Atoms, count: int, density: float, rng: np.random.Generator) -> ase.Atoms:
    """Place molecules at random in a cubic box, none too close to another.

    Random positions and orientations, then a minimisation of the overlaps over the rigid motions of all molecules.

    Args:
        molecule: rigid.
        count: of molecules.
        density: g/cm³.
        rng: for the placement.

    Returns:
        Atoms, molecule after molecule.

    Raises:
        ValueError: if they do not fit.
    """
    edge = (count * molecule.get_masses().sum() * GRAMS / density) ** (1 / 3)
    body = molecule.positions - molecule.positions.mean(axis=0)
    radii = vdw_radii[molecule.numbers]
    contacts = CONTACT * (radii[:, None] + radii)  # (atoms, atoms)
    for _ in range(PACKINGS):
        start = np.concatenate([rng.uniform(0, edge, (count, 3)), Rotation.random(count, rng).as_rotvec()], axis=1)
        found = minimize(_overlap, start.ravel(), args=(body, contacts, edge), jac=True, options={"maxiter": 500})
        if found.fun < 0.1:
            positions = _place(found.x.reshape(-1, 6), body).reshape(-1, 3)
            return ase.Atoms(np.tile(molecule.numbers, count), positions, cell=[edge] * 3, pbc=True)
    raise ValueError(f"{count} molecules {molecule.symbols} do not fit into a box of {edge:.2f} Å ({density:g} g/cm³)")


def _place(motions: NDArray[np.float64], body: NDArray[np.float64]) -> NDArray[np.float64]:
    """Atom positions (molecules, atoms, 3) from centres and rotation vectors (molecules, 6)."""
    rotated = np.einsum("mij,aj->mai", Rotation.from_rotvec(motions[:, 3:]).as_matrix(), body)
    return rotated + motions[:, None, :3]


def _overlap(
    flat: NDArray[np.float64], body: NDArray[np.float64], contacts: NDArray[np.float64], edge: float
) -> tuple[float, NDArray[np.float64]]:
    """Overlap Σ (contact² - d²)² in Å⁴ of atoms of different molecules, and its gradient for rigid motions.

    Args:
        flat: (molecules · 6,) centres and rotation vectors.
        body: (atoms, 3) Å, the molecule about its centre.
        contacts: (atoms, atoms) Å, distances without overlap.
        edge: Å, of the box; of each pair only the nearest images count.
    """
    motions = flat.reshape(-1, 6)
    positions = _place(motions, body)
    first, second = np.triu_indices(len(positions), k=1)
    apart = positions[first][:, :, None] - positions[second][:, None]  # (pairs of molecules, atoms, atoms, 3)
    apart -= edge * np.round(apart / edge)
    depth = np.maximum(contacts**2 - np.einsum("pabv,pabv->pab", apart, apart), 0.0)
    pull = -4.0 * depth[..., None] * apart
    by_atom = np.zeros_like(positions)
    np.add.at(by_atom, first, pull.sum(axis=2))
    np.add.at(by_atom, second, -pull.sum(axis=1))
    gradient = np.empty_like(motions)
    gradient[:, :3] = by_atom.sum(axis=1)
    for axis in range(3, 6):  # change of the rotated molecule with its rotation vector: central differences
        step = np.zeros(6)
        step[axis] = 1e-5
        change = (_place(motions + step, body) - _place(motions - step, body)) / 2e-5
        gradient[:, axis] = np.einsum("mav,mav->m", by_atom, change)
    return float(np.sum(depth**2)), gradient.ravel()


def bonds(atoms: ase.Atoms) -> set[tuple[int, int]]:
    """Pairs of atoms, lower index first, that are close enough for a bond."""
    first, second = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=STRETCH))
    return {(int(i), int(j)) for i, j in zip(first, second, strict=True) if i < j}


def is_whole(atoms: ase.Atoms, molecule: ase.Atoms) -> bool:
    """Whether the bonds of atoms, molecule after molecule, are those within the molecules and no others."""
    size = len(molecule)
    return bonds(atoms) == {(start + i, start + j) for start in range(0, len(atoms), size) for i, j in bonds(molecule)}


def equilibrate(
    atoms: ase.Atoms, calculator: Any, *, temperature: float, steps: int, timestep: float, rng: np.random.Generator
) -> None:
    """Molecular dynamics at a temperature (Langevin, 20 fs), in place; the calculator is removed again.

    Args:
        atoms: to be moved.
        calculator: of ASE, gives forces.
        temperature: K.
        steps: of the dynamics.
        timestep: fs.
        rng: for velocities and friction.
    """
    atoms.calc = calculator
    thermal = np.sqrt(atoms.get_masses() * ase.units.kB * temperature)
    atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * thermal[:, None])
    friction = 1 / (20 * ase.units.fs)
    step = timestep * ase.units.fs
    Langevin(atoms, step, temperature_K=temperature, friction=friction, fixcm=False, rng=rng).run(steps)
    atoms.calc = None
