"""Charges, dipole moments and the sum of free atoms, against what they must be."""

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule

from deepdft import bundled
from deepdft.density import DensityGrid, Grid
from deepdft.evaluation.partition import dipole_moment, hirshfeld_charges, promolecule, valence_electrons
from deepdft.inference.predictor import Predictor
from deepdft.models.free_atoms import FreeAtoms

SKEWED = [[4, 0, 0], [1, -5, 0], [0, 1, 12]]


@pytest.fixture(scope="module")
def bundled_predictor():
    return Predictor.from_checkpoint(bundled.MODEL)


def boxed(atoms: ase.Atoms, n: int = 48) -> Grid:
    atoms = atoms.copy()
    atoms.center(vacuum=4.0)
    return Grid(atoms, (n, n, n))


@pytest.mark.parametrize(
    "atoms",
    [
        pytest.param(bulk("NaCl", "rocksalt", a=5.64), id="cell smaller than an atom, oblique"),
        pytest.param(molecule("H2O", vacuum=3.0), id="molecule"),
        pytest.param(ase.Atoms("LiF", [[0, 0, 9], [1, 5, -3]], cell=SKEWED, pbc=[1, 1, 0]), id="slab, left-handed"),
    ],
)
def test_promolecule_is_what_the_free_atoms_model_predicts(atoms):
    grid = Grid(atoms, (24, 20, 28))
    expected = Predictor(FreeAtoms(cutoff=10.0)).predict_points(atoms, grid.points()).reshape(grid.shape)
    # the model reaches 10 Å, the promolecule 6: what is beyond is small
    np.testing.assert_allclose(promolecule(grid), expected, atol=2e-3)


def test_a_sum_of_free_atoms_has_no_charges_and_no_dipole_moment():
    grid = boxed(molecule("CH3OH"))
    density = DensityGrid(promolecule(grid), grid.atoms, grid.origin)
    assert np.abs(hirshfeld_charges(density)).max() < 1e-12
    assert np.abs(dipole_moment(density)).max() < 1e-12
    assert density.n_electrons == pytest.approx(valence_electrons(grid.atoms.numbers).sum(), rel=0.01)


def test_electrons_moved_by_a_known_vector_give_that_dipole_moment():
    grid = boxed(molecule("H2O"))
    points = grid.points().reshape(*grid.shape, 3)

    def cloud(centre):
        return np.exp(-np.sum((points - centre) ** 2, axis=-1) / 0.5) / (0.5 * np.pi) ** 1.5

    middle = grid.cell.sum(axis=0) / 2
    shift = np.array([0.3, -0.2, 0.5])
    moved = promolecule(grid) + 0.1 * (cloud(middle + shift) - cloud(middle))
    density = DensityGrid(moved, grid.atoms, grid.origin)
    np.testing.assert_allclose(dipole_moment(density), -0.1 * shift, atol=1e-5)


def test_charges_of_the_bundled_model_add_up_and_point_the_right_way(bundled_predictor):
    density = bundled_predictor.predict(molecule("H2O"), spacing=0.15)
    oxygen, *hydrogens = hirshfeld_charges(density)
    # PBE: -0.30 and +0.15 e, 1.8 D
    assert oxygen == pytest.approx(-0.30, abs=0.05)
    assert hydrogens == pytest.approx([0.15, 0.15], abs=0.03)
    assert np.linalg.norm(dipole_moment(density)) == pytest.approx(1.80 * 0.2082, rel=0.05)


def test_the_dipole_moment_of_a_crystal_is_refused():
    grid = Grid(bulk("NaCl", "rocksalt", a=5.64), (8, 8, 8))
    with pytest.raises(ValueError, match="choice of the cell"):
        dipole_moment(DensityGrid(promolecule(grid), grid.atoms))


def test_an_element_without_a_free_atom_is_named():
    with pytest.raises(ValueError, match="no free atom of Pu"):
        valence_electrons(np.array([94]))
