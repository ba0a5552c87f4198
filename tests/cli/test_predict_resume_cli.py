"""deepdft-predict that is killed, and helped by other processes: the files are the same, byte for byte."""

import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from deepdft.checkpoint import Checkpoint, save_checkpoint
from deepdft.inference.predictor import Predictor
from deepdft.io import read_density
from tests.cli.processes import running, wait_until
from tests.cli.slow_model import SlowGaussians

COMMAND = [sys.executable, "-m", "deepdft.cli.predict"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
COMMON = ["checkpoint=slow.ckpt", "trusted=[tests]", "picture=false", "memory=20GB"]
LARGE = [*COMMON, "structure=water.xyz", "shape=[40,40,40]", "vacuum=3"]
NAMES = ("H2O", "CH4", "NH3", "CO")
SEVERAL = [*COMMON, "structure=several.xyz", "shape=[12,12,12]", "vacuum=3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model, a structure, and a file with four."""
    config = {"_target_": "tests.cli.slow_model.SlowGaussians"}
    save_checkpoint(tmp_path / "slow.ckpt", Checkpoint(SlowGaussians(), config))
    ase.io.write(tmp_path / "water.xyz", molecule("H2O"))
    ase.io.write(tmp_path / "several.xyz", [molecule(name) for name in NAMES])
    return tmp_path


def predict(folder: Path, *arguments: str, **environment: str) -> str:
    """What a command prints that must end well."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_killed_prediction_continues_and_workers_may_die(folder: Path) -> None:
    parts = folder / "killed.h5.parts"
    with running([*COMMAND, *LARGE, "output=killed.h5"], folder, ENVIRONMENT) as process:
        wait_until(lambda: len(list(parts.glob("*.npy"))) >= 1, process)
        process.kill()
        process.wait()
    finished = len(list(parts.glob("*.npy")))
    assert 1 <= finished < 4
    assert not (folder / "killed.h5").exists()
    assert f"{finished} of 4 slabs were there" in predict(folder, *LARGE, "output=killed.h5")
    assert not parts.exists()

    predict(folder, *LARGE, "output=whole.h5")
    reference = (folder / "whole.h5").read_bytes().replace(b"whole", b"killed")
    assert (folder / "killed.h5").read_bytes() == reference

    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'deepdft-lightning[cluster]'")
    fuse = folder / "fuse"
    fuse.touch()
    predict(folder, *LARGE, "output=shared.h5", "workers=2", DEEPDFT_TEST_FUSE=str(fuse))
    assert not fuse.exists(), "no worker was killed"
    assert (folder / "shared.h5").read_bytes() == (folder / "whole.h5").read_bytes()


def test_structures_are_shared_among_workers(folder: Path) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'deepdft-lightning[cluster]'")
    fuse = folder / "fuse"
    fuse.touch()
    text = predict(folder, *SEVERAL, "output=out/x.h5", "workers=2", DEEPDFT_TEST_FUSE=str(fuse))
    assert not fuse.exists(), "no worker was killed"
    assert text.count("points/s") == 4
    for index, name in enumerate(NAMES):
        expected = Predictor(SlowGaussians()).predict(molecule(name), shape=(12, 12, 12), vacuum=3.0)
        found = read_density(folder / "out" / f"x_{index:03d}.h5")
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-6, atol=1e-7)
    assert len(list((folder / "out").iterdir())) == 4
