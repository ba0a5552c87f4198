"""Free atoms of the table beside GPAW's own calculation of one closed-shell atom in a box.

python experiments/free_atoms/isolated_atoms.py (needs `make gpaw`; some minutes)
"""

from itertools import product

import ase
import numpy as np

from deepdft.dft.functionals import FUNCTIONALS
from deepdft.dft.gpaw import GpawMolecule
from deepdft.inference.encoded import EncodedStructure
from deepdft.models.free_atoms import FreeAtoms

SYMBOLS = ("He", "Ne", "Ar", "Be", "Zn")
BOXES = ((3.5, 400.0), (3.5, 600.0), (5.0, 800.0))  # Å of vacuum, eV of plane waves
ROUGH = {"spacing": 0.2, "smoothing": 0.1, "smearing": 0.01, "convergence": {"density": 1e-5}, "max_iterations": 100}


def main() -> None:
    """Print a Markdown table."""
    print("| atom | vacuum, Å | plane waves, eV | ε_mae, % | largest density, e/Å³: GPAW | table |")
    print("|---|---|---|---|---|---|")
    for symbol, (vacuum, cutoff) in product(SYMBOLS, BOXES):
        dft = GpawMolecule(cutoff=cutoff, vacuum=vacuum, **ROUGH)
        framed = dft.frame(ase.Atoms(symbol, [[0.03, 0.05, 0.0]]))
        found = dft.calculate(framed, FUNCTIONALS["PBE"]).density
        values = found.values.reshape(-1)
        free = EncodedStructure(FreeAtoms(cutoff=8.0), framed).total(found.points())
        error = 100 * np.abs(free - values).sum() / values.sum()
        print(f"| {symbol} | {vacuum} | {cutoff:g} | {error:.3f} | {values.max():.3f} | {free[values.argmax()]:.3f} |")


if __name__ == "__main__":
    main()
