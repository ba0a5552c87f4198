"""A density has named channels: every model predicts any number of them, the total first."""

from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

from deepdft.checkpoint import Checkpoint, build_model, load_checkpoint, save_checkpoint
from deepdft.graph.batch import Batch
from deepdft.graph.neighbors import atom_graph, probe_graph, structures_from_atoms
from deepdft.inference.predictor import Predictor
from deepdft.models.base import DensityModel
from deepdft.models.ensemble import Ensemble
from deepdft.models.free_atoms import FreeAtoms
from deepdft.models.with_baseline import WithBaseline
from deepdft.testing.contract import ModelContract, densities

SPIN = ["total", "difference"]
MODELS: dict[str, dict[str, Any]] = {
    "schnet": {"_target_": "deepdft.models.schnet.SchNet", "hidden_size": 8, "n_interactions": 2},
    "schnet_released": {
        "_target_": "deepdft.models.schnet_released.SchNetReleased",
        "hidden_size": 8,
        "n_interactions": 2,
    },
    "painn": {"_target_": "deepdft.models.painn.PaiNN", "hidden_size": 8, "n_interactions": 2},
    "orbital": {
        "_target_": "deepdft.models.orbital.Orbital",
        "hidden_size": 8,
        "n_interactions": 1,
        "n_orbitals": 4,
        "n_radial": 4,
        "largest_exponent": 40.0,
        "l_max": 2,
    },
    "superposition": {"_target_": "deepdft.models.superposition.Superposition", "n_functions": 4},
}


