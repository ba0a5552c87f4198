"""Any model can learn the difference from a superposition of atoms."""

from pathlib import Path
from typing import Any

import pytest
import torch

from deepdft.checkpoint import Checkpoint, build_model, load_checkpoint, model_name, save_checkpoint
from deepdft.graph.batch import Batch
from deepdft.graph.neighbors import atom_graph, probe_graph, structures_from_atoms
from deepdft.models.base import DensityModel
from deepdft.models.free_atoms import FreeAtoms
from deepdft.models.orbital import Orbital
from deepdft.models.with_baseline import BASELINES, WithBaseline
from deepdft.testing.contract import STRUCTURES, ModelContract

MODELS = {
    "schnet": "deepdft.models.schnet.SchNet",
    "painn": "deepdft.models.painn.PaiNN",
    "schnet_released": "deepdft.models.schnet_released.SchNetReleased",
}


def config(model: str, baseline: str | None = None) -> dict[str, Any]:
    plain = {"_target_": MODELS[model], "hidden_size": 8, "n_interactions": 2, "cutoff": 4.0}
    return plain | ({} if baseline is None else {"baseline": baseline})


def trained(model: str, baseline: str) -> DensityModel:
    """As after some training: nothing is zero."""
    made = build_model(config(model, baseline))
    assert isinstance(made, WithBaseline)
    with torch.no_grad():
        for parameter in made.model.readout.parameters():
            parameter.normal_(0.0, 0.3)
        made.scale.fill_(0.5)
        if baseline == "fitted":
            made.baseline.weights.weight.uniform_(0.0, 0.1)
    return made


class TestSchNetOnFreeAtoms(ModelContract):
    def make_model(self) -> DensityModel:
        return trained("schnet", "superposition")


class TestPaiNNOnFittedAtoms(ModelContract):
    def make_model(self) -> DensityModel:
        return trained("painn", "fitted")


def batch_of_free_atoms(factor: float = 1.0) -> Batch:
    """Random points in a molecule; the density is that of its free atoms times a factor."""
    atoms = structures_from_atoms([STRUCTURES["molecule"]])
    points, which = 6.0 * torch.rand(400, 3) - 1.0, torch.zeros(400, dtype=torch.long)
    model = FreeAtoms(cutoff=4.0)
    density = model(atom_graph(atoms, 4.0), probe_graph(atoms, points, which, 4.0))
    return Batch(atoms, points, which, factor * density)


def predicted(model: DensityModel, batch: Batch) -> torch.Tensor:
    probes = probe_graph(batch.structures, batch.probe_positions, batch.probe_structure, model.probe_cutoff)
    return model(atom_graph(batch.structures, model.cutoff), probes)


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("model", MODELS)
def test_training_begins_at_the_baseline_and_moves_everything_else(model: str, baseline: str) -> None:
    torch.manual_seed(0)
    made, batch = build_model(config(model, baseline)), batch_of_free_atoms(2.0)
    made.prepare([batch])
    found = predicted(made, batch)
    if baseline == "superposition":
        assert torch.allclose(found, 0.5 * batch.targets, atol=1e-6)
    else:
        assert torch.allclose(found, predicted(made.baseline, batch), atol=1e-6)
        assert (found - batch.targets).abs().mean() < 0.05 * batch.targets.mean()
    for _ in range(2):  # the read-out is zero at first, and all before it learns from the second step on
        made.zero_grad()
        (predicted(made, batch) - 1.5 * batch.targets).abs().mean().backward()
        with torch.no_grad():
            for parameter in (p for p in made.parameters() if p.grad is not None):
                parameter.sub_(parameter.grad, alpha=1e-2)
    untouched = {name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()}
    expected = {name for name, _ in made.named_parameters() if name.startswith("baseline.")}
    if model == "schnet_released":  # its first gate looks at probe states of zero
        expected.add("model.probe_steps.0.gate.0.weight")
    assert untouched == expected


@pytest.mark.parametrize("model", MODELS)
def test_without_a_baseline_nothing_changes(model: str) -> None:
    old, null = config(model), config(model) | {"baseline": None}
    assert type(build_model(null)).__name__ == MODELS[model].split(".")[-1]
    assert build_model(null).state_dict().keys() == build_model(old).state_dict().keys()


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_checkpoint_rebuilds_the_model_with_its_baseline(tmp_path: Path, baseline: str) -> None:
    torch.manual_seed(0)
    model, batch = trained("schnet", baseline), batch_of_free_atoms()
    save_checkpoint(tmp_path / "model.ckpt", Checkpoint(model, config("schnet", baseline)))
    loaded = load_checkpoint(tmp_path / "model.ckpt")
    assert torch.equal(predicted(loaded.model, batch), predicted(model, batch))
    assert model_name(loaded.config) == f"SchNet on {baseline}"


