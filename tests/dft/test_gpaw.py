"""GPAW itself, on hydrogen, and the parts of the engine that work without it."""

import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from deepdft.density import INITIAL_MOMENTS
from deepdft.dft.calculation import CalculationError
from deepdft.dft.frames import grid_shape
from deepdft.dft.functionals import FUNCTIONALS
from deepdft.dft.gpaw import GpawMolecule, GpawPeriodic
from deepdft.dft.gpaw_density import valence_densities
from deepdft.dft.magnetism import magnetic_state

PBE = FUNCTIONALS["PBE"]
COMMON = {"spacing": 0.2, "smoothing": 0.1, "smearing": 0.05, "convergence": {"density": 1e-3}, "max_iterations": 60}


def molecules(**settings) -> GpawMolecule:
    return GpawMolecule(**{"cutoff": 250.0, "vacuum": 2.0, **COMMON, **settings})


def crystals(**settings) -> GpawPeriodic:
    return GpawPeriodic(**{"cutoff": 250.0, "kpoint_density": 0.0, **COMMON, **settings})


def needs_gpaw() -> None:
    pytest.importorskip("gpaw", reason="GPAW is not installed: make gpaw")


@pytest.mark.parametrize(
    ("least", "count"), [(1, 2), (2, 2), (13, 14), (22, 24), (29.0000000001, 30), (58, 60), (50, 50)]
)
def test_grids_have_even_numbers_of_points_with_small_factors(least: float, count: int) -> None:
    assert grid_shape(Atoms(cell=[least, 2.0, 2.0]), 1.0) == (count, 2, 2)


def test_a_molecule_gets_a_box_with_vacuum_that_the_spacing_divides() -> None:
    engine = molecules(vacuum=2.5)
    water = molecule("H2O")
    framed = engine.frame(water)
    scaled = framed.positions
    assert (scaled.min(axis=0) >= 2.5 - 1e-9).all()
    assert (framed.cell.lengths() - scaled.max(axis=0) >= 2.5 - 1e-9).all()
    np.testing.assert_allclose(framed.cell.lengths() / engine.shape(framed), 0.2)
    np.testing.assert_allclose(framed.get_all_distances(), water.get_all_distances())
    assert framed.pbc.all()


def test_a_crystal_keeps_its_cell() -> None:
    engine = crystals()
    silicon = bulk("Si")
    silicon.positions -= 0.5
    framed = engine.frame(silicon)
    np.testing.assert_array_equal(framed.cell, silicon.cell)
    assert (framed.get_scaled_positions(wrap=False) >= 0).all()
    assert engine.shape(framed) == (20, 20, 20)  # edges of 3.84 Å


def test_what_does_not_repeat_is_refused_as_a_crystal() -> None:
    with pytest.raises(CalculationError, match=r"periodic in 0 directions, cell of rank 0; .* use dft=gpaw_molecule"):
        crystals().frame(molecule("H2O"))


@pytest.mark.parametrize("engine", [molecules, crystals])
def test_a_charge_is_refused_unless_it_is_that_of_the_calculation(engine) -> None:
    hydroxide = Atoms("OH", [[0, 0, 0], [0.96, 0, 0]], cell=[4.0, 4.0, 4.0], pbc=True, info={"charge": -1})
    with pytest.raises(CalculationError, match=r"HO has the charge -1, which would be ignored; expected a neutral"):
        engine().frame(hydroxide)
    assert len(engine(options={"charge": -1}).frame(hydroxide)) == 2
    hydroxide.info["charge"] = 0
    assert len(engine().frame(hydroxide)) == 2