def spin_model(name: str, **options: Any) -> DensityModel:
    """With random weights, as after some training."""
    model = build_model(MODELS[name] | {"channels": SPIN} | options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        if name == "superposition":
            model.weights.weight.abs_()  # a total above zero can be scaled
    return model


class TestSchNetOfTwoChannels(ModelContract):
    def make_model(self) -> DensityModel:
        return spin_model("schnet")


class TestSchNetReleasedOfTwoChannels(ModelContract):
    def make_model(self) -> DensityModel:
        return spin_model("schnet_released")


class TestPaiNNOfTwoChannelsOnFittedAtoms(ModelContract):
    def make_model(self) -> DensityModel:
        return spin_model("painn", baseline="fitted")


class TestOrbitalOfTwoChannels(ModelContract):
    def make_model(self) -> DensityModel:
        return spin_model("orbital")


class TestPositiveOrbitalOfTwoChannels(ModelContract):
    def make_model(self) -> DensityModel:
        return spin_model("orbital", residual=False)


class TestSuperpositionOfTwoChannels(ModelContract):
    def make_model(self) -> DensityModel:
        return spin_model("superposition")


def points_near(atoms: ase.Atoms, n: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    return atoms.positions[rng.integers(len(atoms), size=n)] + rng.normal(0.0, 0.8, (n, 3))


def spin_batch() -> Batch:
    """A density of Gaussians and a spin density at the oxygen alone, at points of a molecule."""
    atoms = molecule("CH3OH")
    points = points_near(atoms)
    squared = ((points[:, None] - atoms.positions) ** 2).sum(axis=-1)
    total = (atoms.numbers * np.exp(-2.0 * squared)).sum(axis=1)
    difference = -np.exp(-squared[:, list(atoms.symbols).index("O")])
    targets = torch.from_numpy(np.stack([total, difference], axis=1)).float()
    which = torch.zeros(len(points), dtype=torch.int64)
    return Batch(structures_from_atoms([atoms]), torch.from_numpy(points).float(), which, targets)


def predicted(model: DensityModel, batch: Batch) -> torch.Tensor:
    probes = probe_graph(batch.structures, batch.probe_positions, batch.probe_structure, model.probe_cutoff)
    return model(atom_graph(batch.structures, model.cutoff), probes)


@pytest.mark.parametrize("name", ["schnet", "schnet_released", "painn"])
def test_a_channel_is_a_column_of_the_last_layer(name: str) -> None:
    both = spin_model(name)
    atoms = molecule("H2O")
    found = densities(both, [atoms], [points_near(atoms)])
    for column in range(2):
        one = build_model(MODELS[name])
        weights = both.state_dict()
        for layer in ("readout.2.weight", "readout.2.bias"):
            weights[layer] = weights[layer][column : column + 1]
        one.load_state_dict(weights)
        torch.testing.assert_close(
            densities(one, [atoms], [points_near(atoms)]), found[:, column : column + 1], rtol=1e-5, atol=1e-6
        )


def test_squares_make_the_total_positive_and_not_the_difference() -> None:
    torch.manual_seed(0)
    atoms = molecule("CH3OH")
    total, difference = densities(spin_model("orbital", residual=False), [atoms], [points_near(atoms)]).unbind(dim=1)
    assert (total >= 0).all()
    assert (difference < 0).any()
    assert (difference > 0).any()


@pytest.mark.parametrize(
    ("name", "options"), [("orbital", {}), ("schnet", {"baseline": "fitted"}), ("painn", {"baseline": "superposition"})]
)
def test_atoms_belong_to_the_total_alone(name: str, options: dict[str, str]) -> None:
    torch.manual_seed(0)
    batch = spin_batch()
    model = build_model(MODELS[name] | {"channels": SPIN} | options)
    model.prepare([batch])
    total, difference = predicted(model, batch).unbind(dim=1)
    assert total.max() > 1.0
    assert difference.abs().max() < 1e-6, "a difference that nothing has been learned of is not zero"


@pytest.mark.parametrize("name", [name for name in MODELS if name != "superposition"])
def test_both_channels_are_learned(name: str) -> None:
    torch.manual_seed(0)
    batch = spin_batch()
    model = build_model(MODELS[name] | {"channels": SPIN})
    model.prepare([batch])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    errors = []
    for _ in range(80):
        difference = predicted(model, batch) - batch.targets
        errors.append(difference.detach().abs().mean(dim=0))
        optimizer.zero_grad()
        difference.square().mean().backward()
        optimizer.step()
    assert (errors[-1] < 0.7 * errors[0]).all()


def test_each_channel_of_a_superposition_is_fitted() -> None:
    torch.manual_seed(0)
    model, batch = build_model(MODELS["superposition"] | {"channels": SPIN, "n_functions": 10}), spin_batch()
    model.prepare([batch])
    error = (predicted(model, batch) - batch.targets).abs().sum(dim=0) / batch.targets.abs().sum(dim=0)
    assert (error < 0.02).all()


@pytest.mark.filterwarnings("ignore::deepdft.errors.InputWarning")  # of densities below zero: the weights are random
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:.*a density cannot be negative")  # of random weights
def test_predictions_and_checkpoints_have_the_channels(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = MODELS[name] | {"channels": SPIN}
    save_checkpoint(tmp_path / "spin.ckpt", Checkpoint(spin_model(name), config))
    assert torch.load(tmp_path / "spin.ckpt", weights_only=True)["channels"] == SPIN
    loaded = load_checkpoint(tmp_path / "spin.ckpt")
    assert loaded.model.channels == ("total", "difference")
    predictor, atoms = Predictor(loaded.model), molecule("H2O")
    grid = predictor.predict(atoms, shape=(5, 6, 7))
    assert list(grid.channels) == ["difference"]
    at_points = predictor.predict_points(atoms, grid.points())
    assert at_points.shape == (210, 2)
    np.testing.assert_allclose(grid.values.ravel(), at_points[:, 0], rtol=0.0, atol=1e-6)
    np.testing.assert_allclose(grid.channels["difference"].ravel(), at_points[:, 1], rtol=0.0, atol=1e-6)
    scaled = predictor.predict(atoms, shape=(5, 6, 7), n_electrons=3.0)
    assert scaled.n_electrons == pytest.approx(3.0, rel=1e-5)
    factor = 3.0 / grid.n_electrons
    np.testing.assert_allclose(scaled.channels["difference"], factor * grid.channels["difference"], rtol=1e-5)


def test_a_model_of_one_channel_predicts_one_number_a_point() -> None:
    points = points_near(molecule("H2O"))
    assert Predictor(build_model(MODELS["schnet"])).predict_points(molecule("H2O"), points).shape == (300,)


@pytest.mark.parametrize("channels", [[], ["difference"], ["total", "total"], ["total", ""], [1], ["total", "a b"]])
def test_channels_begin_with_the_total_and_have_names(channels: list[Any]) -> None:
    with pytest.raises(ValueError, match="channels"):
        build_model(MODELS["schnet"] | {"channels": channels})


class Flat(type(build_model(MODELS["schnet"]))):
    """A model written before there were channels."""

    def decode(self, states, probes):
        return super().decode(states, probes)[:, 0]


WRAPPED = {
    "alone": lambda model: model,
    "on a baseline": lambda model: WithBaseline(model, FreeAtoms(cutoff=4.0)),
    "in an ensemble": lambda model: Ensemble([model, model]),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_one_number_a_point_is_taken_for_one_channel_with_a_warning(wrap) -> None:
    model = Flat(hidden_size=4, n_interactions=1)
    plain = build_model(MODELS["schnet"] | {"hidden_size": 4, "n_interactions": 1})
    plain.load_state_dict(model.state_dict())
    points = points_near(molecule("H2O"))
    with pytest.warns(DeprecationWarning, match=r"Flat.decode returns \(n_probes,\)"):
        found = Predictor(wrap(model)).predict_points(molecule("H2O"), points)
    np.testing.assert_array_equal(found, Predictor(wrap(plain)).predict_points(molecule("H2O"), points))


def test_a_model_that_returns_another_shape_is_refused_before_it_meets_targets() -> None:
    model, batch = Flat(hidden_size=4, n_interactions=1, channels=["total", "difference"]), spin_batch()
    with pytest.raises(ValueError, match=r"Flat predicted an array of shape \(300,\), expected \(300, 2\)"):
        predicted(model, batch)
    with pytest.raises(ValueError, match="a column per channel"):
        Predictor(model).predict_points(molecule("H2O"), points_near(molecule("H2O")))
