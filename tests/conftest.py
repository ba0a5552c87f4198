"""A small store for all tests."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from hypothesis import settings

from deepdft.data.index import write_index
from deepdft.data.writer import ShardWriter
from deepdft.density import DensityGrid, grid_points

# Ctrl-C is tested, also where whoever started the tests ignores it (a shell does for what runs in the background)
signal.signal(signal.SIGINT, signal.default_int_handler)

# the same examples each time: a change is not refused for what it has not touched
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

SPLIT = {"train": ["CH4", "NH3", "H2O", "HF", "CO"], "validation": ["N2", "H2", "CO2"], "test": ["C2H2", "HCN"]}


def gaussian_density(name: str) -> DensityGrid:
    """Gaussians on the atoms of a molecule, as many electrons as its charge: smooth, and learnt in a few steps."""
    atoms = molecule(name, vacuum=2.0)
    shape = (10, 11, 12)
    points = grid_points(atoms.cell.array, shape, np.zeros(3))
    squared = ((points[:, None] - atoms.positions) ** 2).sum(axis=-1)
    values = (atoms.numbers * (2.0 / np.pi) ** 1.5 * np.exp(-2.0 * squared)).sum(axis=1)
    return DensityGrid(values.reshape(shape).astype(np.float32), atoms)


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten molecules with a split of 5, 3 and 2."""
    return _stored(tmp_path_factory.mktemp("stores") / "tiny", gaussian_density)


@pytest.fixture(scope="session")
def tiny_spin_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a spin density, a fifth of the total, and moments of 1 μ_B to start from."""

    def polarised(name: str) -> DensityGrid:
        density = gaussian_density(name)
        moments = {"initial_moments": np.ones((len(density.atoms), 1))}
        return replace(density, channels={"difference": np.float32(0.2) * density.values}, atom_arrays=moments)

    return _stored(tmp_path_factory.mktemp("stores") / "tiny_spin", polarised)


def _stored(root: Path, make: Callable[[str], DensityGrid]) -> Path:
    root.mkdir()
    with ShardWriter(root, 0) as shard:
        for names in SPLIT.values():
            for name in names:
                shard.add(name, make(name))
    write_index(root, [shard.record], labels=["PBE"], compression={"name": "none"}, provenance={})
    (root / "split.json").write_text(json.dumps(SPLIT))
    return root
