"""Fields derived from the density, against closed forms and finite differences in float64."""

import copy

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from deepdft import chunks
from deepdft.inference.encoded import EncodedStructure
from deepdft.inference.field_files import UNITS
from deepdft.inference.fields import DENSITY_FLOOR, DERIVATIVES_MEMORY, IRI_OF_EMPTY_SPACE, Derivatives, EncodedFields
from deepdft.inference.predictor import Predictor
from deepdft.models.orbital import Orbital
from deepdft.models.painn import PaiNN
from deepdft.models.schnet import SchNet
from deepdft.models.schnet_released import SchNetReleased
from deepdft.models.superposition import Superposition
from deepdft.testing.contract import STRUCTURES

ALL = list(UNITS)


def superposition():
    model = Superposition(n_functions=5, largest_exponent=5.0)
    torch.nn.init.uniform_(model.weights.weight)
    return model


def orbital():
    """With random weights instead of zeros, so that the density depends on the environment."""
    model = Orbital(hidden_size=8, n_interactions=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


MODELS = {
    "schnet": lambda: SchNet(hidden_size=8, n_interactions=2),
    "painn": lambda: PaiNN(hidden_size=8, n_interactions=2),
    "released schnet": lambda: SchNetReleased(hidden_size=8, n_interactions=2),
    "orbital": orbital,
    "superposition": superposition,
}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


def closed_form(atoms, points):
    """Density (n,), gradient (n, 3) and Hessian (n, 3, 3) of Σ Z exp(-d²) below 4 Å."""
    d = points[:, None] - atoms.positions  # (n, atoms, 3)
    squared = (d**2).sum(axis=2)  # (n, atoms)
    each = np.where(squared < 4.0**2, atoms.numbers * np.exp(-squared), 0.0)
    outer = 4.0 * d[..., :, None] * d[..., None, :] - 2.0 * np.eye(3)
    return each.sum(axis=1), (-2.0 * d * each[..., None]).sum(axis=1), (outer * each[..., None, None]).sum(axis=1)


def points_near(atoms, n=60, spread=0.8, seed=0):
    rng = np.random.default_rng(seed)
    return atoms.positions[rng.integers(len(atoms), size=n)] + rng.normal(0.0, spread, (n, 3))


def difference(function, points, step):
    """Central differences (n, …, 3) of a function of points (n, 3)."""
    parts = [(function(points + step * e) - function(points - step * e)) / (2 * step) for e in np.eye(3)]
    return np.stack(parts, axis=-1)


def at_distances(distances):
    return np.array([[0.0, d, 0.0] for d in distances])


def test_derivatives_and_iri_are_those_of_the_closed_form(gaussians):
    atoms = molecule("CH3OH")
    points = points_near(atoms)
    density, gradient, hessian = closed_form(atoms, points)
    found = EncodedFields(gaussians, atoms).at(points, ["gradient", "hessian", "laplacian", "iri"])
    np.testing.assert_allclose(found["gradient"], gradient, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found["hessian"], np.linalg.eigvalsh(hessian), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found["laplacian"], np.trace(hessian, axis1=1, axis2=2), rtol=1e-9, atol=1e-11)
    assert density.min() > DENSITY_FLOOR
    np.testing.assert_allclose(found["iri"], np.linalg.norm(gradient, axis=1) / density**1.1, rtol=1e-10)


def test_dori_is_its_definition_with_the_outer_gradient_by_differences(gaussians):
    atoms = molecule("CH3OH")
    points = points_near(atoms)

    def k_squared(at):
        density, gradient, _ = closed_form(atoms, at)
        return (gradient**2).sum(axis=1) / density**2

    phi = (difference(k_squared, points, 1e-5) ** 2).sum(axis=1) / k_squared(points) ** 3
    found = EncodedFields(gaussians, atoms).at(points, ["dori"])["dori"]
    assert np.ptp(found) > 0.9, "points with and without overlap are wanted"
    np.testing.assert_allclose(found, phi / (1 + phi), rtol=1e-6, atol=1e-9)


def test_one_gaussian_has_the_fields_one_can_write_down(gaussians):
    r = np.array([0.0, 1e-6, 0.1, 0.7, 1.0, 2.0, 2.8])
    found = EncodedFields(gaussians, ase.Atoms("H", [[0, 0, 0]])).at(at_distances(r), ALL)
    density = np.exp(-(r**2))
    np.testing.assert_allclose(found["dori"], 1 / (1 + r**4), rtol=1e-9)  # 1 at the critical point
    np.testing.assert_allclose(found["iri"], 2 * r * density**-0.1, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found["laplacian"], (4 * r**2 - 6) * density, rtol=1e-9)
    expected = np.stack([-2 * density, -2 * density, (4 * r**2 - 2) * density], axis=1)
    np.testing.assert_allclose(found["hessian"], expected, rtol=1e-9)
    np.testing.assert_allclose(found["gradient"], at_distances(-2 * r * density), rtol=1e-9, atol=1e-15)


def test_periodic_images_count(gaussians):
    crystal = bulk("NaCl", "rocksalt", a=5.64)
    cluster = crystal.repeat((7, 7, 7))
    cluster.pbc = False
    centre = 3 * crystal.cell.array.sum(axis=0)
    points = points_near(crystal, 20)
    found = EncodedFields(gaussians, crystal).at(points, ALL)
    expected = EncodedFields(gaussians, cluster).at(points + centre, ALL)
    for name in ALL:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("structure", ["molecule", "skewed cell"])
def test_derivatives_of_a_network_are_those_of_finite_differences(model, structure):
    atoms = STRUCTURES[structure]
    points = points_near(atoms, 12, seed=5)
    fields = EncodedFields(model, atoms)
    found = fields.at(points, ["gradient", "hessian", "laplacian"])

    def density(at):
        return Derivatives(fields.encoded, at).density.numpy()

    predicted = EncodedStructure(model, atoms).total(points)  # in float32, and where a model has a shortcut with it
    np.testing.assert_allclose(density(points), predicted, rtol=1e-4, atol=1e-4 * np.abs(predicted).max())
    gradient = difference(density, points, 1e-5)
    np.testing.assert_allclose(found["gradient"], gradient, rtol=1e-6, atol=1e-6 * np.abs(gradient).max())
    hessian = difference(lambda at: fields.at(at, ["gradient"])["gradient"], points, 1e-6)
    scale = np.abs(hessian).max()
    assert scale > 1e-6, "the density is flat: nothing is tested"
    np.testing.assert_allclose(found["hessian"], np.linalg.eigvalsh(hessian), rtol=1e-5, atol=1e-5 * scale)
    laplacian = np.trace(hessian, axis1=1, axis2=2)
    np.testing.assert_allclose(found["laplacian"], laplacian, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_fields_are_finite_everywhere(model, structure):
    atoms = STRUCTURES[structure]
    near = atoms.positions[[0]] + at_distances([1e-9, 1e-7, 1e-5, 1e-3])
    far = atoms.positions[[0]] + np.array([[0.0, 0.0, 40.0], [0.0, 0.0, 1e4]])
    points = np.concatenate([atoms.positions, near, points_near(atoms), far])
    found = EncodedFields(model, atoms).at(points, ALL)
    for name, values in found.items():
        assert np.isfinite(values).all(), name
    assert (found["iri"] >= 0).all()
    assert (found["dori"] >= 0).all()
    assert (found["dori"] <= 1).all()
    assert (np.diff(found["hessian"], axis=1) >= 0).all()


def test_below_the_floor_there_is_no_density(gaussians):
    at_floor = np.sqrt(-np.log(DENSITY_FLOOR))
    r = np.array([at_floor - 1e-3, at_floor + 1e-3, 3.9])
    found = EncodedFields(gaussians, ase.Atoms("H", [[0, 0, 0]])).at(at_distances(r), ALL)
    assert found["iri"][0] == pytest.approx(2 * r[0] * np.exp(0.1 * r[0] ** 2), rel=1e-9)
    assert found["iri"][1:].tolist() == [IRI_OF_EMPTY_SPACE] * 2
    assert found["dori"][0] > 0
    assert found["dori"][1:].tolist() == [0.0, 0.0]
    assert (found["gradient"][:, 1] < 0).all(), "derivatives are given all the same"
    assert pytest.approx(5 / 0.529177**0.7, rel=1e-6) == IRI_OF_EMPTY_SPACE


def test_a_negative_density_has_derivatives_and_no_indicators(gaussians):
    class Negative(type(gaussians)):
        def decode(self, states, probes):
            return -super().decode(states, probes)

    atoms = molecule("H2O")
    points = points_near(atoms, 20)
    found, positive = EncodedFields(Negative(), atoms).at(points, ALL), EncodedFields(gaussians, atoms).at(points, ALL)
    np.testing.assert_allclose(found["gradient"], -positive["gradient"])
    np.testing.assert_allclose(found["hessian"], -positive["hessian"][:, ::-1])
    assert (found["iri"] == IRI_OF_EMPTY_SPACE).all()
    assert (found["dori"] == 0).all()


def test_a_point_with_no_atom_within_the_cutoff_is_empty_whatever_the_model_says(gaussians):
    class Raised(type(gaussians)):
        def decode(self, states, probes):
            return super().decode(states, probes) + 0.1

    r = np.array([1.0, 3.99, 4.01, 50.0])
    found = EncodedFields(Raised(), ase.Atoms("H", [[0, 0, 0]])).at(at_distances(r), ALL)
    assert (found["iri"] == IRI_OF_EMPTY_SPACE).tolist() == [False, False, True, True]
    assert (found["dori"] > 0).tolist() == [True, True, False, False]
    for name in ("gradient", "hessian", "laplacian"):
        assert not found[name][2:].any()
        assert found[name][:2].any()


def test_a_density_that_does_not_depend_on_the_place_has_zero_derivatives(gaussians):
    class Flat(type(gaussians)):
        def decode(self, states, probes):
            return self.width.expand(probes.n_probes, 1)

    found = EncodedFields(Flat(), molecule("H2O")).at(np.zeros((2, 3)), ALL)
    assert not any(found[name].any() for name in ("gradient", "hessian", "laplacian", "iri"))
    assert found["dori"].tolist() == [1.0, 1.0]  # every point is critical


@pytest.mark.parametrize("dense", [0, np.inf])
def test_slices_joined_are_the_whole_and_small(model, monkeypatch, dense):
    atoms = STRUCTURES["molecule"]
    points = np.concatenate([points_near(atoms, 500), points_near(atoms, 200) + 30.0])
    points = points[np.random.default_rng(0).permutation(len(points))]
    monkeypatch.setattr("deepdft.chunks.CPU.edges_differentiated", 10**7)
    monkeypatch.setattr(chunks.CPU, "points_in_dense_cube", np.inf)
    whole = EncodedFields(model, atoms)
    expected = whole.at(points, ALL)
    monkeypatch.setattr(chunks.CPU, "points_in_dense_cube", dense)
    monkeypatch.setattr("deepdft.chunks.CPU.edges_differentiated", 1)
    monkeypatch.setattr("deepdft.chunks.CPU.points_of_fields", 256)
    monkeypatch.setattr("deepdft.chunks.CPU.points_differentiated", 256 // DERIVATIVES_MEMORY)
    sliced, asked = EncodedFields(model, atoms), []
    begin = Derivatives.__init__
    monkeypatch.setattr(Derivatives, "__init__", lambda *args, **how: asked.append(len(args[2])) or begin(*args, **how))
    told = []
    found = sliced.at(points, ALL, progress=lambda done, total: told.append((done, total)))
    for name in ALL:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-8, atol=1e-10 * scale, err_msg=name)
    assert max(asked) == sliced.chunk_size // DERIVATIVES_MEMORY < whole.chunk_size // DERIVATIVES_MEMORY
    assert sliced.chunk_size == 256
    in_blocks = dense == 0 and isinstance(model, Orbital)
    assert in_blocks or sum(asked) <= 500, "points without neighbours cost nothing"
    assert told == [(256, 700), (512, 700), (700, 700)]


def test_a_model_in_single_precision_is_derived_in_double_and_stays_as_it_is(model):
    atoms = STRUCTURES["molecule"]
    points = points_near(atoms, 10)
    trained = [parameter.requires_grad for parameter in model.parameters()]
    found = EncodedFields(model, atoms).at(points, ALL)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert any(trained)
    assert [parameter.requires_grad for parameter in model.parameters()] == trained
    expected = EncodedFields(copy.deepcopy(model).double(), atoms).at(points, ALL)
    for name in ALL:
        np.testing.assert_array_equal(found[name], expected[name])


def test_fields_on_a_grid_are_those_at_its_points(gaussians):
    atoms, predictor = molecule("H2O"), Predictor(gaussians)
    told = []
    found, box = predictor.fields(atoms, ["iri", "gradient"], shape=(5, 6, 7), progress=lambda *of: told.append(of))
    assert found["iri"].shape == (5, 6, 7)
    assert found["gradient"].shape == (5, 6, 7, 3)
    assert told[-1] == (210, 210)
    density = predictor.predict(atoms, shape=(5, 6, 7))
    np.testing.assert_array_equal(box.origin, density.origin)
    expected = predictor.fields_at_points(atoms, ["iri", "gradient"], density.points())
    np.testing.assert_array_equal(found["iri"].ravel(), expected["iri"])
    np.testing.assert_array_equal(found["gradient"].reshape(-1, 3), expected["gradient"])


def test_the_periodicity_a_model_was_trained_with_counts(gaussians):
    atoms = ase.Atoms("He", positions=[[0.1, 0.1, 0.1]], cell=np.eye(3) * 3.0, pbc=True)
    points = np.array([[1.6, 1.5, 1.4]])
    with pytest.warns(UserWarning, match="periodic boundaries ignored"):
        found = Predictor(gaussians, pbc=False).fields_at_points(atoms, ["gradient"], points)["gradient"]
    np.testing.assert_allclose(found, closed_form(atoms, points)[1])


def test_elements_the_model_has_not_seen_are_named(gaussians):
    predictor = Predictor(gaussians, info={"elements": [1, 8]})
    with pytest.raises(ValueError, match="not been trained on C, Cl, but on H, O"):
        predictor.fields_at_points(molecule("CH3Cl"), ["iri"], np.zeros((1, 3)))


def test_no_points_have_no_fields(gaussians):
    found = Predictor(gaussians).fields_at_points(molecule("H2O"), ALL, np.empty((0, 3)))
    assert {name: values.shape for name, values in found.items()} == {
        "gradient": (0, 3),
        "laplacian": (0,),
        "hessian": (0, 3),
        "iri": (0,),
        "dori": (0,),
    }


def test_unknown_fields_and_points_of_another_shape_are_refused(gaussians):
    predictor, atoms = Predictor(gaussians), molecule("H2O")
    message = r"fields=\['elf'\]: expected some of gradient, laplacian, hessian, iri, dori"
    with pytest.raises(ValueError, match=message):
        predictor.fields_at_points(atoms, ["iri", "elf"], np.zeros((1, 3)))
    with pytest.raises(ValueError, match=message):
        predictor.fields(atoms, ["elf"])
    assert gaussians.encoded == 0
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        predictor.fields_at_points(atoms, ["iri"], np.zeros(3))