def test_a_model_is_prepared_with_what_the_baseline_leaves_as_numbers_of_order_one() -> None:
    class Remembers(FreeAtoms):
        def prepare(self, batches) -> None:
            self.batches = list(batches)

    torch.manual_seed(0)
    batch, inner = batch_of_free_atoms(3.0), Remembers(cutoff=4.0)
    model = WithBaseline(inner, "superposition")
    model.prepare([batch])
    rest = 2.0 / 3.0 * batch.targets
    assert model.scale == pytest.approx(rest.square().mean().sqrt().item(), rel=1e-5)
    assert torch.allclose(inner.batches[0].targets, rest / model.scale, atol=1e-5)


def test_the_density_is_the_atoms_plus_the_scaled_rest() -> None:
    model, batch = trained("schnet", "superposition"), batch_of_free_atoms()
    assert isinstance(model, WithBaseline)
    probes = probe_graph(batch.structures, batch.probe_positions, batch.probe_structure, model.probe_cutoff)
    atoms = atom_graph(batch.structures, model.cutoff)
    expected = batch.targets + 0.5 * model.model(atoms, probes)
    assert torch.allclose(model(atoms, probes), expected, atol=1e-6)
    assert (expected - batch.targets).abs().max() > 1e-3


def test_an_unknown_baseline_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.baseline=atoms: expected superposition, fitted or null"):
        build_model(config("schnet", "atoms"))


def test_the_word_free_atoms_is_a_checkpoint_unless_there_is_a_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(load_checkpoint("free_atoms").model, FreeAtoms)
    assert build_model(load_checkpoint("free_atoms").config).cutoff == 6.0
    save_checkpoint("free_atoms", Checkpoint(build_model(config("painn")), config("painn")))
    assert model_name(load_checkpoint("free_atoms").config) == "PaiNN"


def test_a_model_in_blocks_stays_in_blocks_on_a_baseline() -> None:
    torch.manual_seed(0)
    model = WithBaseline(Orbital(n_orbitals=2, n_radial=4, hidden_size=8, n_interactions=1, n_basis=6), "superposition")
    torch.nn.init.normal_(model.model.scalar_readout[-1].weight)
    model = model.double().eval()
    cpu = torch.device("cpu")
    assert model.chunk_size(cpu) is not None
    union = structures_from_atoms([STRUCTURES["skewed cell"]], dtype=torch.float64)
    points = torch.rand(6000, 3, dtype=torch.float64) * 6.0  # more than one search for edges
    which = torch.zeros(len(points), dtype=torch.int64)
    with torch.no_grad():
        states = model.encode(atom_graph(union, model.cutoff))
        found = model.decode_points(states, union, points)
        expected = model.decode(states, probe_graph(union, points, which, model.probe_cutoff))
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


ORBITAL = {
    "_target_": "deepdft.models.orbital.Orbital",
    "hidden_size": 8,
    "n_interactions": 1,
    "n_orbitals": 4,
    "n_radial": 4,
    "cutoff": 4.0,
}


class TestOrbitalOnFreeAtoms(ModelContract):
    def make_model(self) -> DensityModel:
        model = build_model(ORBITAL | {"baseline": "superposition", "residual": False})
        model.scale.fill_(0.5)
        return model


def test_a_model_keeps_its_way_without_edges_on_a_baseline() -> None:
    alone, on_atoms = build_model(ORBITAL), build_model(ORBITAL | {"baseline": "superposition"})
    assert on_atoms.chunk_size(torch.device("cpu")) == alone.chunk_size(torch.device("cpu")) is not None
    assert build_model(config("painn", "fitted")).chunk_size(torch.device("cpu")) is None


def test_a_baseline_is_a_model_of_its_own_in_a_config() -> None:
    torch.manual_seed(0)
    composed = {
        "_target_": "deepdft.models.with_baseline.WithBaseline",
        "model": config("schnet"),
        "baseline": {"_target_": "deepdft.models.superposition.Superposition", "cutoff": 4.0, "n_functions": 14},
    }
    short = config("schnet", "fitted")
    made, expected = build_model(composed), build_model(short)
    made.load_state_dict(expected.state_dict())
    batch = batch_of_free_atoms()
    assert torch.equal(predicted(made, batch), predicted(expected, batch))
    assert model_name(composed) == "SchNet on Superposition"
    assert model_name(composed | {"baseline": "fitted"}) == model_name(short) == "SchNet on fitted"
    with pytest.raises(ValueError, match="up to the model's cutoff of 4 Å"):
        build_model(composed | {"baseline": composed["baseline"] | {"cutoff": 3.0}})
    with pytest.raises(ValueError, match=r"_target_ 'os\.system'"):
        build_model(composed | {"baseline": {"_target_": "os.system"}})
