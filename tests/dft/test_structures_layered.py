"""Layered oxides are the crystals of the literature, with random occupations and vacancies."""

from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal

from deepdft.dft.structures_layered import LATTICE, LayeredOxides, layered_oxide


def shells(atoms: Atoms, cutoff: float) -> list[tuple[str, list[float]]]:
    """For each atom its element and the distances to its neighbours: the same for the same crystal."""
    first, distances = neighbor_list("id", atoms, cutoff)
    around = [(symbol, sorted(distances[first == i].round(6))) for i, symbol in enumerate(atoms.symbols)]
    return sorted((symbol, [float(distance) for distance in found]) for symbol, found in around)


@pytest.mark.parametrize("metal", LATTICE)
def test_one_metal_alone_is_the_crystal_of_space_group_166(metal: str) -> None:
    a, c, z = LATTICE[metal]
    sites = [(0, 0, 0.5), (0, 0, 0), (0, 0, z)]
    hexagonal = crystal(["Li", metal, "O"], sites, spacegroup=166, cellpar=[a, a, c, 90, 90, 120])  # 3 formula units
    mine = layered_oxide([metal] * 3, (1, 1, 3))
    assert mine.get_volume() == pytest.approx(hexagonal.get_volume())
    for expected, found in zip(shells(hexagonal, 4.5), shells(mine, 4.5), strict=True):
        assert found[0] == expected[0]
        np.testing.assert_allclose(found[1], expected[1], atol=1e-5)


def test_bonds_are_those_of_the_literature() -> None:
    """Ni-O and Co-O of R-3m LiNiO2 and LiCoO2, six of each."""
    for metal, length in (("Ni", 1.97), ("Co", 1.92)):
        atoms = layered_oxide([metal] * 4, (2, 2, 1))
        pairs = neighbor_list("ijd", atoms, 2.05)
        bonds = pairs[2][(atoms.symbols[pairs[0]] == metal) & (atoms.symbols[pairs[1]] == "O")]
        assert len(bonds) == 6 * 4
        np.testing.assert_allclose(bonds, length, atol=0.01)


def test_the_cell_suits_a_grid() -> None:
    assert min(layered_oxide(["Ni"] * 4, (2, 2, 1)).cell.angles()) > 60


def test_structures_are_reproduced_by_seed_and_number() -> None:
    first, second = LayeredOxides(count=5, seed=3), LayeredOxides(count=2, seed=3)
    assert first.make(1)[0] == second.make(1)[0]
    assert first.make(1)[1] == second.make(1)[1]
    assert first.make(1)[1] != LayeredOxides(count=5, seed=4).make(1)[1]
    assert len({first.make(i)[0] for i in range(5)}) == 5
    continued = LayeredOxides(count=2, seed=3, first=3)
    assert [continued.make(i) for i in range(2)] == [first.make(3), first.make(4)]


def test_occupations_and_vacancies_vary_within_their_limits() -> None:
    recipe = LayeredOxides(count=60, max_vacancies=0.5, metals={"Ni": 3.0, "Mn": 1.0, "Co": 1.0})
    vacancies, metals = Counter(), Counter()
    for i in range(60):
        _, atoms = recipe.make(i)
        counts = Counter(atoms.get_chemical_symbols())
        assert counts["O"] == 8
        assert counts["Ni"] + counts["Mn"] + counts["Co"] == 4
        vacancies[4 - counts["Li"]] += 1
        metals.update({metal: counts[metal] for metal in ("Ni", "Mn", "Co")})
    assert set(vacancies) == {0, 1, 2}
    assert metals["Ni"] / 240 == pytest.approx(0.6, abs=0.1)


def test_atoms_are_displaced_by_the_rattle_and_sorted() -> None:
    recipe = LayeredOxides(count=1, max_vacancies=0.0, rattle=0.04, metals={"Ni": 1.0}, repeat=(3, 3, 1))
    _, atoms = recipe.make(0)
    displaced = atoms.positions - layered_oxide(["Ni"] * 9, (3, 3, 1)).positions
    assert displaced.std() == pytest.approx(0.04, rel=0.25)
    assert (np.diff(atoms.numbers) >= 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metals": {"Fe": 1.0}}, r"recipe.metals=\{'Fe': 1.0\}: expected weights of some of Ni, Co, Mn"),
        ({"repeat": (2, 2)}, r"recipe.repeat=\[2, 2\]: expected three numbers"),
        ({"max_vacancies": 2}, "recipe.max_vacancies=2: a share of the lithium"),
        ({"first": -1}, "recipe.first=-1: a number of a structure, 0 or more"),
    ],
)
def test_other_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayeredOxides(count=1, **settings)


def test_initial_moments_follow_the_magnetic_order() -> None:
    plain = LayeredOxides(count=1, seed=3).make(0)[1]
    made = {
        order: LayeredOxides(count=1, seed=3, magnetic_order=order).make(0)[1]
        for order in ("ferromagnetic", "stripes", "random")
    }
    sizes = np.array([{"Ni": 1.0, "Co": 0.6, "Mn": 4.0}.get(symbol, 0.0) for symbol in plain.symbols])
    assert not plain.get_initial_magnetic_moments().any()
    for atoms in made.values():
        np.testing.assert_array_equal(atoms.positions, plain.positions)
        np.testing.assert_array_equal(np.abs(atoms.get_initial_magnetic_moments()), sizes)
    assert (made["ferromagnetic"].get_initial_magnetic_moments() >= 0).all()
    metals = sizes > 0
    signs = np.sign(made["stripes"].get_initial_magnetic_moments()[metals])
    assert signs.sum() == 0  # 2 × 2 cells: two rows up, two down
    rows = np.round(made["stripes"].get_scaled_positions()[metals, 1] * 2).astype(int) % 2
    assert len({(row, sign) for row, sign in zip(rows, signs, strict=True)}) == 2


def test_unknown_magnetic_orders_are_refused() -> None:
    with pytest.raises(ValueError, match="expected null or ferromagnetic, stripes, random"):
        LayeredOxides(count=1, magnetic_order="ferro")
