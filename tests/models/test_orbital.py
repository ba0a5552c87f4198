"""The orbital model meets the contract, computes its formula, and starts from the fitted superposition of atoms."""

import copy
from dataclasses import replace

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy.spatial.transform import Rotation

from deepdft import Predictor, bundled, chunks
from deepdft.graph.batch import Batch
from deepdft.graph.neighbors import atom_graph, probe_graph, structures_from_atoms
from deepdft.models.orbital import Orbital
from deepdft.nn.orbitals import OrbitalBasis
from deepdft.nn.spherical import degrees, solid_harmonics
from deepdft.testing.contract import STRUCTURES, ModelContract, densities

SMALL = {"n_orbitals": 4, "n_radial": 4, "largest_exponent": 40.0, "hidden_size": 8, "n_interactions": 2, "n_basis": 6}


def random_model(**options) -> Orbital:
    """A trained one would have no equal pairs and no empty baseline."""
    model = Orbital(**SMALL | options)
    with torch.no_grad():
        for parameter in [*model.scalar_readout[-1].parameters(), *model.order_readout.parameters()]:
            parameter.normal_(0.0, 0.3)
        if model.baseline is not None:
            model.baseline.weights.weight.uniform_(0.0, 0.1)
    return model


class TestOrbital(ModelContract):
    def make_model(self) -> Orbital:
        return random_model()


class TestPositiveOrbital(ModelContract):
    def make_model(self) -> Orbital:
        return random_model(residual=False, l_max=2, cutoff=4.0)


class TestNarrowOrbital(ModelContract):
    def make_model(self) -> Orbital:
        return random_model(smallest_exponent=2.0)


class TestDegreeFour(ModelContract):
    def make_model(self) -> Orbital:
        return random_model(l_max=4, n_interactions=1)


def wigner(rotation: np.ndarray, order: int) -> torch.Tensor:
    """D with Y(R x) = D Y(x) for all m of a degree, from the harmonics themselves."""
    x = torch.randn(60, 3, dtype=torch.float64)
    own = [i for i, o in enumerate(degrees(order)) if o == order]
    before, after = (solid_harmonics(points, order)[:, own] for points in (x, x @ torch.from_numpy(rotation).T))
    return torch.linalg.lstsq(before, after).solution.T


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("name", STRUCTURES)
def test_coefficients_rotate_with_the_structure(name: str, mirror: bool) -> None:
    torch.manual_seed(0)
    model = random_model(l_max=4).double()
    rotation = Rotation.from_rotvec([0.3, 1.2, -0.8]).as_matrix() @ np.diag([1.0, 1.0, -1.0 if mirror else 1.0])
    atoms = STRUCTURES[name]
    rotated = ase.Atoms(atoms.numbers, atoms.positions @ rotation.T, cell=atoms.cell.array @ rotation.T, pbc=atoms.pbc)
    with torch.no_grad():
        found, expected = (
            model.encode(atom_graph(structures_from_atoms([a], dtype=torch.float64), model.cutoff)).coefficients
            for a in (rotated, atoms)
        )
    of = torch.tensor(degrees(4))
    for order in range(5):
        turned = torch.einsum("ij,anjk->anik", wigner(rotation, order), expected[:, :, of == order])
        assert expected[:, :, of == order].abs().max() > 1e-3
        assert torch.allclose(found[:, :, of == order], turned, rtol=0.0, atol=1e-11 * expected.abs().max())


