"""vaspout.h5 in the layout of py4vasp's schema: blocks, units decided by the electrons, and what is refused."""

import h5py
import numpy as np
import pytest

from deepdft.errors import DensityFormatError
from deepdft.io import read_density, write_density

CELL = np.array([[4.0, 0.0, 0.0], [2.5, 4.5, 0.3], [-1.0, 1.5, 5.0]])
SHAPE = (3, 4, 5)
VOLUME = abs(np.linalg.det(CELL))
RNG = np.random.default_rng(0)
TOTAL, DIFFERENCE = RNG.random(SHAPE), RNG.normal(size=SHAPE)  # e/Å³
N_ELECTRONS = float(TOTAL.mean()) * VOLUME


def write(path, *, factor=VOLUME, n_electrons=N_ELECTRONS, blocks=(TOTAL, DIFFERENCE), symbols=("H", "O_s")):
    with h5py.File(path, "w") as file:
        charge = np.empty((len(blocks), *SHAPE[::-1]))
        for block, values in enumerate(blocks):
            for i, j, k in np.ndindex(SHAPE):
                charge[block, k, j, i] = values[i, j, k] * factor
        file["charge/charge"] = charge
        file["results/electron_eigenvalues/nelectrons"] = n_electrons
        positions = file.create_group("results/positions")
        positions["scale"] = 2.0
        positions["lattice_vectors"] = CELL / 2
        positions["ion_types"] = np.array(symbols, dtype="S4")
        positions["number_ion_types"] = [2, 1]
        positions["position_ions"] = [[0.1, 0.2, 0.3], [0.5, 0.5, 0.5], [0.9, 0.8, 0.7]]
    return path


@pytest.mark.parametrize("factor", [VOLUME, 1.0], ids=["times volume", "per volume"])
def test_the_electrons_of_the_calculation_decide_the_unit(tmp_path, factor):
    density = read_density(write(tmp_path / "vaspout.h5", factor=factor))
    np.testing.assert_allclose(density.values, TOTAL, rtol=1e-12)
    np.testing.assert_allclose(density.channels["difference"], DIFFERENCE, rtol=1e-12)
    assert density.atoms.get_chemical_symbols() == ["H", "H", "O"]
    np.testing.assert_allclose(density.atoms.cell.array, CELL)
    np.testing.assert_allclose(density.atoms.positions[1], CELL.sum(axis=0) / 2)
    assert density.atoms.pbc.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_electrons": 8.0}, "those of the calculation are 8"),
        ({"blocks": (TOTAL,) * 3}, "3 blocks of values"),
        ({"symbols": ("H", "Qq")}, "are no structure"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, options, message):
    with pytest.raises(DensityFormatError, match=rf"vaspout\.h5: not a VASP file with a density .*{message}"):
        read_density(write(tmp_path / "vaspout.h5", **options))


def test_a_file_without_density_is_refused_and_none_is_written(tmp_path):
    path = write(tmp_path / "vaspout.h5")
    density = read_density(path)
    with pytest.raises(DensityFormatError, match="only read"):
        write_density(tmp_path / "vaspwave.h5", density)
    with h5py.File(path, "a") as file:
        del file["charge"]
    with pytest.raises(DensityFormatError, match=r"LCHARGH5.*charge is missing"):
        read_density(path)
