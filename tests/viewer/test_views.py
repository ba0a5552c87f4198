"""Surfaces, slices and atoms to draw, in cells of any shape."""

from itertools import product

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule
from scipy.spatial.transform import Rotation

from deepdft.density import Grid
from deepdft.viewer.atoms import atoms_shown, bonds, cell_edges, orientation, plane_of_atoms
from deepdft.viewer.views import isosurface, sample, slice_plane

CELLS = {
    "cubic": np.diag([4.0, 4.0, 4.0]),
    "oblique": np.array([[4.0, 0, 0], [1.5, 4.5, 0], [-1, 0.5, 5.0]]),
    "left-handed": np.array([[4.0, 0, 0], [1, 4, 0], [0, 0.5, -4]]),
}


def sphere(cell, *, pbc=False):
    """exp(-r) about the middle of a cell: its surface at exp(-1) is a sphere of 1 Å."""
    grid = Grid(ase.Atoms("H", cell=cell, pbc=pbc), (41, 40, 42))
    centre = cell.sum(axis=0) / 2
    return grid, centre, np.exp(-np.linalg.norm(grid.points() - centre, axis=1)).reshape(grid.shape)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_a_sphere_is_a_sphere_with_normals_and_triangles_outwards(cell, sign):
    grid, centre, values = sphere(cell)
    mesh = isosurface(sign * values, grid, sign * np.exp(-1.0))
    spokes = mesh.vertices - centre
    np.testing.assert_allclose(np.linalg.norm(spokes, axis=1), 1.0, atol=0.01)
    assert np.einsum("ij,ij->i", mesh.normals, spokes).min() > np.cos(np.radians(5))  # differences over 0.1 Å
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
    assert np.einsum("ij,ij->i", areas, corners.mean(axis=1) - centre).min() > -1e-6
    volume = np.einsum("ij,ij->i", areas, corners[:, 0] - centre).sum() / 3
    assert volume == pytest.approx(4 / 3 * np.pi, rel=0.02)


def test_a_repeating_cell_is_closed_and_repeats():
    cell = CELLS["oblique"]
    grid = Grid(ase.Atoms("H", cell=cell, pbc=True), (20, 20, 20))
    at_corner = np.linalg.norm((np.mgrid[0:20, 0:20, 0:20].reshape(3, -1).T / 20 + 0.5) % 1 - 0.5, axis=1)
    values = np.exp(-8 * at_corner).reshape(grid.shape)  # a bump at the corner of the cell, cut by all faces
    one, eight = isosurface(values, grid, 0.3), isosurface(values, grid, 0.3, (2, 2, 2))
    fractional = one.vertices @ np.linalg.inv(cell)
    assert fractional.min() == pytest.approx(0, abs=1e-5)
    assert fractional.max() == pytest.approx(1, abs=1e-5)  # up to the face, not a step before it
    assert (eight.vertices @ np.linalg.inv(cell)).max() == pytest.approx(2, abs=1e-5)


def test_a_value_that_is_not_reached_gives_an_empty_mesh():
    grid, _, values = sphere(CELLS["cubic"])
    assert len(isosurface(values, grid, 5.0).faces) == 0


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_samples_of_a_linear_field_are_exact_and_nothing_is_beyond_a_box(cell):
    grid = Grid(ase.Atoms("H", cell=cell), (9, 8, 7), np.array([1.0, 2.0, 3.0]))
    slope = np.array([0.3, -0.2, 0.7])
    values = (grid.points() @ slope).reshape(grid.shape)
    inside = grid.origin + np.random.default_rng(0).uniform(0, 0.8, (50, 3)) @ cell
    np.testing.assert_allclose(sample(values, grid, inside), inside @ slope, atol=1e-6)
    assert np.isnan(sample(values, grid, grid.origin - 0.1 * cell.sum(axis=0)[None])).all()


def test_samples_repeat_with_the_cell():
    grid = Grid(bulk("NaCl", "rocksalt", a=5.64), (10, 10, 10))
    values = np.random.default_rng(1).normal(size=grid.shape)
    points = np.random.default_rng(2).uniform(-3, 3, (20, 3))
    np.testing.assert_allclose(sample(values, grid, points + grid.cell[1]), sample(values, grid, points), atol=1e-9)


