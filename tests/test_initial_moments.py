"""Initial magnetic moments as an input: from the store's files to the state that a model predicts."""

import ase
import numpy as np
import pytest
import torch

import deepdft
from deepdft.data.index import write_index
from deepdft.data.writer import ShardWriter
from deepdft.density import INITIAL_MOMENTS, DensityGrid, Grid
from deepdft.errors import InputWarning
from deepdft.graph.neighbors import structures_from_atoms
from deepdft.inference.domains import Domain, Surroundings
from deepdft.models.orbital import Orbital
from deepdft.models.painn import PaiNN

SHAPE = (14, 14, 14)
WIDTH = 0.6
MODELS = {
    "orbital": (Orbital, {"hidden_size": 8, "n_orbitals": 4, "n_radial": 6, "l_max": 1, "n_interactions": 1}),
    "painn": (PaiNN, {"hidden_size": 16, "n_interactions": 1, "n_basis": 8}),
}


def dimer(seed, moment):
    """Two iron atoms in a box with Gaussian densities; the second has no moment, the first `moment` in μ_B."""
    generator = np.random.default_rng(seed)
    atoms = ase.Atoms("Fe2", [[2.0, 2.0, 2.0], [2.0, 2.0, 4.0]], cell=[5.0, 5.0, 6.0], pbc=True, magmoms=[moment, 0.0])
    atoms.positions += generator.normal(0, 0.1, (2, 3))
    points = Grid(atoms, SHAPE).points()
    gaussians = [
        np.exp(-((points - position) ** 2).sum(axis=1) / (2 * WIDTH**2)) / (2 * np.pi * WIDTH**2) ** 1.5
        for position in atoms.positions
    ]
    total, difference = 8.0 * (gaussians[0] + gaussians[1]), moment * gaussians[0]
    return DensityGrid(
        total.reshape(SHAPE),
        atoms,
        channels={"difference": difference.reshape(SHAPE)},
        atom_arrays={INITIAL_MOMENTS: atoms.get_initial_magnetic_moments()[:, None]},
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Twelve dimers, half of them with their moment down."""
    folder = tmp_path_factory.mktemp("moments") / "store"
    folder.mkdir()
    with ShardWriter(folder, 0) as shard:
        for i in range(12):
            shard.add(f"{i:02d}", dimer(i, 4.0 if i % 2 else -4.0))
    write_index(folder, [shard.record], labels=["PBE"], compression=shard.compression.as_dict(), provenance={})
    return deepdft.Store(folder)


def test_structures_of_a_store_have_the_moments_of_their_calculation(store):
    for i in range(len(store)):
        expected = 4.0 if int(store.names[i]) % 2 else -4.0
        np.testing.assert_allclose(store.atoms(i).get_initial_magnetic_moments(), [expected, 0.0])


def test_non_collinear_moments_are_refused():
    with pytest.raises(ValueError, match="one number in μ_B per atom"):
        structures_from_atoms([ase.Atoms("Fe", magmoms=[[0.0, 0.0, 1.0]])])


@pytest.mark.parametrize("name", MODELS)
def test_a_model_without_the_input_is_the_same_whatever_the_moments(name):
    torch.manual_seed(0)
    kind, options = MODELS[name]
    model = kind(**options, channels=("total", "difference")).eval()
    assert not any("moment" in key for key in model.state_dict())
    predictor = deepdft.Predictor(model)
    atoms = dimer(0, 4.0).atoms
    plain = ase.Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)
    points = np.random.default_rng(0).uniform(0, 5, (50, 3))
    np.testing.assert_array_equal(predictor.predict_points(atoms, points), predictor.predict_points(plain, points))


@pytest.mark.parametrize("name", MODELS)
def test_moments_travel_to_the_model_in_domains_as_in_one_piece(name):
    torch.manual_seed(0)
    kind, options = MODELS[name]
    model = kind(**options, channels=("total", "difference"), initial_moments=True, cutoff=3.0).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # some, such as the weights of moments, start at zero
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    atoms = dimer(0, 4.0).atoms.repeat([3, 1, 1])
    atoms.set_initial_magnetic_moments(np.random.default_rng(0).normal(0, 3, len(atoms)))
    grid, box = Grid(atoms, (24, 8, 8)), Domain((0, 0, 0), (8, 8, 8), 0)
    points = grid.points()[: 8 * 8 * 8]
    whole = deepdft.Predictor(model).predict_points(atoms, points)
    flipped = atoms.copy()
    flipped.set_initial_magnetic_moments(-atoms.get_initial_magnetic_moments())
    assert np.abs(deepdft.Predictor(model).predict_points(flipped, points) - whole).max() > 1e-3
    cluster = Surroundings(atoms).around(box.region(grid), model.receptive_field)
    found = deepdft.Predictor(model).predict_points(cluster, points)
    np.testing.assert_allclose(found, whole, atol=2e-5 * np.abs(whole).max())


@pytest.mark.parametrize("given", [True, False])
def test_the_sign_of_a_state_is_learned_only_from_moments(store, tmp_path, given):
    """The same geometry with either sign: without the moments the best prediction of the spin density is zero."""
    overrides = [
        "data=default",
        f"data.root={store.root}",
        "data.split={validation: 4, test: 2, seed: 0}",
        "model=orbital",
        "model.channels=[total,difference]",
        f"model.initial_moments={str(given).lower()}",
        *(f"model.{key}={value}" for key, value in MODELS["orbital"][1].items()),
        "optimizer.lr=0.01",
        "trainer.max_steps=150",
        "trainer.val_check_interval=150",
        "trainer.accelerator=cpu",
        "data.num_workers=0",
        f"run_dir={tmp_path / 'run'}",
    ]
    run = deepdft.train(deepdft.compose("train", overrides))
    (error,) = [float(row["val/eps_mae_difference"]) for row in run.metrics if "val/eps_mae_difference" in row][-1:]
    assert (error < 50.0) == given


@pytest.mark.parametrize("name", MODELS)
def test_a_structure_without_moments_is_warned_of_where_they_are_an_input(name):
    make, settings = MODELS[name]
    atoms = dimer(0, 4.0).atoms
    bare = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    points = np.zeros((1, 3))
    predictor = deepdft.Predictor(make(**settings, initial_moments=True))
    predictor.predict_points(atoms, points)
    with pytest.warns(InputWarning, match="Fe2 has no initial magnetic moments"):
        predictor.predict_points(bare, points)
    deepdft.Predictor(make(**settings)).predict_points(bare, points)
