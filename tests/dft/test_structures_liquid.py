"""Boxes of a liquid have its density, and molecules that are whole and apart."""

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

from deepdft.dft import structures_liquid
from deepdft.dft.structures_liquid import CONTACT, LiquidBoxes, bonds, equilibrate, is_whole, pack


class NoForces(Calculator):
    """Atoms that do not interact."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


def test_molecules_are_packed_at_the_density_and_apart() -> None:
    water = molecule("H2O")
    atoms = pack(water, 12, 1.0, np.random.default_rng(0))
    grams = atoms.get_masses().sum() * units._amu * 1e3
    assert grams / (atoms.get_volume() * 1e-24) == pytest.approx(1.0, rel=1e-6)
    assert atoms.pbc.all()
    inside = water.get_all_distances()
    apart = atoms.get_all_distances(mic=True)
    of_molecule = np.arange(36) // 3
    for number in range(12):
        first = slice(3 * number, 3 * number + 3)
        np.testing.assert_allclose(apart[first, first], inside, atol=1e-9)
    radii = np.tile([1.52, 1.2, 1.2], 12)  # van der Waals radii of O and H in Å (Bondi)
    ratio = apart / (radii[:, None] + radii)
    assert ratio[of_molecule[:, None] != of_molecule].min() > CONTACT - 0.03


def test_the_gradient_of_the_overlap_is_its_slope() -> None:
    rng = np.random.default_rng(0)
    body = molecule("CH4").positions
    motions = np.concatenate([rng.uniform(0, 4, (3, 3)), rng.normal(size=(3, 3))], axis=1).ravel()
    arguments = (body, np.full((5, 5), 2.4), 5.0)
    overlap = structures_liquid._overlap
    value, gradient = overlap(motions, *arguments)
    assert value > 1.0
    expected = [
        (overlap(motions + step, *arguments)[0] - overlap(motions - step, *arguments)[0]) / 2e-4
        for step in 1e-4 * np.eye(18)
    ]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4 * np.abs(gradient).max())


def test_packing_depends_on_the_random_numbers_alone() -> None:
    def packed(seed: int) -> np.ndarray:
        return pack(molecule("CH4"), 4, 0.4, np.random.default_rng(seed)).positions

    np.testing.assert_array_equal(packed(1), packed(1))
    assert not np.allclose(packed(1), packed(2))


def test_what_does_not_fit_is_reported() -> None:
    with pytest.raises(ValueError, match=r"8 molecules OH2 do not fit into a box of"):
        pack(molecule("H2O"), 8, 6.0, np.random.default_rng(0))


def test_bonds_are_found_across_the_faces() -> None:
    water = molecule("H2O")
    assert bonds(water) == {(0, 1), (0, 2)}
    box = water.copy()
    box.set_cell([8.0, 8.0, 8.0])
    box.pbc = True
    box.wrap()
    assert bonds(box) == bonds(water)


def test_broken_and_new_bonds_are_noticed() -> None:
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:, 0] += 4.0
    assert is_whole(pair, molecule("H2O"))
    broken = pair.copy()
    broken.positions[1] += [0, 1.0, 0]
    assert not is_whole(broken, molecule("H2O"))
    joined = pair.copy()
    joined.positions[3:] -= [2.6, 0, 0]
    assert not is_whole(joined, molecule("H2O"))


def test_dynamics_reach_the_temperature() -> None:
    from ase.build import bulk

    atoms = bulk("Cu", cubic=True).repeat((3, 3, 3))
    before = atoms.positions.copy()
    kinetic: list[float] = []
    for seed in range(2):
        equilibrate(atoms, EMT(), temperature=600.0, steps=60, timestep=2.0, rng=np.random.default_rng(seed))
        kinetic.append(atoms.get_temperature())
    assert np.mean(kinetic) == pytest.approx(600.0, rel=0.25)
    assert atoms.calc is None
    assert not np.allclose(atoms.positions, before)


@pytest.fixture
def boxes(monkeypatch: pytest.MonkeyPatch):
    """Boxes of four methane molecules without forces."""
    monkeypatch.setattr(structures_liquid, "atoms_from_smiles", lambda smiles: molecule("CH4"))
    monkeypatch.setattr(structures_liquid, "gfn1", NoForces)

    def make(**settings) -> LiquidBoxes:
        common = {"count": 2, "smiles": "C", "n_molecules": 4, "density": 0.4, "temperature": 300.0, "steps": 2}
        return LiquidBoxes(**common | settings)

    return make


def test_a_box_is_reproduced_by_seed_and_number(boxes) -> None:
    name, atoms = boxes().make(1)
    assert name == "4-CH4-00001"
    assert str(atoms.symbols) == "H16C4"
    assert atoms == boxes().make(1)[1]
    assert atoms != boxes().make(0)[1]
    assert boxes(first=1).make(0) == (name, atoms), "a store that continues another"
    assert (atoms.get_scaled_positions(wrap=False) >= 0).all()
    assert len(bonds(atoms)) == 16


def test_a_box_whose_molecules_break_is_given_up(boxes) -> None:
    with pytest.raises(ValueError, match=r"4-CH4-00000: molecules broke in 2 trajectories at 300 K; lower"):
        boxes(steps=300, attempts=2).make(0)


def test_boxes_are_counted_from_zero(boxes) -> None:
    with pytest.raises(ValueError, match=r"recipe.first=-1: a number of a box"):
        boxes(first=-1)


def test_a_trajectory_with_tight_binding() -> None:
    pytest.importorskip("tblite", reason="tblite is not installed: make gpaw")
    pytest.importorskip("rdkit", reason="RDKit is not installed: make gpaw")
    recipe = LiquidBoxes(count=1, smiles="O", n_molecules=2, density=0.3, temperature=300.0, steps=2)
    _, atoms = recipe.make(0)
    assert str(atoms.symbols) == "H4O2"
    assert len(bonds(atoms)) == 4