def test_a_plane_turns_about_its_point():
    centre = np.array([1.0, 2.0, 3.0])
    plane = slice_plane(centre, tilt=90, turn=0, offset=0.5, size=4, pixels=9)
    np.testing.assert_allclose(plane.points[:, 0], 1.5, atol=1e-12)  # the normal is x
    np.testing.assert_allclose(plane.points.mean(axis=0), plane.centre, atol=1e-12)
    np.testing.assert_allclose(np.cross(plane.right, plane.up), [1, 0, 0], atol=1e-12)


def test_atoms_on_faces_are_drawn_on_both():
    which, positions = atoms_shown(Grid(bulk("Cu", "sc", a=3.0), (4, 4, 4)))
    assert len(which) == 8
    assert {tuple(p) for p in positions.round(6)} == set(product((0, 3), repeat=3))
    assert len(atoms_shown(Grid(bulk("Cu", "sc", a=3.0), (4, 4, 4)), (2, 2, 2))[0]) == 27


def test_atoms_of_a_molecule_stay_where_they_are():
    atoms = ase.Atoms("HO", [[-1, 0, 0], [9, 0, 0]], cell=[4, 4, 4])
    which, positions = atoms_shown(Grid(atoms, (4, 4, 4)))
    assert which.tolist() == [0, 1]
    np.testing.assert_allclose(positions, atoms.positions)
    assert len(cell_edges(Grid(atoms, (4, 4, 4)))) == 0


def test_a_cell_has_twelve_edges():
    assert cell_edges(Grid(bulk("Cu", "sc", a=3.0), (4, 4, 4))).shape == (12, 2, 3)


def test_a_coarse_grid_gives_a_smooth_surface():
    grid = Grid(ase.Atoms("H", cell=np.diag([6.0, 6.0, 6.0])), (20, 20, 20))
    values = np.exp(-((grid.points() - 3) ** 2).sum(axis=1)).reshape(grid.shape)
    mesh = isosurface(values, grid, np.exp(-1.0))
    # the linear interpolation of 0.3 Å alone is off by 0.014
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices - 3, axis=1), 1.0, atol=0.006)


@pytest.mark.parametrize("name", ["H2O", "C6H6", "CH3CH2OH"])
def test_a_molecule_faces_the_viewer_whichever_way_it_lies(name):
    atoms = molecule(name)
    atoms.rotate(50, (3, 1, 2))
    turned = Rotation.from_quat(orientation(atoms.positions, periodic=False)).apply(atoms.positions)
    across, up, towards = np.ptp(turned, axis=0)
    assert towards < min(across, up)
    assert across > up or name == "C6H6"  # which is round


def test_a_slice_begins_in_the_plane_of_the_atoms():
    atoms = molecule("C6H6")
    atoms.rotate(50, (3, 1, 2))
    tilt, turn = plane_of_atoms(atoms.positions, periodic=False)
    plane = slice_plane(atoms.positions.mean(axis=0), tilt=tilt, turn=turn, offset=0, size=4, pixels=9)
    normal = np.cross(plane.right, plane.up)
    assert np.abs((atoms.positions - plane.centre) @ normal).max() < 0.05  # tilt and turn are whole degrees
    assert plane_of_atoms(np.zeros((1, 3)), periodic=False) == (0.0, 0.0)


@pytest.mark.parametrize(("name", "expected"), [("H2O", 2), ("C6H6", 12), ("CH3CH2OH", 8), ("C5H5N", 11), ("H2", 1)])
def test_molecules_have_their_bonds(name, expected):
    atoms = molecule(name)
    assert len(bonds(atoms.numbers, atoms.positions)) == expected


def test_metals_are_bonded_among_themselves_and_to_nonmetals_otherwise():
    copper, salt = bulk("Cu", cubic=True) * (2, 2, 2), bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    lengths = np.linalg.norm(np.diff(copper.positions[bonds(copper.numbers, copper.positions)], axis=1), axis=-1)
    np.testing.assert_allclose(lengths, 3.61 / 2**0.5)
    pairs = bonds(salt.numbers, salt.positions)
    assert len(pairs) > 0
    assert (salt.numbers[pairs[:, 0]] != salt.numbers[pairs[:, 1]]).all()
    assert len(bonds(np.array([8]), np.zeros((1, 3)))) == 0
