"""Stores that earlier versions wrote still load, with the same atoms and numbers."""

import shutil
from pathlib import Path

import ase
import numpy as np
import pytest

from deepdft.data.splits import load_split
from deepdft.data.store import DensityStore

FIXTURES = Path(__file__).parent / "fixtures"
EXPECTED = np.load(FIXTURES / "version_1_expected.npz")
COMPRESSIONS = ["none", "bitshuffle", "zfp"]
LABELS = ["PBE", "RPBE"]


@pytest.fixture(params=COMPRESSIONS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> DensityStore:
    root = tmp_path / request.param
    shutil.copytree(FIXTURES / f"version_1_{request.param}", root)
    return DensityStore(root)


def test_structures_and_densities_of_version_1_are_read(store: DensityStore) -> None:
    tolerance = 1e-5 if store.root.name == "zfp" else 0.0
    assert store.names == [str(EXPECTED[f"name_{i}"]) for i in range(3)] == ["water", "salt", "hydride"]
    assert store.labels == LABELS
    for i in range(3):
        cell, pbc = EXPECTED[f"cell_{i}"], EXPECTED[f"pbc_{i}"]
        assert store.atoms(i) == ase.Atoms(EXPECTED[f"numbers_{i}"], EXPECTED[f"positions_{i}"], cell=cell, pbc=pbc)
        np.testing.assert_array_equal(store.origin(i), EXPECTED[f"origin_{i}"])
        for label in LABELS:
            values = EXPECTED[f"values_{i}_{label}"]
            density = store.density(i, label=label)
            np.testing.assert_allclose(density.values, values, rtol=0, atol=tolerance)
            np.testing.assert_array_equal(store.planes(i, slice(1, 3), label=label), density.values[1:3])
            expected = values.sum(dtype=np.float64) * abs(np.linalg.det(cell)) / values.size
            assert store.electrons(label)[i] == pytest.approx(expected, rel=1e-6)
            indices = np.random.default_rng(i).integers(values.size, size=30)
            points = store.sample(i, indices, label=label).reshape(-1)
            np.testing.assert_allclose(points, values.ravel()[indices], rtol=0, atol=tolerance)


def test_the_split_of_version_1_is_read(store: DensityStore) -> None:
    split = load_split(None, store)
    assert (split.train, split.validation, split.test) == ([0], [2], [1])
    assert store.index["rejected"][0]["name"] == "broken"


def test_version_1_is_verified_by_shard(store: DensityStore) -> None:
    store.verify()
    shard = store.root / "shard-00001.h5"
    content = bytearray(shard.read_bytes())
    content[-500] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"shard-00001\.h5"):
        store.verify()
