"""deepdft-train as a user runs it: run directories, resuming, several processes, sweeps, loggers, refusals."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.plugins import MixedPrecision

from deepdft.checkpoint import load_checkpoint
from deepdft.cli.train import main
from deepdft.data.index import checksum
from deepdft.data.store import DensityStore
from deepdft.files import exclusive_lock
from deepdft.graph.batch import Batch
from deepdft.inference.encoded import EncodedStructure
from deepdft.models.orbital import Orbital
from deepdft.runs.compose import config_directory
from deepdft.runs.resolvers import _run_directory
from deepdft.runs.trainer_settings import without_filling
from deepdft.training.callbacks import DensityPicture
from deepdft.training.interrupt import CheckpointOnInterrupt
from deepdft.training.module import DensityModule
from tests.cli.processes import children, descendants, running, said_of, wait_until

SMALL = [
    "model=schnet",
    "data.pbc=false",
    "data.importance_fraction=0",
    "loss=mse",
    "scheduler=exponential",
    "trainer.gradient_clip_val=null",
    "trainer=cpu",
    "model.hidden_size=8",
    "model.n_interactions=2",
    "trainer.max_steps=8",
    "trainer.val_check_interval=4",
    "trainer.log_every_n_steps=2",
    "trainer.enable_progress_bar=false",
    "data.probes_per_structure=50",
    "data.validation_probes=200",
    "data.num_workers=0",
    "optimizer.lr=1e-2",
    "callbacks=ema",
]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def train(tiny_store: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the command in this process."""

    def run(*overrides: str, settings: list[str] = SMALL) -> None:
        arguments = [*settings, f"data.root={tiny_store}"] if settings else []
        monkeypatch.setattr(sys, "argv", ["deepdft-train", *arguments, *overrides])
        main()

    return run


def command(tiny_store: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "deepdft.cli.train", *SMALL, f"data.root={tiny_store}", *overrides]


def weights(run: str) -> dict[str, torch.Tensor]:
    return torch.load(Path(run) / "checkpoints/last.ckpt", weights_only=True)["current_model_state"]


def same_weights(a: str, b: str, tolerance: float = 0.0) -> bool:
    first, second = weights(a), weights(b)
    return all((first[name] - second[name]).abs().max() <= tolerance for name in first)


def metrics(run: str, *columns: str) -> list[list[str]]:
    with (Path(run) / "metrics.csv").open() as file:
        rows = [[row["step"], *(row[column] for column in columns)] for row in csv.DictReader(file)]
    return [row for row in rows if any(row[1:])]


def test_a_run_directory_tells_everything_and_its_checkpoint_predicts(train, tiny_store: Path) -> None:
    train("hydra.run.dir=run")
    run = Path("run")
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["hidden_size"] == 8
    about = json.loads((run / "run.json").read_text())
    assert about["global_batch_size"] == {"structures": 2, "probes": 100}
    assert about["data"]["fingerprint"] == DensityStore(tiny_store).fingerprint
    assert about["versions"]["torch"] == torch.__version__.split("+")[0] or about["versions"]["torch"]
    assert json.loads((run / "split.json").read_text())["validation"] == ["N2", "H2", "CO2"]
    assert json.loads((run / "summary.json").read_text())["steps"] == 8
    assert (run / "density.png").stat().st_size > 10_000
    assert [row[0] for row in metrics("run", "val/eps_mae")] == ["4", "8"]
    assert len(metrics("run", "train/loss")) == 4

    loaded = load_checkpoint(run)
    assert loaded.info["elements"] == [1, 6, 7, 8, 9]
    assert loaded.pbc is False
    reference = DensityStore(tiny_store).density(9)
    density = EncodedStructure(loaded.model, reference.atoms).density(reference.points(slice(0, 5)))
    assert density.shape == (5, 1)


def test_training_learns(train) -> None:
    train(
        "hydra.run.dir=run", "trainer.max_steps=150", "trainer.val_check_interval=50", "loss=l1", "callbacks.ema=null"
    )
    errors = [float(row[1]) for row in metrics("run", "val/eps_mae")]
    assert errors[-1] < 0.5 * errors[0]
    assert errors[-1] < 40.0


def test_the_same_seed_gives_the_same_run(train) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(f"hydra.run.dir={name}", f"seed={seed}")
    assert same_weights("a", "b")
    assert not same_weights("a", "c", 1e-3)


def living_processes(group: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of_group) == group and state != "Z":
            found.append(stat.parent.name)
    return found


def wait_for_the_end_of_group(group: int) -> None:
    deadline = time.monotonic() + 120
    while left := living_processes(group):
        assert time.monotonic() < deadline, f"{len(left)} loader processes outlived the training"
        time.sleep(0.05)


