"""Dipole moments and Coulomb energies, against Gaussian charges whose values are known and against sums over pairs."""

import math
from itertools import product

import ase
import ase.build
import numpy as np
import pytest
from ase.build import molecule

from deepdft import chunks
from deepdft.density import grid_points
from deepdft.electrostatics import dipole_moment, hartree_energy, is_isolated

COULOMB = 14.3996455  # eV Å, e²/(4πε₀), CODATA
BOXES = {
    "cubic": np.diag([9.0, 9.0, 9.0]),
    "orthorhombic": np.diag([8.0, 8.5, 9.0]),
    "oblique": np.array([[9.0, 0.0, 0.0], [2.0, 9.0, 0.0], [1.0, -2.0, 9.0]]),
    "left-handed": np.array([[0.0, 9.0, 0.0], [9.0, 1.0, 0.0], [0.0, 0.0, 9.0]]),
}


def crystal(cell):
    """Atoms that leave no vacuum in a periodic box."""
    return ase.Atoms("H3", scaled_positions=np.array([[1], [3], [5]]) / 6 * np.ones(3), cell=cell, pbc=True)


def gaussians(cell, shape, centres, charges, widths):
    """(nx, ny, nz) e/Å³: a sum of spherical Gaussians of standard deviations in Å."""
    points = grid_points(np.array(cell), shape, np.zeros(3))
    total = np.zeros(len(points))
    for centre, charge, width in zip(centres, charges, widths, strict=True):
        squared = ((points - centre) ** 2).sum(axis=1)
        total += charge * (2 * np.pi * width**2) ** -1.5 * np.exp(-squared / (2 * width**2))
    return total.reshape(shape)


def exact_energy(centres, charges, widths):
    """½ Σ q q′ erf(d / √(2(σ² + σ′²))) / d in eV, with the limit 2/√(2π(σ² + σ′²)) for d = 0."""
    energy = 0.0
    for i, j in product(range(len(charges)), repeat=2):
        sigma = math.hypot(widths[i], widths[j])
        d = float(np.linalg.norm(np.subtract(centres[i], centres[j])))
        inverse = math.erf(d / (sigma * math.sqrt(2))) / d if d > 0 else math.sqrt(2 / math.pi) / sigma
        energy += 0.5 * charges[i] * charges[j] * inverse
    return COULOMB * energy


