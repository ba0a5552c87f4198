"""Every model is the same with its compiled twins and without: the contract, values and gradients."""

from collections.abc import Iterator

import pytest
import torch

from deepdft.checkpoint import build_model
from deepdft.graph.batch import Batch
from deepdft.graph.neighbors import atom_graph, probe_graph, structures_from_atoms
from deepdft.inference.encoded import EncodedStructure
from deepdft.models.base import DensityModel
from deepdft.nn import fast
from deepdft.testing.contract import STRUCTURES, ModelContract

SMALL = {"hidden_size": 8, "n_interactions": 2}
CONFIGS = {
    "schnet": {"_target_": "deepdft.models.schnet.SchNet"} | SMALL,
    "schnet_released": {"_target_": "deepdft.models.schnet_released.SchNetReleased"} | SMALL,
    "painn": {"_target_": "deepdft.models.painn.PaiNN"} | SMALL,
    "orbital": {"_target_": "deepdft.models.orbital.Orbital", "n_orbitals": 4, "n_radial": 4, "largest_exponent": 40.0}
    | SMALL,
}


def model_of(name: str) -> DensityModel:
    model = build_model(CONFIGS[name])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


class PlainContract(ModelContract):
    @pytest.fixture(autouse=True)
    def _plain(self) -> Iterator[None]:
        with fast.disabled():
            yield


class TestPlainSchNet(PlainContract):
    def make_model(self) -> DensityModel:
        return model_of("schnet")


class TestPlainSchNetReleased(PlainContract):
    def make_model(self) -> DensityModel:
        return model_of("schnet_released")


class TestPlainPaiNN(PlainContract):
    def make_model(self) -> DensityModel:
        return model_of("painn")


class TestPlainOrbital(PlainContract):
    def make_model(self) -> DensityModel:
        return model_of("orbital")


def batch(structure: str) -> Batch:
    atoms = STRUCTURES[structure]
    torch.manual_seed(1)
    points = torch.from_numpy(atoms.positions)[torch.randint(len(atoms), (400,))] + torch.randn(400, 3)
    which = torch.zeros(400, dtype=torch.int64)
    return Batch(structures_from_atoms([atoms]), points, which, torch.rand(400, 1))


def step(model: DensityModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The densities and the gradient with respect to all weights, in one vector."""
    probes = probe_graph(batch.structures, batch.probe_positions, batch.probe_structure, model.probe_cutoff)
    density = model(atom_graph(batch.structures, model.cutoff), probes)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = torch.autograd.grad((density - batch.targets).abs().sum(), trained, allow_unused=True)
    return density.detach(), torch.cat([one.flatten() for one in found if one is not None])


@pytest.mark.parametrize("structure", ["molecule", "skewed cell"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_training_step_in_single_precision_is_the_same(name: str, structure: str) -> None:
    torch.manual_seed(0)
    model, points = model_of(name), batch(structure)
    compiled = step(model, points)
    with fast.disabled():
        plain = step(model, points)
    for one, other in zip(compiled, plain, strict=True):
        assert not torch.equal(one, other), "the twins were not used"
        assert (one - other).norm() < 2e-5 * other.norm()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_prediction_in_single_precision_is_the_same(name: str) -> None:
    torch.manual_seed(0)
    encoded, points = EncodedStructure(model_of(name), STRUCTURES["molecule"]), batch("molecule").probe_positions
    compiled = torch.from_numpy(encoded.density(points.numpy()))
    with fast.disabled():
        plain = torch.from_numpy(encoded.density(points.numpy()))
    assert (compiled - plain).abs().max() < 1e-5 * plain.abs().max()


def test_disabled_is_undone_also_after_an_error() -> None:
    assert fast.enabled()
    with pytest.raises(ValueError, match="l_max"), fast.disabled():
        build_model(CONFIGS["orbital"] | {"l_max": 0 if not fast.enabled() else 1})
    assert fast.enabled()
