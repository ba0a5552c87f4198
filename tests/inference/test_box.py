"""Which box and grid a structure is predicted on."""

import ase
import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule

from deepdft.inference.box import fft_size, make_box


def test_a_crystal_keeps_its_cell():
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    box = make_box(atoms, spacing=0.2)
    np.testing.assert_array_equal(box.atoms.cell.array, atoms.cell.array)
    np.testing.assert_array_equal(box.origin, 0)
    assert box.repeats
    assert (box.spacing <= 0.2 + 1e-9).all()


def test_a_molecule_without_a_cell_gets_vacuum_and_keeps_its_place():
    atoms = molecule("H2O")
    atoms.positions += (10.0, -20.0, 30.0)
    box = make_box(atoms)
    np.testing.assert_array_equal(box.atoms.positions, atoms.positions)
    np.testing.assert_allclose(box.origin, atoms.positions.min(axis=0) - 4.0)
    np.testing.assert_allclose(box.atoms.cell.lengths(), np.ptp(atoms.positions, axis=0) + 8.0)
    assert not box.repeats
    assert box.structure().cell.rank == 0


def test_the_corner_points_of_a_molecules_box_are_its_origin_and_a_step_from_its_end():
    box = make_box(molecule("H2O"), shape=(4, 5, 6), vacuum=3.0)
    points = box.points(slice(None))
    np.testing.assert_allclose(points[0], box.origin)
    np.testing.assert_allclose(points[-1], box.origin + box.atoms.cell.lengths() * [3 / 4, 4 / 5, 5 / 6])


def test_points_in_x_fastest_order_are_a_permutation_of_the_others():
    box = make_box(molecule("H2O"), shape=(3, 4, 5))
    expected = box.points(slice(None)).reshape(3, 4, 5, 3).transpose(2, 1, 0, 3).reshape(-1, 3)
    np.testing.assert_array_equal(box.points(slice(None), order="F"), expected)
    np.testing.assert_array_equal(box.points(slice(7, 20), order="F"), expected[7:20])


@pytest.mark.parametrize(("vacuum", "kept"), [(2.1, True), (1.9, False)])
def test_a_molecules_own_cell_is_kept_where_it_leaves_room(vacuum, kept):
    atoms = molecule("CH4", vacuum=vacuum)
    box = make_box(atoms)
    assert box.repeats is kept
    assert np.allclose(box.atoms.cell.array, atoms.cell.array) is kept


@pytest.mark.parametrize(("height", "kept"), [(0.25, True), (0.2, False)])
def test_room_is_measured_perpendicular_to_the_faces_of_an_oblique_cell(height, kept):
    cell = np.array([[9.0, 0, 0], [9.0, 9.0, 0], [0, 0, 9.0]])  # faces 6.4, 9 and 9 Å apart
    atoms = ase.Atoms("H", positions=[[0.5, height, 0.5] @ cell], cell=cell)
    assert make_box(atoms).repeats is kept


def test_vacuum_given_for_a_molecule_makes_a_new_box():
    atoms = molecule("CH4", vacuum=6.0)
    box = make_box(atoms, vacuum=3.0)
    np.testing.assert_allclose(box.atoms.cell.lengths(), np.ptp(atoms.positions, axis=0) + 6.0)


def test_a_slab_keeps_the_cell_it_is_given():
    atoms = fcc111("Al", (1, 1, 2), vacuum=5.0)
    assert list(atoms.pbc) == [True, True, False]
    box = make_box(atoms, spacing=0.3)
    np.testing.assert_array_equal(box.atoms.cell.array, atoms.cell.array)
    np.testing.assert_array_equal(box.atoms.pbc, atoms.pbc)


def test_nothing_is_changed_in_the_structure_that_is_given():
    atoms = molecule("H2O")
    make_box(atoms)
    assert atoms.cell.rank == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": 0.0}, "above zero"),
        ({"spacing": -0.1}, "above zero"),
        ({"spacing": float("nan")}, "above zero"),
        ({"shape": (10, 10)}, "three numbers"),
        ({"shape": (10, 0, 10)}, "at least 1"),
        ({"shape": (10, 1.5, 10)}, "at least 1"),
        ({"shape": (4, 4, 4), "spacing": 0.1}, "not both"),
        ({"vacuum": -1.0}, "zero or more"),
        ({"vacuum": 0.0}, "flat"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_box(molecule("H2O"), **options)


def test_a_periodic_structure_without_a_cell_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"atoms\.center"):
        make_box(fcc111("Al", (1, 1, 2)))


def test_vacuum_for_a_crystal_is_refused():
    with pytest.raises(ValueError, match="is periodic"):
        make_box(bulk("Al"), vacuum=3.0)


@pytest.mark.parametrize(
    ("n", "size"), [(1, 2), (2, 2), (11, 12), (13, 14), (22, 24), (97, 98), (101, 108), (120, 120)]
)
def test_grid_sizes_are_even_with_small_prime_factors(n, size):
    assert fft_size(n) == size


@pytest.mark.parametrize("height", [0.0, 7.5, -20.0])
def test_a_slab_lies_in_the_middle_of_its_grid_wherever_it_lies_in_its_cell(height):
    sheet = ase.Atoms("C2", [[0, 0, height], [0, 1.42, height]], cell=[2.46, 2.46, 15.0], pbc=[True, True, False])
    box = make_box(sheet, spacing=0.5)
    z = box.points(slice(None))[:, 2]
    assert z.min() <= height - 7.0
    assert z.max() >= height + 7.0 - 0.5
    assert (box.origin[:2] == 0).all()


def test_a_slab_that_is_thicker_than_its_cell_is_refused():
    slab = ase.Atoms("C2", [[0, 0, 0], [0, 0, 6.0]], cell=[2.46, 2.46, 5.0], pbc=[True, True, False])
    with pytest.raises(ValueError, match="C2 does not fit into its cell along c"):
        make_box(slab)