@pytest.mark.parametrize("cell", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("shape", [(24, 26, 25), (32, 31, 33)])
def test_the_self_energy_of_a_gaussian_charge_is_known(cell, shape):
    centre, width = cell.sum(axis=0) / 2, 0.6
    density = gaussians(cell, shape, [centre], [1.3], [width])
    expected = COULOMB * 1.3**2 / (2 * math.sqrt(math.pi) * width)
    assert hartree_energy(density, ase.Atoms("H", [centre], cell=cell)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("cell", BOXES.values(), ids=BOXES)
def test_a_dipole_of_gaussians_has_the_energy_and_the_moment_of_its_charges(cell):
    centres = cell.sum(axis=0) / 2 + np.array([[-0.6, 0.1, 0.0], [0.5, 0.4, -0.5]])
    charges, widths = [1.0, -1.0], [0.5, 0.6]
    density = gaussians(cell, (32, 30, 34), centres, charges, widths)
    atoms = ase.Atoms("H2", centres, cell=cell)
    assert hartree_energy(density, atoms) == pytest.approx(exact_energy(centres, charges, widths), rel=1e-6)
    np.testing.assert_allclose(
        dipole_moment(density, atoms), centres[1] - centres[0], atol=1e-4
    )  # electrons are negative


def test_single_precision_is_enough():
    cell = BOXES["orthorhombic"]
    density = gaussians(cell, (30, 32, 34), [cell.sum(axis=0) / 2], [1.0], [0.5])
    atoms = ase.Atoms("H", [cell.sum(axis=0) / 2], cell=cell)
    assert hartree_energy(density.astype(np.float32), atoms) == pytest.approx(hartree_energy(density, atoms), rel=1e-5)


@pytest.mark.parametrize("cell", [BOXES["orthorhombic"], BOXES["oblique"]], ids=["orthorhombic", "oblique"])
def test_the_energy_is_the_sum_over_pairs_of_grid_points(cell):
    """Two separate clouds, E(a + b) - E(a) - E(b): the energy of a voxel with itself hardly matters there."""
    shape, width = (13, 12, 14), 0.75
    middle = cell.sum(axis=0) / 2
    a = gaussians(cell, shape, [middle - np.array([1.6, 0.3, 0.2])], [1.0], [width])
    b = gaussians(cell, shape, [middle + np.array([1.6, 0.5, 0.4])], [-0.6], [width])
    atoms = ase.Atoms("H", [middle], cell=cell)
    points = grid_points(cell, shape, np.zeros(3))
    voxel = abs(np.linalg.det(cell)) / len(points)
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(distances, np.inf)
    pairs = COULOMB * voxel**2 * (a.ravel() @ (1 / distances) @ b.ravel())
    interaction = hartree_energy(a + b, atoms) - hartree_energy(a, atoms) - hartree_energy(b, atoms)
    assert interaction == pytest.approx(pairs, rel=3e-3)  # of the missing voxels with themselves


def test_a_periodic_density_of_one_wave_has_the_energy_of_that_wave():
    """ρ = A cos(G·r) has the potential 4πA/G² cos(G·r), so the energy per cell is πA²Ω/G²."""
    for cell in BOXES.values():
        fractional = np.stack(np.meshgrid(*(np.arange(n) / n for n in (12, 15, 16)), indexing="ij"), axis=-1)
        index = np.array([1, -2, 3])
        density = 0.2 * np.cos(2 * np.pi * fractional @ index)
        wave = 2 * np.pi * np.linalg.inv(cell) @ index
        expected = COULOMB * np.pi * 0.2**2 * abs(np.linalg.det(cell)) / (wave @ wave)
        atoms = crystal(cell)
        assert hartree_energy(density, atoms) == pytest.approx(expected, rel=1e-7)
        assert hartree_energy(density + 5.0, atoms) == pytest.approx(expected, rel=1e-6)  # G = 0 is left out


def test_a_lattice_of_gaussians_in_a_background_has_the_madelung_energy():
    """Point charges in a simple cubic lattice with a background: -2.837297 q²/(2a); the width adds its self-energy, and
    2πσ²q²/a³ for the background within the Gaussian (Makov & Payne, Phys. Rev. B 51, 4014, 1995)."""
    a, width, charge = 6.0, 0.5, 1.2
    density = gaussians(np.eye(3) * a, (40, 40, 40), [np.full(3, a / 2)], [charge], [width])
    self_energy = 1 / (2 * math.sqrt(math.pi) * width)
    expected = COULOMB * charge**2 * (self_energy - 2.837297 / (2 * a) + 2 * math.pi * width**2 / a**3)
    assert hartree_energy(density, crystal(np.eye(3) * a)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("offset", [(0, 0, 0), (16, 16, 16), (5, 20, 31)])
def test_a_molecule_in_a_periodic_box_may_be_cut_by_its_faces(offset):
    cell, shape = np.diag([8.0, 8.0, 8.0]), (32, 32, 32)
    centres = np.array([[4.0, 4.0, 4.0], [5.0, 4.5, 3.5]])
    density = np.roll(gaussians(cell, shape, centres, [1.0, -0.7], [0.5, 0.6]), offset, axis=(0, 1, 2))
    atoms = ase.Atoms("H2", (centres + np.array(offset) / 4) % 8.0, cell=cell, pbc=True)
    assert hartree_energy(density, atoms) == pytest.approx(exact_energy(centres, [1.0, -0.7], [0.5, 0.6]), rel=1e-6)
    np.testing.assert_allclose(dipole_moment(density, atoms), 0.85 * np.array([1.0, 0.5, -0.5]), atol=1e-4)


def test_the_dipole_moment_of_a_neutral_density_does_not_depend_on_where_the_grid_begins():
    cell, origin = BOXES["oblique"], np.array([-3.0, 2.0, 50.0])
    centres = cell.sum(axis=0) / 2 + np.array([[-0.6, 0.1, 0.0], [0.5, 0.4, -0.5]])
    density = gaussians(cell, (30, 30, 30), centres, [1.0, -1.0], [0.5, 0.5])
    moved = ase.Atoms("CO", centres + origin, cell=cell)
    np.testing.assert_allclose(dipole_moment(density, moved, origin), [1.1, 0.3, -0.5], atol=1e-4)


def test_the_dipole_moment_of_an_ion_is_about_the_centre_of_nuclear_charge():
    atoms = ase.Atoms("HF", [[4.0, 4.0, 4.0], [5.0, 4.0, 4.0]], cell=np.eye(3) * 9)
    density = gaussians(atoms.cell.array, (36, 36, 36), [[6.0, 4.0, 4.0]], [2.0], [0.4])
    np.testing.assert_allclose(dipole_moment(density, atoms), [-2 * (6.0 - 4.9), 0, 0], atol=1e-4)


def test_molecules_are_told_from_crystals_by_their_vacuum():
    water = molecule("H2O", vacuum=3.0)
    assert is_isolated(water)
    water.pbc = True
    assert is_isolated(water)
    water.pbc = False
    water.center(vacuum=0.5)
    assert is_isolated(water)  # not periodic, whatever its box
    water.pbc = True
    assert not is_isolated(water)
    slab = ase.build.fcc111("Al", (2, 2, 3), vacuum=10.0, periodic=True)
    assert not is_isolated(slab)
    for symbol, a in (("Cs", 6.14), ("Xe", 6.2)):  # the longest bonds that crystals have
        assert not is_isolated(ase.build.bulk(symbol, "bcc" if symbol == "Cs" else "fcc", a=a))


@pytest.mark.parametrize("cell", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("periodic", [False, True])
def test_the_size_of_chunks_does_not_change_the_energy(cell, periodic, monkeypatch):
    density = gaussians(cell, (10, 11, 12), [cell.sum(axis=0) / 2], [1.0], [0.9])
    atoms = crystal(cell) if periodic else ase.Atoms("H", [cell.sum(axis=0) / 2], cell=cell)
    at_once = hartree_energy(density, atoms)
    monkeypatch.setattr(chunks.CPU, "wave_vectors", 1)
    assert hartree_energy(density, atoms) == pytest.approx(at_once, rel=1e-13)
