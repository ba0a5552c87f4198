"""Superposition of molecules."""

import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.distance import cdist

from deepdft.viewer.alignment import laid_over


@pytest.mark.parametrize("name", ["H2O", "C6H6", "CH3CH2OH", "C5H5N", "CH4", "H2", "C2H2", "O"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_a_molecule_that_was_moved_is_put_back(name, shuffled):
    fixed = molecule(name) if name != "O" else molecule("H2O")[:1]
    moved = fixed.copy()
    moved.rotate(123, (1, -2, 0.5))
    moved.translate([7, -3, 1])
    if shuffled:
        moved = moved[np.random.default_rng(0).permutation(len(moved))]
    before = moved.positions.copy()
    laid = laid_over(moved, fixed)
    distances = cdist(laid.positions, fixed.positions) + 9 * (laid.numbers[:, None] != fixed.numbers[None, :])
    assert distances.min(axis=1).max() < 1e-3
    assert distances.min(axis=0).max() < 1e-3
    np.testing.assert_array_equal(moved.positions, before)
    np.testing.assert_allclose(cdist(laid.positions, laid.positions), cdist(before, before), atol=1e-9)


def test_a_mirror_image_is_not_taken_for_the_molecule():
    left = molecule("CH3CH2OH")
    left.numbers[[3, 4]] = 9, 17  # chiral
    right = left.copy()
    right.positions[:, 0] *= -1
    laid = laid_over(right, left)
    volume = [np.linalg.det(atoms.positions[[0, 1, 2]] - atoms.positions[3]) for atoms in (laid, right)]
    assert volume[0] == pytest.approx(volume[1], rel=1e-6)


def test_like_atoms_lie_on_each_other():
    laid, benzene = laid_over(molecule("C5H5N"), molecule("C6H6")), molecule("C6H6")
    distances = cdist(laid.positions, benzene.positions)
    ring = laid.numbers > 1
    assert distances[np.ix_(ring, benzene.numbers == 6)].min(axis=1).max() < 0.2
