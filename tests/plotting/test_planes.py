"""Planes through a structure, and values on them, against fields whose value is known everywhere."""

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule

from deepdft.density import DensityGrid
from deepdft.plotting.planes import Plane, PlaneStencil, cell_outline, choose_plane, plane_values

OBLIQUE = np.array([[4.0, 0.0, 0.0], [2.5, 4.5, 0.3], [-1.0, 1.5, 5.0]])


def periodic_field(points, cell):
    """A smooth field with the period of the cell, in e/Å³."""
    phase = 2 * np.pi * (points @ np.linalg.inv(cell))
    return 1.0 + 0.4 * np.cos(phase[:, 0]) * np.cos(phase[:, 1]) + 0.3 * np.sin(phase[:, 2] + phase[:, 0])


def density_of(function, atoms, shape, origin=(0.0, 0.0, 0.0)):
    empty = DensityGrid(np.zeros(shape), atoms, np.array(origin))
    return DensityGrid(function(empty.points()).reshape(shape), atoms, np.array(origin))


def test_the_plane_of_a_flat_molecule_holds_all_its_atoms():
    atoms = molecule("C6H6", vacuum=4.0)
    atoms.rotate(37, (1, 2, 3), center="COP")
    heights = choose_plane(atoms).project(atoms.positions)[:, 2]
    assert np.abs(heights).max() < 0.05


def test_the_plane_prefers_the_heavy_atoms_of_a_molecule():
    atoms = molecule("CH3CH2OH", vacuum=4.0)
    heights = choose_plane(atoms).project(atoms.positions)[:, 2]
    assert np.abs(heights[atoms.numbers > 1]).max() < 0.05


@pytest.mark.parametrize("name", ["H", "N2", "CO2", "H2O"])
def test_atoms_on_a_point_or_a_line_have_a_plane_through_them(name):
    atoms = molecule(name, vacuum=4.0)
    plane = choose_plane(atoms)
    projected = plane.project(atoms.positions)
    assert np.abs(projected[:, 2]).max() < 1e-6
    assert (projected[:, :2] > 0).all()
    assert (projected[:, :2] < plane.size).all()


def test_the_axes_of_a_plane_are_orthonormal_in_an_oblique_cell():
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    plane = choose_plane(atoms)
    frame = np.stack([plane.u, plane.v, plane.normal])
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)


def test_a_structure_without_atoms_has_no_plane():
    with pytest.raises(ValueError, match="without atoms"):
        choose_plane(ase.Atoms())


def test_points_and_project_are_inverse():
    plane = Plane(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.6, 0.8]), np.array([1.0, 0.0, 0.0]), (3.0, 2.0))
    rows, columns = plane.shape
    projected = plane.project(plane.points()).reshape(rows, columns, 3)
    np.testing.assert_allclose(projected[..., 2], 0, atol=1e-12)
    np.testing.assert_allclose(projected[-1, -1, :2], plane.size)
    np.testing.assert_allclose(projected[0, -1, :2], (3.0, 0.0), atol=1e-12)


@pytest.mark.parametrize("hand", [1, -1], ids=["right-handed", "left-handed"])
def test_values_on_a_plane_are_those_of_the_field_in_an_oblique_cell(hand):
    cell = OBLIQUE[[0, 1, 2][::hand]]
    atoms = ase.Atoms("CO", positions=[[0.3, 0.2, 0.1], [2.0, 1.0, 1.5]], cell=cell, pbc=True)
    density = density_of(lambda points: periodic_field(points, cell), atoms, (40, 44, 48), origin=(0.5, -0.3, 0.2))
    plane = choose_plane(atoms, density.origin)
    exact = periodic_field(plane.points(), cell).reshape(plane.shape)
    np.testing.assert_allclose(plane_values(density, plane), exact, atol=2e-3)


def test_values_at_grid_points_are_exact():
    atoms = ase.Atoms("H", positions=[[1.0, 1.0, 1.0]], cell=np.eye(3) * 3.0, pbc=True)
    values = np.random.default_rng(0).random((6, 6, 6))
    plane = Plane(np.array([0.0, 0.0, 1.0]), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), (0.0, 2.0))
    on_plane = plane_values(DensityGrid(values, atoms), plane)
    assert on_plane[0, 0] == pytest.approx(values[0, 0, 2], abs=1e-12)
    assert on_plane[-1, 0] == pytest.approx(values[0, 4, 2], abs=1e-12)


def test_outside_a_box_that_does_not_repeat_there_is_no_value():
    atoms = ase.Atoms("H", positions=[[1.5, 1.5, 1.5]], cell=np.eye(3) * 3.0, pbc=(True, True, False))
    plane = Plane(np.array([0.0, 0.0, -1.0]), np.array([1.0, 0, 0]), np.array([0, 0, 1.0]), (5.0, 4.0))
    values = plane_values(DensityGrid(np.ones((10, 10, 10)), atoms), plane)
    heights = plane.points()[:, 2].reshape(plane.shape)
    inside = (heights > 0.01) & (heights < 2.69)
    np.testing.assert_allclose(values[inside], 1.0)  # along x the box repeats beyond 3 Å
    assert np.isnan(values[(heights < -0.01) | (heights > 2.71)]).all()


def test_a_stencil_needs_few_points_of_a_large_grid():
    cell = np.eye(3) * 20.0
    plane = choose_plane(water_in(cell))
    stencil = PlaneStencil(plane, shape=(200, 200, 200), cell=cell, origin=np.zeros(3), pbc=np.ones(3, dtype=bool))
    assert len(stencil.indices) < 0.01 * 200**3
    assert (np.diff(stencil.indices) > 0).all()


def water_in(cell):
    atoms = molecule("H2O", cell=cell, pbc=True)
    atoms.center()
    return atoms


def test_the_outline_of_a_cube_cut_across_its_diagonal_is_a_hexagon():
    outline = cell_outline(np.eye(3) * 2.0, np.zeros(3), np.ones(3), np.ones(3) / np.sqrt(3))
    corners = {tuple(corner) for corner in outline.round(6)}
    assert corners == {(2, 1, 0), (2, 0, 1), (1, 2, 0), (0, 2, 1), (1, 0, 2), (0, 1, 2)}
    sides = np.linalg.norm(np.roll(outline, -1, axis=0) - outline, axis=1)
    np.testing.assert_allclose(sides, np.sqrt(2))  # in order round the polygon


def test_a_plane_beside_the_cell_has_no_outline():
    assert len(cell_outline(np.eye(3), np.zeros(3), np.array([0, 0, 5.0]), np.array([0, 0, 1.0]))) == 0