def test_it_computes_its_formula() -> None:
    torch.manual_seed(1)
    model = random_model(l_max=2, n_orbitals=6, smallest_exponent=0.25).double()
    atoms, points = STRUCTURES["molecule"], np.random.default_rng(0).uniform(-2, 6, (20, 3))
    with torch.no_grad():
        states = model.encode(atom_graph(structures_from_atoms([atoms], dtype=torch.float64), model.cutoff))
    exponents = model.basis.exponents.numpy()
    assert exponents == pytest.approx(0.25 * 160.0 ** (np.arange(4) / 3), rel=1e-6)
    reaches = np.array([5.0, 5.0, np.sqrt(10.0 / 0.25) * 160 ** (-2 / 6), np.sqrt(10.0 / 40.0)])  # 2.7 Å shares 5 Å
    coefficients = states.coefficients.numpy()
    expected = np.zeros(len(points))
    for i, point in enumerate(points):
        orbital = np.zeros(7)
        for a, position in enumerate(atoms.positions):
            x, y, z = point - position
            r2 = x * x + y * y + z * z
            s3, s15 = 3**0.5, 15**0.5
            harmonics = [1, s3 * y, s3 * z, s3 * x, s15 * x * y, s15 * y * z]
            harmonics += [5**0.5 / 2 * (3 * z * z - r2), s15 * x * z, s15 / 2 * (x * x - y * y)]
            for n in range(4):
                radial = np.exp(-exponents[n] * r2) * max(0.0, 1 - r2 / reaches[n] ** 2) ** 3
                orbital += radial * (np.array(harmonics) @ coefficients[a, n])
        expected[i] += orbital[0] + (orbital[1:4] ** 2).sum() - (orbital[4:] ** 2).sum()
    assert densities(model, [atoms], [points]).squeeze(-1).numpy() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def training_batch(n: int = 300) -> Batch:
    """Random points in a molecule with a density of Gaussians on its atoms."""
    rng = np.random.default_rng(3)
    atoms = STRUCTURES["molecule"]
    points = rng.uniform(-2, 6, (n, 3))
    squared = ((points[:, None] - atoms.positions) ** 2).sum(axis=-1)
    targets = (atoms.numbers * np.exp(-2.0 * squared)).sum(axis=1)
    return Batch(
        structures_from_atoms([atoms]),
        torch.from_numpy(points).float(),
        torch.zeros(n, dtype=torch.long),
        torch.from_numpy(targets).float()[:, None],
    )


def predicted(model: Orbital, batch: Batch) -> torch.Tensor:
    probes = probe_graph(batch.structures, batch.probe_positions, batch.probe_structure, model.probe_cutoff)
    return model(atom_graph(batch.structures, model.cutoff), probes)


def test_its_first_prediction_is_the_fitted_superposition() -> None:
    torch.manual_seed(0)
    model, batch = Orbital(**SMALL), training_batch()
    assert predicted(model, batch).abs().max() < 1e-6, "nothing but rounding before a baseline is fitted"
    model.prepare([batch])
    expected = predicted(model.baseline, batch)
    assert expected.max() > 1.0
    assert torch.allclose(predicted(model, batch), expected, atol=1e-6)


def test_every_weight_is_trained_from_the_first_step_except_the_baseline() -> None:
    torch.manual_seed(0)
    model, batch = Orbital(**SMALL), training_batch()
    (predicted(model, batch) - batch.targets).abs().mean().backward()
    # at the start nothing depends on what φ_0 and equal pairs cancel; one step later everything does
    with torch.no_grad():
        for trained in (p for p in model.parameters() if p.grad is not None):
            trained.sub_(trained.grad, alpha=1e-2)
    (predicted(model, batch) - batch.targets).abs().mean().backward()
    untouched = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert untouched == {"baseline.weights.weight"}


def test_without_a_residual_the_density_is_positive() -> None:
    torch.manual_seed(0)
    model = Orbital(**SMALL, residual=False)
    model.prepare([training_batch()])  # nothing to fit
    density = predicted(model, training_batch())
    assert (density >= 0).all()
    assert density.max() > 0
    assert (predicted(random_model(), training_batch()) < 0).any(), "the residual has both signs"


@pytest.mark.parametrize("way", ["edges", "blocks"])
def test_second_derivatives_are_those_of_finite_differences_also_on_an_atom(way: str) -> None:
    torch.manual_seed(0)
    model, atoms = random_model().double(), STRUCTURES["molecule"]
    union = structures_from_atoms([atoms], dtype=torch.float64)
    points = torch.from_numpy(np.stack([atoms.positions[0], atoms.positions[1] + 0.3]))
    probes = probe_graph(union, points, torch.zeros(2, dtype=torch.long), model.probe_cutoff)
    with torch.no_grad():
        states = model.encode(atom_graph(union, model.cutoff))

    def gradient(positions: torch.Tensor) -> torch.Tensor:
        positions = positions.requires_grad_()
        if way == "edges":
            density = model.decode(states, replace(probes, positions=positions))
        else:
            density = model.decode_points(states, union, positions)
        return torch.autograd.grad(density.sum(), positions, create_graph=True)[0]

    second = torch.autograd.functional.jacobian(gradient, points)  # (2, 3, 2, 3)
    for axis in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = 1e-5
        numeric = (gradient(points + step) - gradient(points - step)).detach() / 2e-5  # (2, 3)
        exact = torch.stack([second[i, :, i, axis] for i in range(2)])
        assert torch.allclose(numeric, exact, rtol=1e-5, atol=1e-5 * exact.abs().max())


