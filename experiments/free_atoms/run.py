"""The table of free atoms that comes with the package. Writes deepdft/bundled/free_atoms.npz and prints its errors.

python experiments/free_atoms/run.py (needs `make gpaw`; half a minute)
"""

import importlib.metadata
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from deepdft import bundled
from deepdft.dft.free_atoms import elements, free_atom

SIGMA = 0.1  # Å, as in conf/dft
END, SCALE, KNOTS = 10.0, 0.3, 200  # Å, Å; knots r = SCALE sinh(x), x equally spaced: 0.006 Å apart at the nucleus
LARGEST_MISCOUNT = 1e-3  # electrons


def knots() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x, and distances in Å."""
    x = np.linspace(0.0, np.arcsinh(END / SCALE), KNOTS)
    return x, SCALE * np.sinh(x)


def main() -> None:
    """Make the table."""
    x, radii = knots()
    numbers, densities, electrons, errors, counts = elements(), [], [], [], []
    for number in numbers:
        atom = free_atom(chemical_symbols[number])
        smooth = atom.smoothed(SIGMA)
        densities.append(smooth(radii).astype(np.float32))
        electrons.append(atom.n_valence)
        counts.append(abs(atom.n_electrons - atom.n_valence))
        if counts[-1] > LARGEST_MISCOUNT:
            print(f"{chemical_symbols[number]}: {atom.n_electrons:.5f} electrons for a valence of {atom.n_valence}")
        within = atom.radii < END
        exact, weights = smooth(atom.radii[within]), atom.weights[within]
        found = CubicSpline(x, densities[-1], bc_type=("clamped", "natural"))(np.arcsinh(atom.radii[within] / SCALE))
        off = np.abs(found - exact)
        errors.append((off.max() / exact.max(), (off @ weights) / (exact @ weights)))
    np.savez_compressed(
        bundled.FREE_ATOMS,
        numbers=np.array(numbers, dtype=np.int16),
        n_valence=np.array(electrons, dtype=np.int16),
        density=np.stack(densities),
        radii=radii,
        scale=SCALE,
        smoothing=SIGMA,
        versions=[f"{name} {importlib.metadata.version(name)}" for name in ("gpaw", "gpaw-data")],
    )
    peak, integral = np.max(errors, axis=0)
    missing = [symbol for number, symbol in enumerate(chemical_symbols[1:87], 1) if number not in numbers]
    print(f"{len(numbers)} elements, without {', '.join(missing)} and all after {chemical_symbols[86]}")
    print(f"electrons off by at most {max(counts):.0e}")
    print(f"interpolation: at most {peak:.0e} of the peak, {integral:.0e} of the electrons")
    print(f"{bundled.FREE_ATOMS}: {Path(bundled.FREE_ATOMS).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
