"""Predictions against a sum of Gaussians over periodic images, written out by brute force."""

from itertools import product

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, fcc111, molecule

from deepdft.errors import InputWarning
from deepdft.inference.box import make_box
from deepdft.inference.encoded import _points_of_grid
from deepdft.inference.predictor import Predictor, choose_device
from deepdft.models.orbital import Orbital
from deepdft.models.painn import PaiNN
from deepdft.models.schnet import SchNet
from deepdft.models.schnet_released import SchNetReleased


def brute_force(atoms, points, pbc, cutoff=4.0):
    """Σ Z exp(-d²) over atoms and their images within the cutoff."""
    repeats = [range(-8, 9) if repeated else (0,) for repeated in pbc]
    density = np.zeros(len(points))
    for image in product(*repeats):
        for number, position in zip(atoms.numbers, atoms.positions + image @ atoms.cell.array, strict=True):
            distance2 = ((points - position) ** 2).sum(axis=1)
            density += np.where(distance2 < cutoff**2, number * np.exp(-distance2), 0.0)
    return density


@pytest.mark.parametrize(
    "atoms",
    [molecule("CH3OH"), bulk("NaCl", "rocksalt", a=5.64), fcc111("Al", (1, 1, 2), vacuum=3.0), bulk("Li")],
    ids=["molecule", "crystal", "slab", "oblique cell below the cutoff"],
)
def test_a_predicted_density_is_the_models_density_at_the_grid_points(gaussians, atoms):
    density = Predictor(gaussians).predict(atoms, spacing=0.6)
    expected = brute_force(atoms, density.points(), atoms.pbc)
    np.testing.assert_allclose(density.values.ravel(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(density.atoms.pbc, atoms.pbc)


def test_the_integral_of_a_molecules_density_is_complete_in_the_default_box(gaussians):
    atoms = molecule("H2O")
    density = Predictor(gaussians).predict(atoms, spacing=0.3)
    assert density.n_electrons == pytest.approx(10 * np.pi**1.5, rel=1e-4)


def test_a_density_can_be_scaled_to_a_number_of_electrons(gaussians):
    atoms = molecule("H2O")
    as_it_is = Predictor(gaussians).predict(atoms, spacing=0.4)
    scaled = Predictor(gaussians).predict(atoms, spacing=0.4, n_electrons=8)
    assert scaled.n_electrons == pytest.approx(8, rel=1e-6)
    np.testing.assert_allclose(scaled.values, as_it_is.values * (8 / as_it_is.n_electrons), rtol=1e-6)


@pytest.mark.parametrize("n_electrons", [0, -2, float("nan"), float("inf")])
def test_an_impossible_number_of_electrons_is_refused(gaussians, n_electrons):
    with pytest.raises(ValueError, match="expected a number above zero"):
        Predictor(gaussians).predict(molecule("H2O"), spacing=0.5, n_electrons=n_electrons)


def test_points_are_predicted_where_they_are_asked(gaussians):
    atoms = molecule("H2O")
    points = np.random.default_rng(0).uniform(-2, 2, (50, 3))
    predicted = Predictor(gaussians).predict_points(atoms, points)
    np.testing.assert_allclose(predicted, brute_force(atoms, points, (False,) * 3), rtol=1e-6)


@pytest.mark.parametrize("points", [np.zeros(3), np.zeros((2, 2))])
def test_points_of_another_shape_are_refused(gaussians, points):
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        Predictor(gaussians).predict_points(molecule("H2O"), points)


def test_points_that_are_no_numbers_are_refused(gaussians):
    with pytest.raises(ValueError, match="1 of 3 points are not finite numbers"):
        Predictor(gaussians).predict_points(molecule("H2O"), np.array([[0, 0, 0], [np.nan, np.inf, 0], [1, 0, 0]]))


def test_no_points_give_no_values(gaussians):
    assert Predictor(gaussians).predict_points(molecule("H2O"), np.empty((0, 3))).shape == (0,)


@pytest.fixture
def torch_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(("n_threads", "sizes"), [(1, [256] * 5 + [40]), (2, [1320]), (3, [1320])])
def test_slices_joined_are_the_whole_and_atoms_are_encoded_once(
    gaussians, monkeypatch, torch_threads, n_threads, sizes
):
    torch_threads(n_threads)
    monkeypatch.setattr("deepdft.chunks.CPU.edges_searched", 1)
    predictor = Predictor(gaussians)
    box = make_box(molecule("H2O"), shape=(10, 11, 12))
    told = []
    slices = list(predictor.predict_chunks(box, progress=lambda done, total: told.append((done, total))))
    assert [len(part) for part in slices] == sizes
    assert told[-1] == (1320, 1320)
    assert gaussians.encoded == 1
    expected = brute_force(box.atoms, box.points(slice(None)), (False,) * 3)
    np.testing.assert_allclose(np.concatenate(slices)[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("model", [SchNet, SchNetReleased, PaiNN, Orbital])
def test_densities_are_the_same_on_any_number_of_threads(model, monkeypatch, torch_threads):
    torch.manual_seed(0)
    monkeypatch.setattr("deepdft.chunks.CPU.edges_searched", 1)
    monkeypatch.setattr("deepdft.chunks.CPU.numbers_in_block", 1)
    sizes = {"hidden_size": 8, "n_interactions": 2}
    predictor = Predictor(model(**sizes))
    box = make_box(molecule("CH3OH"), shape=(11, 12, 13))
    found = []
    for n_threads in (1, 4):
        torch_threads(n_threads)
        found.append(np.concatenate(list(predictor.predict_chunks(box))))
    np.testing.assert_allclose(*found, rtol=0.0, atol=1e-6)


def test_networks_of_lower_precision_give_densities_of_the_models_own():
    torch.manual_seed(0)
    predictor, water = Predictor(SchNet(hidden_size=16, n_interactions=2)), molecule("H2O")
    points = water.positions + 0.3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = predictor.predict_points(water, points)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, predictor.predict_points(water, points), rtol=0.05, atol=1e-3)


def test_slices_in_x_fastest_order_are_the_transposed_grid(gaussians):
    predictor = Predictor(gaussians)
    box = make_box(molecule("H2O"), shape=(5, 6, 7))
    x_fastest = np.concatenate(list(predictor.predict_chunks(box, order="F")))
    z_fastest = np.concatenate(list(predictor.predict_chunks(box)))
    np.testing.assert_allclose(x_fastest.reshape(7, 6, 5).transpose(2, 1, 0), z_fastest.reshape(5, 6, 7))


def test_a_model_trained_without_periodicity_ignores_it(gaussians):
    atoms = ase.Atoms("He", positions=[[0.1, 0.1, 0.1]], cell=np.eye(3) * 3.0, pbc=True)
    with pytest.warns(UserWarning, match="periodic boundaries ignored: He is treated as a molecule"):
        density = Predictor(gaussians, pbc=False).predict(atoms, shape=(6, 6, 6))
    expected = brute_force(atoms, density.points(), (False,) * 3)
    np.testing.assert_allclose(density.values.ravel(), expected, rtol=1e-6)


def test_a_model_trained_with_periodicity_forced_repeats_a_molecules_own_cell(gaussians):
    atoms = molecule("H2O", vacuum=2.1)
    density = Predictor(gaussians, pbc=True).predict(atoms, shape=(6, 6, 6))
    expected = brute_force(atoms, density.points(), (True,) * 3)
    np.testing.assert_allclose(density.values.ravel(), expected, rtol=1e-5)


def test_a_box_made_for_a_molecule_never_repeats(gaussians):
    atoms = molecule("H2O", vacuum=2.1)
    density = Predictor(gaussians, pbc=True).predict(atoms, shape=(6, 6, 6), vacuum=1.0)
    expected = brute_force(atoms, density.points(), (False,) * 3)
    np.testing.assert_allclose(density.values.ravel(), expected, rtol=1e-6)


def test_a_periodic_structure_without_lattice_vectors_is_refused(gaussians):
    with pytest.raises(ValueError, match="no such lattice vectors"):
        Predictor(gaussians).predict_points(ase.Atoms("He", pbc=True), np.zeros((1, 3)))


def test_no_atoms_are_refused(gaussians):
    with pytest.raises(ValueError, match="at least one atom"):
        Predictor(gaussians).predict_points(ase.Atoms(), np.zeros((1, 3)))


def test_elements_the_model_has_not_seen_are_named(gaussians):
    predictor = Predictor(gaussians, info={"elements": [1, 8]})
    with pytest.raises(ValueError, match="not been trained on C, Cl, but on H, O"):
        predictor.predict_points(molecule("CH3Cl"), np.zeros((1, 3)))
    predictor.predict_points(molecule("H2O"), np.zeros((1, 3)))


def test_elements_the_model_has_not_seen_are_predicted_where_that_is_wanted(gaussians):
    predictor = Predictor(gaussians, info={"elements": [1, 8]}, allow_unknown=True)
    with pytest.warns(InputWarning, match="not been trained on C, Cl: densities there are guesses"):
        density = predictor.predict(molecule("CH3Cl"), spacing=0.8)
    assert density.info["not_trained_on"] == "C, Cl"
    assert density.info["trust"].endswith("atoms 1 (C), 2 (Cl): elements the model was not trained on")


def test_electrons_that_the_atoms_do_not_have_are_reported(gaussians):
    atoms = ase.Atoms("He", [[0, 0, 0]])
    found = Predictor(gaussians).predict(atoms, spacing=0.2)
    assert "doubts" not in found.info, "nothing is known of the electrons of this model's data"
    exact = found.n_electrons
    right, wrong = (Predictor(gaussians, info={"valences": {2: n}}) for n in (exact, 1.02 * exact))
    assert "doubts" not in right.predict(atoms, spacing=0.2).info
    with pytest.warns(InputWarning, match=rf"He: {exact:.1f} of [\d.]+ expected electrons"):
        density = wrong.predict(atoms, spacing=0.2)
    assert density.info["doubts"].startswith(f"{exact:.1f} of ")
    assert "doubts" not in wrong.predict(atoms, spacing=0.4).info, "such a grid miscounts by itself"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"numbers": [200, 1, 1]}, "atomic numbers 200"),
        ({"positions": np.zeros((3, 3))}, "are 0 Å apart"),
        ({"cell": [5, 5, 1e-8], "pbc": True}, "1e-08 Å thick along c"),
        ({"cell": np.full((3, 3), np.nan), "pbc": True}, "lattice vectors are not finite"),
        ({"positions": np.full((3, 3), np.inf)}, "positions are not finite"),
    ],
)
def test_structures_that_cannot_exist_are_refused(gaussians, change, message):
    atoms = molecule("H2O")
    for name, value in change.items():
        setattr(atoms, name, value)
    predictor = Predictor(gaussians)
    with pytest.raises(ValueError, match=message):
        predictor.predict_points(atoms, np.zeros((1, 3)))
    with pytest.raises(ValueError, match=message):
        predictor.predict(atoms, shape=(4, 4, 4))