def test_probes_have_edges_only_where_functions_reach() -> None:
    torch.manual_seed(0)
    model = random_model(smallest_exponent=1.6).double()
    assert model.probe_cutoff == pytest.approx(2.5), "α r² = 10"
    assert model.cutoff > 4.0
    union = structures_from_atoms([STRUCTURES["molecule"]], dtype=torch.float64)
    points = 3.0 * torch.randn(200, 3, dtype=torch.float64)
    near, far = (probe_graph(union, points, torch.zeros(200, dtype=torch.long), r) for r in (2.5, model.cutoff))
    assert near.edge_index.shape[1] < 0.5 * far.edge_index.shape[1]
    with torch.no_grad():
        states = model.encode(atom_graph(union, model.cutoff))
        assert torch.allclose(model.decode(states, near), model.decode(states, far), rtol=1e-12, atol=0.0)
    assert random_model(smallest_exponent=0.1).probe_cutoff == random_model().cutoff


def test_an_odd_number_of_orbitals_is_refused() -> None:
    with pytest.raises(ValueError, match="n_orbitals must be even"):
        Orbital(n_orbitals=5)


def test_atoms_encoded_in_parts_are_those_encoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model().double()
    atoms = atom_graph(structures_from_atoms(list(STRUCTURES.values()), dtype=torch.float64), model.cutoff)
    whole = model.encode(atoms).coefficients
    monkeypatch.setattr(chunks.CPU, "atoms_encoded", 4)
    torch.testing.assert_close(model.encode(atoms).coefficients, whole, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("numbers_in_cache", "dense"), [(10_000, 0), (1_000_000, 0), (10_000, 10**9), (1_000_000, 10**9)]
)
def test_blocks_in_single_precision_are_edges_in_double(
    numbers_in_cache: int, dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of trained orbitals, whose narrow functions lose the most when they are moved to the middle of a block."""
    monkeypatch.setattr(chunks.CPU, "numbers_in_block", numbers_in_cache)
    monkeypatch.setattr(chunks.CPU, "points_in_dense_block", dense)
    encoded = Predictor.from_checkpoint(bundled.MODEL).encode(molecule("CH3CONH2"))
    model, structures = encoded.model, encoded.structures
    rng = np.random.default_rng(0)
    near = encoded.structures.positions.numpy()[rng.integers(9, size=1000)] + 0.1 * rng.normal(size=(1000, 3))
    points = np.concatenate([near, rng.uniform(-4.0, 4.0, (4000, 3))]).astype(np.float32).astype(np.float64)
    single = encoded.density(points)

    double = copy.deepcopy(model).double()
    union = structures_from_atoms([molecule("CH3CONH2")], dtype=torch.float64)
    in_union = torch.zeros(len(points), dtype=torch.long)
    probes = probe_graph(union, torch.from_numpy(points), in_union, model.probe_cutoff)
    with torch.no_grad():
        expected = double.decode(double.encode(atom_graph(union, model.cutoff)), probes).numpy()
    assert structures.dtype == torch.float32
    assert expected.max() > 5.0
    assert single == pytest.approx(expected, rel=0.0, abs=5e-6 * expected.max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_orbitals": 3}, "n_orbitals must be even"),
        ({"l_max": 0}, "l_max must be 1 to 4, got 0"),
        ({"l_max": 5}, "l_max must be 1 to 4, got 5"),
        ({"n_interactions": 0}, "n_interactions must be at least 1, got 0"),
        ({"smallest_exponent": 50.0}, "the smallest first; got smallest_exponent=50.0 and largest_exponent=40.0"),
        ({"smallest_exponent": 0.0}, "exponents must be above zero"),
    ],
)
def test_sizes_that_make_no_model_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Orbital(**SMALL | options)


@pytest.mark.parametrize(("spacing", "unused"), [(0.08, "at_edges_of_blocks"), (0.4, "in_blocks")])
def test_points_far_apart_are_joined_to_atoms_one_by_one(
    spacing: float, unused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where blocks would hold few of them: each way is the faster one on its side."""
    encoded = Predictor.from_checkpoint(bundled.MODEL).encode(molecule("H2O"))
    monkeypatch.setattr(OrbitalBasis, unused, None)
    points = spacing * np.stack(np.meshgrid(*[np.arange(-15, 15)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    assert (encoded.density(points) > 0.0).any()