def test_a_killed_run_resumes_as_if_nothing_had_happened(train, tiny_store: Path) -> None:
    train("hydra.run.dir=whole", "trainer.max_steps=12")

    overrides = ["hydra.run.dir=killed", "trainer.max_steps=100000", "data.num_workers=2"]
    process = subprocess.Popen(command(tiny_store, *overrides), start_new_session=True)
    last = Path("killed/checkpoints/last.ckpt")
    deadline = time.monotonic() + 300
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for_the_end_of_group(process.pid)  # its loaders too
    reached = torch.load(last, weights_only=True)["global_step"]

    steps = max(12, reached + 4)
    train("resume=killed", f"trainer.max_steps={steps}", "data.num_workers=0", settings=[])
    if steps != 12:
        train("hydra.run.dir=whole2", f"trainer.max_steps={steps}")
    whole = "whole" if steps == 12 else "whole2"
    assert same_weights("killed", whole)
    assert metrics("killed", "val/eps_mae", "train/loss") == metrics(whole, "val/eps_mae", "train/loss")
    assert not Path("runs").exists(), "a resumed run stays in its directory"


def test_a_resumed_run_refuses_to_become_another_one(train, capfd: pytest.CaptureFixture) -> None:
    train("hydra.run.dir=run")
    for change in ("optimizer.lr=1e-3", "model.hidden_size=16", "seed=5", "data.structures_per_step=1", "loss=l1"):
        with pytest.raises(SystemExit) as stop:
            train("resume=run", change, settings=[])
        assert stop.value.code == 1
        assert change.split("=", maxsplit=1)[0] in capfd.readouterr().err
    with pytest.raises(SystemExit):
        train("resume=run", "optimizer.lr=1e-3", "seed=5", settings=[])
    assert "resume it with seed=0 data.seed=0 optimizer.lr=0.01, or start a new run" in capfd.readouterr().err
    train("resume=run", settings=[])
    assert "run is finished, after 8 steps" in capfd.readouterr().out, "what was refused has left nothing behind"
    with pytest.raises(SystemExit):
        train("resume=nowhere", settings=[])
    assert "resume=nowhere: not a run directory" in capfd.readouterr().err


def test_a_run_that_was_moved_keeps_its_best_and_its_end(train, capfd: pytest.CaptureFixture) -> None:
    train("run_dir=run", "optimizer.lr=0", "callbacks.ema=null")  # every validation is as good as the first
    summary = json.loads(Path("run/summary.json").read_text())
    Path("run").rename("moved")
    capfd.readouterr()
    train("resume=moved", settings=[])
    assert "moved is finished, after 8 steps" in capfd.readouterr().out
    assert json.loads(Path("moved/summary.json").read_text()) == summary

    best = Path("moved/checkpoints/best.ckpt").read_bytes()
    train("resume=moved", "trainer.max_steps=12", settings=[])
    assert json.loads(Path("moved/summary.json").read_text())["val/eps_mae"] == summary["val/eps_mae"]
    assert Path("moved/checkpoints/best.ckpt").read_bytes() == best


def test_a_run_that_lost_its_patience_gets_more(train, capfd: pytest.CaptureFixture) -> None:
    settings = ["optimizer.lr=0", "callbacks.ema=null", "trainer.val_check_interval=2", "trainer.max_steps=100"]
    train("run_dir=run", *settings, "callbacks.early_stopping.patience=2")
    assert json.loads(Path("run/summary.json").read_text())["steps"] == 6
    assert Path("run/density.png").is_file()
    capfd.readouterr()
    train("resume=run", settings=[])
    assert "raise what ended it, callbacks.early_stopping.patience=2" in capfd.readouterr().out
    train("resume=run", "callbacks.early_stopping.patience=4", settings=[])
    assert json.loads(Path("run/summary.json").read_text())["steps"] == 10


