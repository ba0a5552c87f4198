"""Electrons on the grid: sampled at points, and convolved with Gaussians of several widths. Writes results.json.

python experiments/electron_counts/run.py [water methanol carbonate Mn Ni LiNiO2 LiMnO2 LiCoO2]
"""

import json
import sys
from itertools import product
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.spacegroup import crystal

from deepdft.dft.frames import grid_shape
from deepdft.dft.functionals import FUNCTIONALS
from deepdft.dft.gpaw import GpawMolecule, GpawPeriodic
from deepdft.dft.gpaw_density import valence_densities
from deepdft.io.smiles import atoms_from_smiles

SPACINGS = (0.2, 0.15)  # Å
RATIOS = (0.4, 0.5, 0.6)  # ratios of the Gaussian's width to the spacing
ROUGH = {"spacing": 0.2, "smoothing": 0.1, "smearing": 0.2, "convergence": {"density": 1e-3}, "max_iterations": 100}
MOLECULES = GpawMolecule(cutoff=400, vacuum=3.5, **ROUGH)
CRYSTALS = GpawPeriodic(cutoff=450, kpoint_density=0.3, **ROUGH)


def layered(metal: str) -> Atoms:
    """One formula unit of LiMO2, rhombohedral."""
    sites = [(0, 0, 0.5), (0, 0, 0), (0, 0, 0.2585)]
    return crystal(
        ["Li", metal, "O"], sites, spacegroup=166, cellpar=[2.88, 2.88, 14.2, 90, 90, 120], primitive_cell=True
    )


STRUCTURES = {
    "water": lambda: molecule("H2O"),
    "methanol": lambda: molecule("CH3OH"),
    "carbonate": lambda: atoms_from_smiles("O=C1OCCO1"),
    "Mn": lambda: bulk("Mn", "sc", a=3.0),  # in a cubic cell, the coarsest for its edges
    "Ni": lambda: bulk("Ni", "sc", a=3.0),
    "LiNiO2": lambda: layered("Ni"),
    "LiMnO2": lambda: layered("Mn"),
    "LiCoO2": lambda: layered("Co"),
}


def counts(values: np.ndarray, volume: float) -> list[float]:
    """Electrons on each of the eight grids that a grid of twice the density is made of."""
    parts = [values[i::2, j::2, k::2] for i, j, k in product((0, 1), repeat=3)]
    return [float(part.mean() * volume) for part in parts]


def measure(name: str) -> dict[str, object]:
    engine = CRYSTALS if STRUCTURES[name]().pbc.all() else MOLECULES
    atoms = engine.frame(STRUCTURES[name]())
    calculator = engine.converge(atoms, FUNCTIONALS["PBE"])
    exact = calculator.get_number_of_electrons()
    points = calculator.get_all_electron_density(skip_core=True)
    result: dict[str, object] = {
        "valence_electrons": exact,
        "points of GPAW's grid, %": round(100 * (float(points.mean() * atoms.get_volume()) / exact - 1), 4),
    }
    for spacing, ratio in product(SPACINGS, RATIOS):
        shape = tuple(2 * n for n in grid_shape(atoms, spacing))
        (values,) = valence_densities(calculator.dft, atoms, ratio * spacing, shape)
        worst = max((count - exact for count in counts(values, atoms.get_volume())), key=abs)
        result[f"spacing {spacing} Å, width {ratio} spacings, worst of 8 grids, %"] = round(100 * worst / exact, 4)
    return result


def main() -> None:
    path = Path(__file__).parent / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in sys.argv[1:] or STRUCTURES:
        results[name] = measure(name)
        print(name, json.dumps(results[name], indent=1), flush=True)
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
