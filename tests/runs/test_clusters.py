"""Conversion and evaluation on a cluster whose worker dies in the middle: the same results."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ase.build import molecule

from deepdft.checkpoint import Checkpoint, save_checkpoint
from deepdft.clusters import Local
from deepdft.data.convert import run_plan
from deepdft.data.convert_plan import make_plan
from deepdft.data.store import Store
from deepdft.inference.predictor import Predictor
from deepdft.io import write_density
from deepdft.models.free_atoms import FreeAtoms
from deepdft.models.superposition import Superposition
from deepdft.runs.evaluate import run_evaluation
from deepdft.runs.evaluation_settings import EvaluationSettings

NAMES = ("H2O", "CH4", "NH3", "CO")


class Deadly:
    """A task that kills the process it runs in, the first time."""

    def __init__(self, task: Any, fuse: Path) -> None:
        self.task, self.fuse = task, fuse

    def __call__(self) -> Any:
        import os
        import signal

        try:
            self.fuse.unlink()
        except FileNotFoundError:
            return self.task()
        return os.kill(os.getpid(), signal.SIGKILL)


class LosesOne:
    """Dask workers of this machine, of which one is killed."""

    def __init__(self, fuse: Path) -> None:
        self.fuse = fuse
        fuse.touch()

    def __call__(self, tasks: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        for deadly, outcome in Local(workers=1)([Deadly(task, self.fuse) for task in tasks]):
            yield deadly.task, outcome


class GivesUp:
    """Workers that are lost again and again."""

    def __call__(self, tasks: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        yield tasks[0], tasks[0]()
        yield tasks[1], ChildProcessError("its worker was killed three times")


@pytest.fixture(scope="module")
def densities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sums of atoms in a file each."""
    folder = tmp_path_factory.mktemp("densities")
    for name in NAMES:
        density = Predictor(FreeAtoms()).predict(molecule(name), shape=(8, 8, 8), vacuum=3.0)
        write_density(folder / f"{name}.cube", density)
    return folder


def contents(store: Store) -> dict[str, bytes]:
    return {name: store.density(i).values.tobytes() for i, name in enumerate(store.names)}


def test_a_conversion_survives_a_killed_worker(densities: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'deepdft-lightning[cluster]'")
    plan = make_plan([densities], shard_size=1.0)
    assert len(plan.tasks) == 4
    here = run_plan(plan, tmp_path / "here")
    counts: list[int] = []
    fuse = tmp_path / "fuse"
    there = run_plan(plan, tmp_path / "there", cluster=LosesOne(fuse), progress=counts.append)
    assert not fuse.exists(), "no worker was killed"
    assert contents(there) == contents(here)
    assert counts == [0, 1, 2, 3, 4]
    there.verify()


@pytest.mark.filterwarnings("ignore:the predicted number of electrons")  # the model is not meant to be good
def test_an_evaluation_survives_a_killed_worker(densities: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'deepdft-lightning[cluster]'")
    run_plan(make_plan([densities]), tmp_path / "store")
    model = Superposition()
    model.weights.weight.data += 0.1
    config = {"_target_": "deepdft.models.superposition.Superposition"}
    save_checkpoint(tmp_path / "atoms.ckpt", Checkpoint(model, config))
    settings: dict[str, Any] = {
        "checkpoint": str(tmp_path / "atoms.ckpt"),
        "root": str(tmp_path / "store"),
        "subset": "all",
        "device": "cpu",
        "pictures": 0,
    }
    run_evaluation(EvaluationSettings(**settings), tmp_path / "here")
    fuse = tmp_path / "fuse"
    run_evaluation(EvaluationSettings(**settings, cluster=LosesOne(fuse)), tmp_path / "there")
    assert not fuse.exists(), "no worker was killed"
    rows = [(tmp_path / where / "errors.csv").read_text() for where in ("here", "there")]
    assert rows[0] == rows[1]
    assert rows[0].count("\n") == 5
    errors = [json.loads((tmp_path / where / "summary.json").read_text())["eps_mae"] for where in ("here", "there")]
    assert errors[0] == errors[1]


def test_what_is_done_before_workers_are_given_up_is_kept(densities: Path, tmp_path: Path) -> None:
    plan = make_plan([densities], shard_size=1.0)
    with pytest.raises(ChildProcessError, match=r"shard .*killed three times; run the same command again"):
        run_plan(plan, tmp_path / "store", cluster=GivesUp())
    counts: list[int] = []
    run_plan(plan, tmp_path / "store", progress=counts.append)
    assert counts[0] == 1
    shutil.rmtree(tmp_path / "store")