def test_the_last_picture_is_of_the_averaged_weights(train, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(DensityPicture, "_draw", lambda _, trainer, module: drawn.append(deepcopy(module.state_dict())))
    train("run_dir=run")
    kept = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    (weights,) = drawn
    assert all(weights[name].equal(kept["state_dict"][name]) for name in weights)
    assert not all(weights[name].equal(kept["current_model_state"][name]) for name in weights)


def test_a_run_whose_time_was_over_gets_more(train, capfd: pytest.CaptureFixture) -> None:
    train("run_dir=run", "trainer.max_steps=100000", "trainer.max_time=00:00:00:02", "callbacks.picture=null")
    before = json.loads(Path("run/summary.json").read_text())
    assert 2.0 <= before["seconds"] < 10.0
    capfd.readouterr()
    train("resume=run", settings=[])
    assert "raise what ended it, trainer.max_time=00:00:00:02" in capfd.readouterr().out
    train("resume=run", "trainer.max_time=00:00:00:04", settings=[])
    after = json.loads(Path("run/summary.json").read_text())
    assert after["steps"] > before["steps"]
    assert 4.0 <= after["seconds"] < 12.0, "the time before is counted, and no other"


def test_a_run_is_resumed_in_place(train, capfd: pytest.CaptureFixture) -> None:
    train("run_dir=run")
    train("resume=run", "run_dir=./run", "trainer.max_steps=12", settings=[])
    for name in ("run_dir", "hydra.run.dir"):
        with pytest.raises(SystemExit):
            train("resume=run", f"{name}=other", settings=[])
        assert "error: resume=run: a run is resumed where it lies; leave out run_dir=other" in capfd.readouterr().err
    assert not Path("other").exists()


def test_what_a_run_started_from_may_be_gone_when_it_is_resumed(train, tiny_store: Path) -> None:
    train("run_dir=first")
    shutil.copy(tiny_store / "split.json", "split.json")
    train("run_dir=run", "init=first", "data.split=split.json")
    shutil.rmtree("first")
    Path("split.json").rename("elsewhere.json")
    train("resume=run", "data.split=elsewhere.json", "trainer.max_steps=12", settings=[])
    assert json.loads(Path("run/summary.json").read_text())["steps"] == 12


def test_a_run_is_resumed_with_its_own_data_only(
    train, tiny_store: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    store = tmp_path / "store"
    shutil.copytree(tiny_store, store)
    train("run_dir=run", f"data.root={store}")
    before = Path("run/split.json").read_text()
    split = json.loads((store / "split.json").read_text())
    (store / "split.json").write_text(json.dumps(split | {"train": split["train"][1:]}))
    with pytest.raises(SystemExit):
        train("resume=run", "trainer.max_steps=12", settings=[])
    assert "train structures are not those of the split as it is now" in capfd.readouterr().err
    assert Path("run/split.json").read_text() == before
    index = json.loads((store / "index.json").read_text())
    index["shards"][0]["sha256"] = "0" * 64
    index["crc32"] = checksum(index)
    (store / "index.json").write_text(json.dumps(index))
    with pytest.raises(SystemExit):
        train("resume=run", "trainer.max_steps=12", settings=[])
    assert "data.root does not hold the data that this run started with" in capfd.readouterr().err


def test_a_new_run_does_not_go_into_the_folder_of_another(train, capfd: pytest.CaptureFixture) -> None:
    train("run_dir=run")
    files = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    for name in ("run_dir=run", "hydra.run.dir=run"):
        with pytest.raises(SystemExit):
            train(name, "seed=1")
        assert "run: holds a training run; resume it with resume=run" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == files
    for name in ("run_dir=other", "resume=run"):
        with pytest.raises(SystemExit):
            train("-m", name, "seed=0,1", settings=[])
        assert f"{name}: belongs to a single run; a sweep (-m) makes new ones" in capfd.readouterr().err


def test_a_resumed_run_finds_the_configs_it_was_started_with(train, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "model"
    folder.mkdir(parents=True)
    (folder / "narrow.yaml").write_text("_target_: deepdft.models.superposition.Superposition\ncutoff: 3.0\n")
    settings = [setting for setting in SMALL if not setting.startswith("model.")]
    train("run_dir=run", f"hydra.searchpath=[file://{tmp_path}/mine]", "model=narrow", settings=settings)
    train("resume=run", "trainer.max_steps=12", settings=[])
    assert json.loads(Path("run/summary.json").read_text())["steps"] == 12


def test_a_run_of_another_version_of_the_model_is_left_as_it_was(train, capfd: pytest.CaptureFixture) -> None:
    train("hydra.run.dir=run")
    last = Path("run/checkpoints/last.ckpt")
    content = torch.load(last, weights_only=True)
    del content["state_dict"]["model.readout.2.weight"]
    content["global_step"] = 4  # what was logged after it would be dropped
    torch.save(content, last)
    logged, summary = Path("run/metrics.csv").read_text(), Path("run/summary.json").read_text()
    with pytest.raises(SystemExit):
        train("resume=run", "trainer.max_steps=12", settings=[])
    assert "last.ckpt: the weights do not fit the model config: 1 missing in the file, such as readout.2.weight" in (
        capfd.readouterr().err
    )
    assert Path("run/metrics.csv").read_text() == logged
    assert Path("run/summary.json").read_text() == summary


def test_a_finished_run_says_so_and_continues_if_its_limit_is_raised(train, capfd: pytest.CaptureFixture) -> None:
    train("hydra.run.dir=run")
    before = Path("run/metrics.csv").read_text()
    summary = json.loads(Path("run/summary.json").read_text())
    capfd.readouterr()
    train("resume=run", "data.num_workers=1", settings=[])
    reported = capfd.readouterr().out
    assert f"is finished, after 8 steps with a best validation ε_mae of {summary['val/eps_mae']:.3f} %" in reported
    assert "raise what ended it, trainer.max_steps=8" in reported
    assert Path("run/metrics.csv").read_text() == before
    assert json.loads(Path("run/summary.json").read_text()) == summary

    train("resume=run", "trainer.max_steps=12", settings=[])
    train("hydra.run.dir=whole", "trainer.max_steps=12")
    assert same_weights("run", "whole")
    assert metrics("run", "val/eps_mae", "train/loss") == metrics("whole", "val/eps_mae", "train/loss")
    assert json.loads(Path("run/summary.json").read_text())["steps"] == 12
    capfd.readouterr()
    train("resume=run", settings=[])
    assert "is finished, after 12 steps" in capfd.readouterr().out, "the end that was moved is the run's own now"


def test_a_run_that_died_before_its_config_was_written_starts_again(train, capfd: pytest.CaptureFixture) -> None:
    train("hydra.run.dir=run")
    for file in ("config.yaml", "summary.json", "checkpoints/last.ckpt"):
        (Path("run") / file).unlink()
    train("resume=run", settings=[])
    assert "at the beginning" in capfd.readouterr().out
    assert json.loads(Path("run/summary.json").read_text())["steps"] == 8


def test_two_processes_follow_one_with_the_same_global_batch(train, tiny_store: Path) -> None:
    # plain gradient descent: Adam divides by the gradient's size, and so neither notices a wrong factor nor leaves
    # the rounding of weights with tiny gradients alone
    sgd = ["optimizer._target_=torch.optim.SGD", "optimizer.lr=1e-2"]
    train("hydra.run.dir=one", *sgd)
    train("hydra.run.dir=other", *sgd, "seed=1")
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.structures_per_step=1"]
    result = subprocess.run(
        command(tiny_store, "hydra.run.dir=two", *sgd, *ddp), capture_output=True, text=True, check=True, timeout=600
    )
    assert "site-packages" not in result.stderr, result.stderr  # no warnings of libraries
    assert same_weights("one", "two", 1e-7)
    assert not same_weights("one", "other", 1e-3)
    one, two = (metrics(run, "val/eps_mae", "val/rmse") for run in ("one", "two"))
    for a, b in zip(one, two, strict=True):  # three structures on two ranks: none twice, none left out
        assert [float(x) for x in a] == pytest.approx([float(x) for x in b], rel=1e-5)
    assert json.loads(Path("two/run.json").read_text())["global_batch_size"]["structures"] == 2


def test_a_sweep_has_a_run_per_job_and_a_table(train, capfd: pytest.CaptureFixture) -> None:
    train("-m", "model.hidden_size=4,6", "seed=0,1", "hydra.sweep.dir=sweep", "trainer.max_steps=4")
    with Path("sweep/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["model.hidden_size"], row["seed"]) for row in rows} == {("4", "0"), ("4", "1"), ("6", "0"), ("6", "1")}
    errors = [float(row["val/eps_mae"]) for row in rows]
    assert errors == sorted(errors)
    assert len(set(errors)) == 4
    for job in range(4):
        assert (Path("sweep") / str(job) / "checkpoints/best.ckpt").is_file()
        assert (Path("sweep") / str(job) / "metrics.csv").is_file()
    assert "results.csv" in capfd.readouterr().out


def test_a_sweep_whose_job_fails_still_has_its_table(train) -> None:
    with pytest.raises(SystemExit):
        train("-m", "loss=mse,none_of_them,l1", "hydra.sweep.dir=sweep", "trainer.max_steps=4")
    with Path("sweep/results.csv").open() as file:
        assert {row["loss"] for row in csv.DictReader(file)} == {"mse", "l1"}


def test_a_sweep_over_several_devices_in_one_process_is_refused(tiny_store: Path) -> None:
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "-m", "seed=0,1"]
    result = subprocess.run(command(tiny_store, *ddp), capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode != 0
    assert "one process per job" in result.stderr
    assert not list(Path().rglob("*.ckpt"))


def test_every_job_is_one_offline_run_of_wandb(train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    train("-m", "seed=0,1", "hydra.sweep.dir=sweep", "logger=wandb", "trainer.max_steps=4")
    ids = set()
    for job in ("0", "1"):
        runs = list((Path("sweep") / job / "wandb").glob("offline-run-*"))
        assert len(runs) == 1
        ids.add(runs[0].name.split("-")[-1])
        assert next(iter(runs[0].glob("*.wandb"))).stat().st_size > 1000
        assert list(runs[0].rglob("density*.png")), "the picture of a slice"
        assert metrics(f"sweep/{job}", "val/eps_mae")
    assert len(ids) == 2


def test_a_resumed_run_stays_one_run_of_wandb(train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    train("hydra.run.dir=run", "logger=wandb", "trainer.max_steps=4")
    train("resume=run", "trainer.max_steps=8", settings=[])
    ids = [folder.name.split("-")[-1] for folder in Path("run/wandb").glob("offline-run-*")]
    assert len(ids) == 2
    assert len(set(ids)) == 1


def test_training_begins_from_the_weights_of_init(train) -> None:
    train("hydra.run.dir=first", "callbacks.ema=null")
    train("hydra.run.dir=second", "init=first", "trainer.max_steps=1", "optimizer.lr=0", "callbacks.ema=null")
    first, second = load_checkpoint("first").model.state_dict(), load_checkpoint("second").model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_model_is_prepared_once_before_its_first_step(train, tiny_store: Path) -> None:
    still = ["optimizer.lr=0", "callbacks.ema=null"]
    others = [setting for setting in SMALL if "model." not in setting]
    train("model=superposition", "hydra.run.dir=fitted", *still, settings=others)
    fitted = load_checkpoint("fitted").model
    assert fitted.weights.weight[6].any()
    assert float(metrics("fitted", "val/eps_mae")[0][1]) < 10.0, "the bundled test densities are Gaussians on atoms"

    train("resume=fitted", "trainer.max_steps=12", settings=[])
    assert torch.equal(load_checkpoint("fitted").model.weights.weight, fitted.weights.weight)
    with torch.no_grad():
        content = torch.load("fitted/checkpoints/best.ckpt", weights_only=True)
        content["state_dict"]["model.weights.weight"] *= 2.0
        torch.save(content, "doubled.ckpt")
    train("model=superposition", "init=doubled.ckpt", "hydra.run.dir=init", *still, settings=others)
    assert torch.equal(load_checkpoint("init").model.weights.weight, 2.0 * fitted.weights.weight)


@pytest.mark.parametrize("baseline", ["superposition", "fitted"])
def test_a_model_is_trained_on_a_baseline_that_stays_as_it_was_fitted(train, baseline: str) -> None:
    settings = [f"model.baseline={baseline}", "callbacks.ema=null", "hydra.run.dir=run"]
    train(*settings, "trainer.max_steps=2")
    before = load_checkpoint("run/checkpoints/last.ckpt").model.state_dict()
    train("resume=run", "trainer.max_steps=4", settings=[])
    after = load_checkpoint("run/checkpoints/last.ckpt").model.state_dict()
    frozen = {name for name in after if torch.equal(before[name], after[name])}
    assert {name for name in after if name.startswith("baseline.")} <= frozen
    assert "model.readout.2.weight" in set(after) - frozen
    assert after["baseline.weights.weight" if baseline == "fitted" else "baseline.table"].any()


def test_free_atoms_are_not_trained(train, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        train("model=free_atoms", settings=[s for s in SMALL if "model." not in s])
    error = capfd.readouterr().err
    assert "has no trainable parameters: evaluate it as it is, deepdft-evaluate checkpoint=free_atoms" in error


def test_init_of_another_architecture_is_refused(train, capfd: pytest.CaptureFixture) -> None:
    train("hydra.run.dir=first")
    with pytest.raises(SystemExit):
        train("init=first", "model.hidden_size=16")
    assert "model.hidden_size=8" in capfd.readouterr().err


@pytest.mark.parametrize("experiment", sorted(p.stem for p in (config_directory() / "experiment").glob("*.yaml")))
def test_every_experiment_trains_and_ends(train, tiny_spin_store: Path, experiment: str) -> None:
    settings = [f"experiment={experiment}", "debug=default", "trainer.accelerator=cpu", "hydra.run.dir=run"]
    polarised = [f"data.root={tiny_spin_store}"] if "spin" in experiment else []
    train("trainer.enable_progress_bar=false", *polarised, settings=settings)
    assert load_checkpoint("run").config == yaml.safe_load(Path("run/config.yaml").read_text())["model"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.hiden_size=8", "hiden_size"),
        ("model=schnett", "schnett"),
        ("loss=huber", "loss is one of mse, l1, got 'huber'"),
        ("data.root=nowhere", "nowhere"),
        ("trainer.max_step=3", "max_step"),
        ("model._target_=os.system", "os.system"),
        ("data=qm9 data.root=???", "data.root"),
        ("data.label=LDA", "no density is labelled 'LDA'; expected one of PBE"),
        ("data.split={test:2}", "the split has no validation structures"),
        ("data.split=nosuch.json", "nosuch.json: there is no such split file"),
        ("model.baseline=atoms", "model.baseline=atoms: expected superposition, fitted or null"),
        ("data.split={validation:1} trainer.devices=2", "1 validation structures for 2 processes"),
        ("trainer.precision=64-true", "trainer.precision=64-true: expected one of 32-true, bf16-mixed, 16-mixed"),
        ("trainer.precision=16-mixed trainer.gradient_clip_val=1", "give optimizer.fused=false"),
        ("trainer.max_steps=abc", "trainer.max_steps=abc: expected a whole number, at least 1"),
        ("trainer.max_steps=0", "trainer.max_steps=0: expected a whole number, at least 1"),
        ("trainer.val_check_interval=0", "trainer.val_check_interval=0: expected a whole number, at least 1"),
        ("trainer.max_time=10", 'as "00:08:00:00"'),
        ("optimizer.lr=abc", "the optimizer or its schedule refuses its settings"),
        ("optimizer.lr=-1 run_dir=run", "Invalid learning rate: -1"),
        ("trainer.accumulate_grad_batches=3", "trainer.val_check_interval=4 counts batches"),
        ("model.n_interactions=0", "SchNet: n_interactions must be at least 1, got 0"),
        (
            "model.gaussian_width=0",
            "the width of Gaussians is a distance in Å, at least 0.0004",
        ),
    ],
)
def test_what_is_wrong_is_one_line(train, override: str, message: str, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        train(*override.split())
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 1
    assert message in error
    assert not list(Path().rglob("*.ckpt"))
    assert not list(Path().rglob("run.json"))
    assert not Path("run/config.yaml").exists(), "the folder is free for another try"


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_gpu_that_is_not_there_is_refused(train, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        train("trainer=gpu", settings=[s for s in SMALL if s != "trainer=cpu"])
    assert "error: trainer.accelerator=gpu: torch finds no GPU here; trainer=cpu" in capfd.readouterr().err


def test_gradients_of_a_fused_optimizer_are_clipped_in_mixed_precision(train) -> None:
    mixed = ["trainer.precision=bf16-mixed", "callbacks.ema=null"]
    train("hydra.run.dir=clipped", *mixed, "trainer.gradient_clip_val=1e-12")
    train("hydra.run.dir=still", *mixed, "optimizer.lr=1e-12")
    train("hydra.run.dir=free", *mixed)

    def weights(run: str) -> dict[str, torch.Tensor]:
        return torch.load(Path(run) / "checkpoints/last.ckpt", weights_only=True)["state_dict"]

    clipped, still, free = map(weights, ("clipped", "still", "free"))
    assert max((clipped[name] - still[name]).abs().max() for name in still) < 1e-4
    assert max((free[name] - still[name]).abs().max() for name in still) > 1e-2


def test_a_scaler_leaves_out_steps_whose_gradients_are_not_finite() -> None:
    class Trainer:
        global_step = 0
        precision_plugin = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))

    module = DensityModule(Orbital(n_interactions=1), model_config={}, optimizer=torch.optim.Adam, scheduler=None)
    module._trainer = Trainer()
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    module.on_before_optimizer_step(None)
    module._trainer.precision_plugin = MixedPrecision("bf16-mixed", "cpu")
    with pytest.raises(ValueError, match="is not finite"):
        module.on_before_optimizer_step(None)


def test_several_batches_of_a_step_count_as_one(train) -> None:
    batches = ["trainer.accumulate_grad_batches=4", "trainer.val_check_interval=16", "trainer.log_every_n_steps=2"]
    train("hydra.run.dir=run", *batches, "callbacks.throughput.every=2", "trainer.max_steps=8")
    rows = metrics("run", "throughput/steps_per_second", "throughput/probes_per_second")
    assert [int(step) for step, *_ in rows] == sorted({int(step) for step, *_ in rows})
    assert len(rows) >= 2
    for _, steps, probes in rows:
        assert float(probes) == pytest.approx(4 * 2 * 50 * float(steps), rel=1e-4)


def test_a_run_that_died_while_it_wrote_its_metrics_continues(train) -> None:
    train("hydra.run.dir=run")
    before = metrics("run", "val/eps_mae", "train/loss")
    for half in ("1e-4", "1e-4,10"):
        with Path("run/metrics.csv").open("a") as file:
            file.write(half)
        train("resume=run", "trainer.max_steps=12", settings=[])
        assert metrics("run", "val/eps_mae", "train/loss")[: len(before)] == before
        assert [int(row[0]) for row in metrics("run", "val/eps_mae")] == [4, 8, 12]


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = {_run_directory(None, str(tmp_path / "runs")) for _ in range(5)}
    assert len(folders) == 5
    assert all(Path(folder).is_dir() for folder in folders)
    assert _run_directory("mine", str(tmp_path)) == "mine"


def test_several_processes_without_a_common_folder_are_refused(
    train, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        train()
    assert "several processes need one folder: give run_dir=<folder>" in capfd.readouterr().err
    assert not Path("runs").exists()


def test_memory_is_filled_again_after_a_training() -> None:
    assert torch.utils.deterministic.fill_uninitialized_memory
    with without_filling():
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_a_gradient_that_is_no_number_stops_the_run(train, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        train("hydra.run.dir=run", "optimizer.lr=1e15", "trainer.max_steps=20", "callbacks.ema=null")
    assert "is not finite; lower optimizer.lr" in capfd.readouterr().err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "kill"])
def test_an_interrupted_run_loses_no_step(train, tiny_store: Path, how: signal.Signals) -> None:
    settings = ["hydra.run.dir=run", "trainer.max_steps=100000", "trainer.val_check_interval=50", "data.num_workers=1"]
    with running(command(tiny_store, *settings), Path.cwd(), os.environ) as process:
        wait_until(Path("run/checkpoints/last.ckpt").exists, process)
        os.killpg(process.pid, how)  # as a terminal or a batch system does: to those that load data too
        _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    reported = re.search(r"interrupted; to continue: deepdft-train resume=run \(after step (\d+)\)\n", error)
    assert reported, error
    reached = int(reported[1])
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["global_step"] == reached

    steps = reached + 55
    train("resume=run", f"trainer.max_steps={steps}", "data.num_workers=0", settings=[])
    train("hydra.run.dir=whole", f"trainer.max_steps={steps}", "trainer.val_check_interval=50")
    assert same_weights("run", "whole")
    assert metrics("run", "val/eps_mae", "train/loss") == metrics("whole", "val/eps_mae", "train/loss")


class Interrupt(pl.Callback):
    """A signal within a step or the validation after it, for the process that trains or for its workers."""

    def __init__(
        self, step: int, *, which: str = "SIGINT", times: int = 1, validation: bool = False, workers: bool = False
    ) -> None:
        self.step = step
        self.times = times
        self.which = signal.Signals[which]
        self.validation = validation
        self.workers = workers

    def _send(self) -> None:
        self.step = 0  # in one step only
        for pid in descendants(os.getpid()) if self.workers else [os.getpid()] * self.times:
            os.kill(pid, self.which)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if batch_idx + 1 == self.step and not self.validation:
            self._send()

    def on_validation_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.global_step == self.step and self.validation:
            self._send()


INTERRUPT = "+callbacks.interrupt._target_=tests.cli.test_train_cli.Interrupt"


@pytest.mark.parametrize("which", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    ("asked", "stopped", "more"),
    [
        pytest.param(5, 5, [], id="a step alone"),
        pytest.param(6, 7, [], id="a step that is logged"),
        pytest.param(4, 4, [], id="a step that is validated"),
        pytest.param(4, 4, ["+callbacks.interrupt.validation=true"], id="a validation"),
        pytest.param(12, 12, [], id="the last step"),
        pytest.param(2, 2, ["trainer.val_check_interval=1"], id="steps that are all validated"),
        pytest.param(9, 5, ["trainer.accumulate_grad_batches=2"], id="half a step"),
    ],
)
def test_a_run_stops_where_nothing_is_lost(
    train, which: str, asked: int, stopped: int, more: list[str], capfd: pytest.CaptureFixture
) -> None:
    settings = ["trainer.max_steps=12", "trainer.val_check_interval=4", "trainer.log_every_n_steps=3"]
    settings += [setting for setting in more if "interrupt" not in setting]
    interrupt = [INTERRUPT, f"+callbacks.interrupt.step={asked}", f"+callbacks.interrupt.which={which}"]
    with pytest.raises(SystemExit) as ended:
        train("hydra.run.dir=run", *settings, *interrupt, *(setting for setting in more if "interrupt" in setting))
    assert ended.value.code == 130
    assert f"to continue: deepdft-train resume=run (after step {stopped})\n" in capfd.readouterr().err
    assert not Path("run/summary.json").exists()
    train("resume=run", "callbacks.interrupt=null", settings=[])
    train("hydra.run.dir=whole", *settings)
    assert same_weights("run", "whole")
    assert metrics("run", "val/eps_mae", "train/loss") == metrics("whole", "val/eps_mae", "train/loss")


def test_a_second_sigterm_does_not_end_a_run_at_once(train, capfd: pytest.CaptureFixture) -> None:
    more = ["+callbacks.interrupt.which=SIGTERM", "+callbacks.interrupt.times=2"]
    with pytest.raises(SystemExit):
        train("hydra.run.dir=run", INTERRUPT, "+callbacks.interrupt.step=3", *more)
    assert "resume=run (after step 3)\n" in capfd.readouterr().err


def test_checkpoints_do_not_pass_through_the_folder_of_temporary_files(
    train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no such folder"))
    train("run_dir=run")
    assert Path("run/checkpoints/last.ckpt").is_file()


def test_steps_of_which_each_is_logged_do_not_keep_a_run_from_stopping(train, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        train("hydra.run.dir=run", "trainer.log_every_n_steps=1", INTERRUPT, "+callbacks.interrupt.step=2")
    assert "resume=run (after step 2)\n" in capfd.readouterr().err


def test_workers_leave_ctrl_c_to_the_process_that_trains(train) -> None:
    for_workers = [INTERRUPT, "+callbacks.interrupt.step=2", "+callbacks.interrupt.workers=true"]
    train("hydra.run.dir=run", "trainer.max_steps=16", "data.num_workers=1", *for_workers)
    assert json.loads(Path("run/summary.json").read_text())["steps"] == 16


class Slow(pl.Callback):
    """Validation takes its time, and says when it has started."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        Path("validating").touch()
        time.sleep(60.0)


def test_a_second_ctrl_c_ends_a_validation(tiny_store: Path) -> None:
    slow = "+callbacks.slow._target_=tests.cli.test_train_cli.Slow"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    settings = ["hydra.run.dir=run", "trainer.num_sanity_val_steps=0", slow]
    with running(command(tiny_store, *settings), Path.cwd(), environment) as process:
        wait_until(Path("validating").exists, process)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.readline() == "stopping after this step; Ctrl-C again stops at once\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "to continue: deepdft-train resume=run (after step 0 of 4, the last state that was saved)" in error


def test_a_run_has_one_writer(train, capfd: pytest.CaptureFixture) -> None:
    train("run_dir=run")
    for arguments in (["run_dir=run"], ["resume=run"], ["run_dir=new"]):
        folder = Path(arguments[0].partition("=")[2])
        folder.mkdir(exist_ok=True)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with exclusive_lock(folder, "training"), pytest.raises(SystemExit) as stop:
            train(*arguments, "trainer.max_steps=12", settings=[] if "resume=run" in arguments else SMALL)
        assert stop.value.code == 1
        assert f"error: {folder}: training is under way there, by this process" in capfd.readouterr().err
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_auto_starts_a_run_and_resumes_it_with_the_same_command(train, capfd: pytest.CaptureFixture) -> None:
    command = ["run_dir=run", "resume=auto", "trainer.max_steps=8"]
    train(*command)
    assert json.loads(Path("run/summary.json").read_text())["steps"] == 8
    for name in ("summary.json", "checkpoints/best.ckpt"):
        (Path("run") / name).unlink()
    last = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 8
    capfd.readouterr()
    train(*command)
    assert "run after step 8\n" in capfd.readouterr().out
    train(*command)
    assert "is finished, after 8 steps" in capfd.readouterr().out
    train("run_dir=run", "resume=auto", "trainer.max_steps=12")
    train("run_dir=whole", "trainer.max_steps=12")
    assert same_weights("run", "whole")
    with pytest.raises(SystemExit):
        train("resume=auto")
    assert "error: resume=auto starts or resumes the run in one folder: give run_dir=<folder>" in capfd.readouterr().err


def test_a_new_run_has_the_settings_of_another(train, capfd: pytest.CaptureFixture) -> None:
    train("run_dir=run")
    files = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    train("from=run", "run_dir=new", "optimizer.lr=1e-3", settings=[])
    new, old = (yaml.safe_load(Path(folder, "config.yaml").read_text()) for folder in ("new", "run"))
    assert new["optimizer"].pop("lr") == 1e-3
    assert old["optimizer"].pop("lr") == 1e-2
    assert (new["from"], new["model"], new["optimizer"]) == ("run", old["model"], old["optimizer"])
    train("resume=new", "trainer.max_steps=12", settings=[])
    with pytest.raises(SystemExit):
        train("from=nowhere", settings=[])
    assert "from=nowhere: not a run directory" in capfd.readouterr().err

    with pytest.raises(SystemExit):
        train("--config-dir", "run", "--config-name", "config", settings=[])
    assert "holds a training run; resume it with resume=" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == files


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (".hydra/overrides.yaml", "- !!python/object/apply:os.system ['touch hacked']\n"),
        (".hydra/overrides.yaml", "a: b\n"),
        (".hydra/hydra.yaml", "[]\n"),
        ("config.yaml", "!!python/object/apply:os.system ['touch hacked']\n"),
        ("config.yaml", "a: [\n"),
        ("config.yaml", "[1]\n"),
        ("run.json", "[]"),
        ("split.json", '{"train": 3}'),
        ("summary.json", "{"),
    ],
)
def test_a_damaged_record_of_a_run_is_one_line(train, file: str, text: str, capfd: pytest.CaptureFixture) -> None:
    train("run_dir=run", "trainer.max_steps=1", "trainer.val_check_interval=1")
    (Path("run") / file).write_text(text)
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        train("resume=run", "trainer.max_steps=2" if file in ("run.json", "split.json") else "seed=0", settings=[])
    error = capfd.readouterr().err.strip().splitlines()
    assert stop.value.code == 1
    assert re.match(rf"error: \S*run/{file}: damaged", error[-1])
    assert not Path("hacked").exists()


def test_the_state_is_kept_by_the_clock_too(train, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    keep = CheckpointOnInterrupt._keep

    def note(self: CheckpointOnInterrupt, trainer: pl.Trainer) -> None:
        kept.append(trainer.global_step)
        keep(self, trainer)

    monkeypatch.setattr(CheckpointOnInterrupt, "_keep", note)
    train("run_dir=run", "callbacks.interruptible.minutes=1e-9", "trainer.log_every_n_steps=3")
    assert kept == [1, 2, 5, 7], "not where a row of the log or a validation comes after"


def test_a_full_disk_is_one_line_and_leaves_the_state_before(train, tiny_store: Path) -> None:
    train("run_dir=run")
    last = Path("run/checkpoints/last.ckpt")
    before = last.read_bytes()
    limited = (
        "import resource, sys; from deepdft.cli.train import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2},) * 2)\nmain()"
    )
    command = [sys.executable, "-c", limited, "resume=run", "trainer.max_steps=12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    error = done.stderr.strip().splitlines()
    assert len(error) == 1, done.stderr
    assert re.match(r"error: \S+\.ckpt: not written, file too large", error[0])
    assert last.read_bytes() == before
    assert sorted(path.name for path in last.parent.iterdir()) == ["best.ckpt", "last.ckpt"]


def two_processes(tiny_store: Path, *overrides: str) -> list[str]:
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_steps=100000"]
    return command(tiny_store, "run_dir=run", *ddp, "trainer.val_check_interval=30", *overrides)


def second_process(first: int) -> int:
    """The one that the first has started to train with it."""
    (found,) = (pid for pid in children(first) if "deepdft" in said_of(pid, "cmdline"))
    return found


def test_several_processes_keep_the_same_step(train, tiny_store: Path) -> None:
    with running(two_processes(tiny_store), Path.cwd(), os.environ) as process:
        wait_until(Path("run/checkpoints/last.ckpt").exists, process)
        os.kill(second_process(process.pid), signal.SIGTERM)
        _, error = process.communicate(timeout=300)
    assert process.returncode == 130, error
    reported = re.search(r"interrupted; to continue: deepdft-train resume=run \(after step (\d+)\)\n", error)
    assert reported, error
    last = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == int(reported[1])
    assert last["global_step"] % 30 == 0 or last["callbacks"]["CheckpointOnInterrupt"] == {"validation_due": None}


def test_a_process_that_is_lost_ends_the_others_with_a_line(tiny_store: Path) -> None:
    with running(two_processes(tiny_store), Path.cwd(), os.environ) as process:
        wait_until(Path("run/checkpoints/last.ckpt").exists, process)
        os.kill(second_process(process.pid), signal.SIGKILL)
        _, error = process.communicate(timeout=120)
    assert process.returncode not in (0, None)
    assert "error: another process of this run has ended (killed, or out of memory): deepdft-train resume=run" in error
    assert "Traceback" not in error
    assert is_free("run"), "its lock is stale"


def is_free(folder: str) -> bool:
    with exclusive_lock(folder, "training"):
        return True
