"""Checkpoints of every model as earlier versions wrote them load, and give the densities they gave."""

import lzma
from pathlib import Path

import ase
import numpy as np
import pytest
import torch

from deepdft.checkpoint import load_checkpoint
from deepdft.graph.neighbors import atom_graph, probe_graph, structures_from_atoms
from deepdft.inference.encoded import EncodedStructure

VERSION_1 = Path(__file__).parent / "fixtures" / "version_1"
NAMES = [file.name.removesuffix(".ckpt.xz") for file in sorted(VERSION_1.glob("*.ckpt.xz"))]
DENSITIES = dict(np.load(VERSION_1 / "densities.npz"))


def test_there_is_one_of_every_model() -> None:
    assert len(NAMES) == 9


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def file(name: str, tmp_path: Path) -> Path:
    path = tmp_path / f"{name}.ckpt"
    path.write_bytes(lzma.decompress((VERSION_1 / f"{name}.ckpt.xz").read_bytes()))
    return path


@pytest.fixture(params=["molecule", "crystal"])
def structure(request: pytest.FixtureRequest) -> str:
    return request.param


def atoms_of(structure: str) -> ase.Atoms:
    numbers, positions, cell, pbc = (DENSITIES[f"{structure}/{key}"] for key in ("numbers", "positions", "cell", "pbc"))
    return ase.Atoms(numbers, positions, cell=cell, pbc=pbc)


def test_it_gives_the_density_it_gave(name: str, structure: str, file: Path) -> None:
    checkpoint = load_checkpoint(file)
    model = checkpoint.model.double()
    union = structures_from_atoms([atoms_of(structure)], dtype=torch.float64)
    points = torch.from_numpy(DENSITIES[f"{structure}/points"])
    probes = probe_graph(union, points, torch.zeros(len(points), dtype=torch.int64), model.probe_cutoff)
    with torch.no_grad():
        found = model(atom_graph(union, model.cutoff), probes).squeeze(-1).numpy()
    np.testing.assert_allclose(found, DENSITIES[f"{name}/{structure}"], rtol=0.0, atol=1e-12)
    assert model.channels == ("total",)
    assert checkpoint.info["elements"] == [1, 3, 6, 8, 27]


def test_it_predicts_the_same_in_single_precision(name: str, structure: str, file: Path) -> None:
    expected = DENSITIES[f"{name}/{structure}"]
    encoded = EncodedStructure(load_checkpoint(file).model, atoms_of(structure))
    found = encoded.total(DENSITIES[f"{structure}/points"])
    assert np.abs(found - expected).max() < 5e-6 * np.abs(expected).max()


def test_a_checkpoint_that_names_the_former_class_of_a_baseline_loads(tmp_path: Path) -> None:
    """As exported from an ensemble whose members have a baseline."""
    path = tmp_path / "painn_on_fitted.ckpt"
    path.write_bytes(lzma.decompress((VERSION_1 / "painn_on_fitted.ckpt.xz").read_bytes()))
    expected = load_checkpoint(path)
    content = torch.load(path, weights_only=True)
    own = dict(content["model"])
    baseline = own.pop("baseline")
    content["model"] = {"_target_": "deepdft.models.baseline.OnBaseline", "model": own, "baseline": baseline}
    torch.save(content, tmp_path / "former.ckpt")
    found = load_checkpoint(tmp_path / "former.ckpt").model
    assert type(found) is type(expected.model)
    for name, weight in expected.model.state_dict().items():
        assert torch.equal(found.state_dict()[name], weight)