def test_a_crystal_given_to_a_model_that_ignores_periodicity_is_warned_of(gaussians):
    crystal = ase.Atoms("NaCl", [[0, 0, 0], [2.8, 2.8, 2.8]], cell=[5.6] * 3, pbc=True)
    slab = ase.Atoms("He", [[3, 3, 0.5]], cell=[6, 6, 6], pbc=[True, True, False])  # near a face it does not repeat at
    boxed = molecule("H2O", vacuum=2.5, pbc=True)
    ignoring, following = Predictor(gaussians, pbc=False), Predictor(gaussians)
    with pytest.warns(UserWarning, match="periodic boundaries ignored: ClNa is treated as a molecule"):
        ignoring.predict_points(crystal, np.zeros((1, 3)))
    for predictor, atoms in ((following, crystal), (ignoring, slab), (ignoring, boxed)):  # a warning is an error
        predictor.predict_points(atoms, np.zeros((1, 3)))


@pytest.mark.parametrize("name", ["gpu0", "", "cuda:x", "meta"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ValueError, match="device="):
        choose_device(name)


@pytest.mark.parametrize("order", ["C", "F"])
def test_points_of_a_grid_made_on_a_device_are_those_of_numpy(order):
    for atoms in (bulk("NaCl", "rocksalt", a=5.6), molecule("H2O")):  # one in a skewed cell, one with an origin
        box = make_box(atoms, shape=(3, 4, 5))
        for part in (slice(None), slice(7, 20), slice(50, 90)):
            there = _points_of_grid(box, part, order, torch.device("cpu"))
            np.testing.assert_allclose(there.numpy(), box.points(part, order=order), rtol=0, atol=1e-12)


@pytest.mark.parametrize("change", [lambda p: p[::-1], lambda p: p.astype(">f8"), lambda p: p.astype(np.longdouble)])
def test_points_of_any_layout_and_precision_are_taken(gaussians, change):
    points = np.random.default_rng(0).uniform(-1, 1, (6, 3))
    atoms = molecule("H2O")
    expected = change(Predictor(gaussians).predict_points(atoms, points)[:, None])[:, 0]
    points = change(points)
    points.flags.writeable = False
    np.testing.assert_allclose(Predictor(gaussians).predict_points(atoms, points), expected.astype(float), rtol=1e-5)


@pytest.mark.parametrize("points", [np.zeros((2, 3), complex), np.array([["a", "b", "c"]])])
def test_points_that_are_not_real_are_refused(gaussians, points):
    with pytest.raises(ValueError, match="points are real numbers in Å"):
        Predictor(gaussians).predict_points(molecule("H2O"), points)