def test_k_points_follow_the_density() -> None:
    atoms = Atoms("H", cell=[2.0, 4.0, 30.0], pbc=True)
    zone = crystals(kpoint_density=1.0).brillouin_zone(atoms)
    assert zone["kpts"] == {"size": [4, 2, 1], "gamma": True}
    assert crystals(kpoint_density=0.0).brillouin_zone(atoms)["kpts"]["size"] == [1, 1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cutoff": 0}, r"dft.cutoff=0: expected a number above zero"),
        ({"spacing": 0.3}, r"dft.smoothing=0.1 Å is too sharp for dft.spacing=0.3 Å"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        molecules(**settings)


def test_the_description_tells_definition_and_parameters() -> None:
    described = molecules(hubbard_u={"Ni": 6.0}).describe()
    assert "Gaussian of standard deviation 0.1 Å" in described["definition"]
    assert described["parameters"]["hubbard_u"] == {"Ni": 6.0}
    assert described["parameters"]["kind"] == "GpawMolecule"


def test_without_gpaw_there_is_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"GPAW is not installed: `make gpaw`"):
        molecules().check()


@pytest.fixture(scope="module")
def hydrogen():
    """H2 with a bond along (1, 1, 0), PBE."""
    needs_gpaw()
    engine = molecules()
    half = 0.37 / np.sqrt(2)
    framed = engine.frame(Atoms("H2", [[-half, -half, 0], [half, half, 0]]))
    return framed, engine.calculate(framed, FUNCTIONALS["PBE"])


def test_hydrogen_has_two_electrons_and_its_energy(hydrogen) -> None:
    framed, calculation = hydrogen
    calculation.check()
    assert calculation.n_valence == 2
    assert calculation.density.n_electrons == pytest.approx(2, abs=1e-4)
    assert calculation.energy == pytest.approx(-6.6, abs=0.3)  # binding 4.5 eV, and 1.1 eV of spin for each atom
    assert calculation.iterations > 2
    assert calculation.density.shape == tuple(np.round(framed.cell.lengths() / 0.2))


def test_the_density_of_hydrogen_has_its_symmetry_and_shape(hydrogen) -> None:
    """Two peaks on the atoms, equal; a saddle between; the same after x and y are exchanged."""
    framed, calculation = hydrogen
    values = calculation.density.values
    np.testing.assert_allclose(values, values.transpose(1, 0, 2), atol=1e-3 * values.max())
    points = calculation.density.points()
    for position in framed.positions:
        near = np.linalg.norm(points - position, axis=1).argmin()
        assert values.ravel()[near] > 0.9 * values.max()
    middle = np.linalg.norm(points - framed.positions.mean(axis=0), axis=1).argmin()
    assert 0.5 * values.max() < values.ravel()[middle] < values.max()


def test_the_density_rings_nowhere(hydrogen) -> None:
    """Also where the plane waves' products are finer than the stored grid: positive, and small far from the atoms."""
    framed, calculation = hydrogen
    values = calculation.density.values
    assert values.min() > 0
    # half the diagonal of the box is twice as far from the atoms as its faces
    corner = values[:2, :2, :2]
    assert corner.max() < 1e-4 * values.max()
    coarse = molecules(spacing=0.4, smoothing=0.2).calculate(framed, FUNCTIONALS["PBE"]).density
    assert coarse.values.min() > 0
    assert coarse.n_electrons == pytest.approx(2, abs=1e-3)


def test_the_unsmoothed_sum_is_gpaws_own_density(hydrogen) -> None:
    """With a very narrow Gaussian the sum of both parts is what GPAW gives on its grid, where that is smooth."""
    framed, _ = hydrogen
    calculator = molecules().converge(framed, FUNCTIONALS["PBE"])
    shape = tuple(int(n) for n in calculator.get_number_of_grid_points())
    (mine,) = valence_densities(calculator.dft, framed, 0.02, shape)
    theirs = calculator.get_all_electron_density(skip_core=True)
    np.testing.assert_allclose(mine, theirs, atol=0.02 * theirs.max())
    far = theirs < 0.3 * theirs.max()
    assert far.mean() > 0.9
    np.testing.assert_allclose(mine[far], theirs[far], atol=2e-3 * theirs.max())


@pytest.mark.parametrize("label", ["RPBE", "PW91", "BEEF", "CA"])
def test_other_functionals_give_slightly_other_densities(hydrogen, label: str) -> None:
    framed, reference = hydrogen
    other = molecules().calculate(framed, FUNCTIONALS[label])
    other.check()
    difference = np.abs(other.density.values - reference.density.values).sum() / reference.density.values.sum()
    assert 1e-3 < difference < 0.1


def test_without_convergence_there_is_a_reason() -> None:
    needs_gpaw()
    engine = molecules(max_iterations=2)
    with pytest.raises(CalculationError, match=r"PBE: not converged after 2 steps, the density still changes by \d"):
        engine.calculate(engine.frame(molecule("H2")), FUNCTIONALS["PBE"])


def test_hubbard_u_and_other_paw_sets_are_handed_over() -> None:
    engine = molecules(hubbard_u={"Ni": 6.0, "Mn": 3.9}, setups={"Ni": "10", "O": "paw"})
    names = engine.paw_sets()
    assert names == {"default": "paw", "Ni": "10:d,6.0", "Mn": "paw:d,3.9", "O": "paw"}
    needs_gpaw()
    from gpaw.setup import create_setup

    setup = create_setup("Ni", "PBE", type=names["Ni"])
    assert setup.Nv == 10
    assert pytest.approx([6.0 / 27.211386], rel=1e-6) == setup.hubbard_u.U


def test_a_spin_polarised_atom() -> None:
    needs_gpaw()
    engine = molecules(magnetic_moments={"H": 1.0}, smearing=0.01)
    calculation = engine.calculate(engine.frame(Atoms("H")), FUNCTIONALS["PBE"])
    assert calculation.details["magnetic_moment"] == pytest.approx(1.0, abs=1e-3)
    assert calculation.density.n_electrons == pytest.approx(1.0, abs=1e-4)


def test_a_crystal_with_k_points() -> None:
    needs_gpaw()
    engine = crystals(kpoint_density=0.5, cutoff=200.0)
    calculation = engine.calculate(engine.frame(bulk("Li", "bcc", a=3.5)), FUNCTIONALS["PBE"])
    calculation.check()
    assert calculation.details["kpoints"] == 8
    assert "angles between your unit-cell vectors" not in str(calculation.details)
    sharp = engine.calculate(Atoms("Li", cell=[[3.5, 0, 0], [0, 3.5, 0], [3.5, 0, 2.0]], pbc=True), FUNCTIONALS["PBE"])
    assert "angles between your unit-cell vectors" in sharp.details["warnings"][0]
    assert calculation.n_valence == 1


def test_initial_moments_are_the_structures_or_the_elements() -> None:
    atoms = Atoms("NiO2")
    assert molecules().initial_moments(atoms) == [0.0, 0.0, 0.0]
    with pytest.raises(CalculationError, match=r"NiO2 has no magnetic moments to start from.*dft\.magnetic_moments"):
        molecules(spin=True).initial_moments(atoms)
    by_element = molecules(magnetic_moments={"Ni": 2.0})
    assert by_element.channels == ("total", "difference")
    assert by_element.initial_moments(atoms) == [2.0, 0.0, 0.0]
    atoms.set_initial_magnetic_moments([-1.0, 0.5, 0.0])
    for engine in (molecules(spin=True), by_element, crystals(spin=True)):
        atoms.set_cell([5.0, 5.0, 5.0])
        atoms.pbc = True
        assert engine.initial_moments(engine.frame(atoms)) == [-1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("moments", "state"),
    [
        ([0.0, 0.05], "none"),
        ([1.7, 1.7, 0.01], "ferromagnetic"),
        ([-1.0, -2.0], "ferromagnetic"),
        ([2.0, -2.0, 0.05], "antiferromagnetic"),
        ([4.0, -1.0], "ferrimagnetic"),
    ],
)
def test_the_magnetic_state_follows_from_the_moments(moments: list[float], state: str) -> None:
    assert magnetic_state(np.array(moments)) == state


def test_a_generation_without_spin_is_described_as_before() -> None:
    assert "spin" not in molecules().describe()["parameters"]
    assert molecules(spin=True).describe()["parameters"]["spin"] is True


def test_the_kind_has_the_md5_of_the_paw_sets() -> None:
    needs_gpaw()
    kind = molecules().kind(["H", "O"], [FUNCTIONALS["PBE"], FUNCTIONALS["CA"]])
    assert kind.code == "GPAW"
    assert kind.smoothing == 0.1
    assert set(kind.pseudopotentials) == {"H", "O"}
    for element, text in kind.pseudopotentials.items():
        assert re.fullmatch(rf"{element}\.PBE [0-9a-f]{{32}}, {element}\.LDA [0-9a-f]{{32}}", text)


def test_spin_of_the_hydrogen_atom_is_its_density() -> None:
    """One electron of spin up: the difference is the density itself, from start moments of the structure."""
    needs_gpaw()
    engine = molecules(spin=True, smearing=0.01)
    density = engine.calculate(engine.frame(Atoms("H", magmoms=[1.0])), FUNCTIONALS["PBE"]).density
    np.testing.assert_allclose(density.channel("difference"), density.values, atol=1e-5)
    down = engine.calculate(engine.frame(Atoms("H", magmoms=[-1.0])), FUNCTIONALS["PBE"])
    down.check()
    np.testing.assert_allclose(down.density.channel("difference"), -down.density.values, atol=1e-5)
    np.testing.assert_array_equal(down.density.atom_arrays[INITIAL_MOMENTS], [[-1.0]])
    assert down.details["magnetic_moment"] == pytest.approx(-1.0, abs=1e-3)


def test_initial_moments_decide_the_state_of_a_hydrogen_molecule() -> None:
    needs_gpaw()
    engine = molecules(spin=True)
    singlet = engine.calculate(engine.frame(Atoms("H2", [[0, 0, 0], [0, 0, 0.75]], magmoms=[0.1, -0.1])), PBE)
    triplet = engine.calculate(engine.frame(Atoms("H2", [[0, 0, 0], [0, 0, 0.75]], magmoms=[1.0, 1.0])), PBE)
    assert (singlet.details["magnetic_state"], triplet.details["magnetic_state"]) == ("none", "ferromagnetic")
    assert singlet.details["magnetic_moment"] == pytest.approx(0.0, abs=1e-3)
    assert triplet.details["magnetic_moment"] == pytest.approx(2.0, abs=1e-3)
    assert singlet.energy < triplet.energy - 5
    triplet.check()
