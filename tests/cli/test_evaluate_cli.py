"""deepdft-evaluate, from the command line to the files it leaves."""

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule

from deepdft.checkpoint import Checkpoint, build_model, save_checkpoint
from deepdft.cli.evaluate import main
from deepdft.data.index import write_index
from deepdft.data.records import read_record
from deepdft.data.writer import ShardWriter
from deepdft.density import DensityGrid
from deepdft.inference.predictor import Predictor

CONFIG = {"_target_": "deepdft.models.schnet.SchNet", "hidden_size": 8, "n_interactions": 2, "cutoff": 3.0}
MOLECULES = ("H2O", "CH4", "NH3", "HF", "N2", "H2")
SPLIT = {"train": ["H2O"], "validation": ["CH4"], "test": ["H2", "NH3", "HF", "N2"]}


def write_store(root):
    """A store of random densities in periodic boxes; returns name → (structure, values)."""
    generator = np.random.default_rng(0)
    written = {}
    with ShardWriter(root, 0) as shard:
        for i, name in enumerate(MOLECULES):
            atoms = molecule(name, vacuum=2.0, pbc=True)
            values = generator.gamma(0.5, 0.2, (6 + i, 7, 8)).astype(np.float32)
            shard.add(name, DensityGrid(values, atoms))
            written[name] = (atoms, values)
    write_index(root, [read_record(root, 0)], labels=["PBE"], compression={"name": "none"}, provenance={})
    (root / "split.json").write_text(json.dumps(SPLIT))
    return written


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a store and the random checkpoint of a model that ignores periodicity."""
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "tiny.ckpt", Checkpoint(build_model(CONFIG), CONFIG, pbc=False))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def densities(folder):
    return write_store(folder / "store")


OVERRIDES = ["checkpoint=tiny.ckpt", "data=qm9", "data.root=store", "device=cpu"]


@pytest.fixture
def evaluate(densities, monkeypatch, capsys):
    """Run the command; returns its output."""

    def run(*overrides):
        monkeypatch.setattr(sys, "argv", ["deepdft-evaluate", *OVERRIDES, *overrides])
        main()
        return capsys.readouterr().out

    return run


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def expected_error(structure, values):
    """ε_mae written out, with the density from the Predictor."""
    atoms = structure.copy()
    atoms.pbc = False
    predicted = Predictor.from_checkpoint("tiny.ckpt").predict_points(
        atoms, np.stack(np.unravel_index(np.arange(values.size), values.shape), 1) / values.shape @ atoms.cell.array
    )
    reference = values.ravel().astype(np.float64)
    return 100 * np.abs(predicted.astype(np.float64) - reference).sum() / reference.sum()


def test_an_evaluation_leaves_table_summary_and_pictures(folder, densities, evaluate):
    reported = evaluate("output=results")
    table = rows(folder / "results" / "errors.csv")
    assert [row["name"] for row in table] == SPLIT["test"]
    for row in table:
        assert float(row["eps_mae"]) == pytest.approx(expected_error(*densities[row["name"]]), rel=1e-6)
    summary = json.loads((folder / "results" / "summary.json").read_text())
    errors = [float(row["eps_mae"]) for row in table]
    assert summary["eps_mae"]["mean"] == pytest.approx(np.mean(errors))
    assert summary["eps_mae"]["max"] == pytest.approx(max(errors))
    assert set(summary["eps_mae"]) == {"mean", "median", "p99", "max", "pooled"}
    assert (summary["n_structures"], summary["subset"], summary["checkpoint"]) == (4, "test", "tiny.ckpt")
    assert summary["pbc"] is False  # that of the checkpoint
    assert f"{np.mean(errors):.3f}" in reported
    left = {path.name for path in (folder / "results").iterdir() if not path.name.startswith(".")}
    assert left == {"errors.csv", "summary.json", "histogram.png", "worst.png", "worst_2.png", "worst_3.png"}


@pytest.mark.parametrize("group", ["qm9", "nmc"])  # the first of which trains with periodic boundaries ignored
def test_periodic_boundaries_are_those_the_model_was_trained_with(folder, evaluate, group):
    for name, trained in (("stored", None), ("ignored", False)):
        torch.save(torch.load("tiny.ckpt", weights_only=True) | {"pbc": trained}, f"{name}.ckpt")
        reported = evaluate(f"checkpoint={name}.ckpt", f"data={group}", f"output={name}")
        assert f"periodic boundaries {'as stored' if trained is None else name} (as the model was trained)" in reported
        assert json.loads((folder / name / "summary.json").read_text())["pbc"] is trained
    reported = evaluate("checkpoint=ignored.ckpt", f"data={group}", "output=forced", "pbc=true")
    assert "periodic boundaries forced on (ignored when the model was trained)" in reported
    stored, ignored, forced = (rows(folder / name / "errors.csv") for name in ("stored", "ignored", "forced"))
    assert [row["eps_mae"] for row in stored] == [
        row["eps_mae"] for row in forced
    ]  # all structures of the store are periodic
    assert all(a["eps_mae"] != b["eps_mae"] for a, b in zip(stored, ignored, strict=True))


@pytest.mark.parametrize(
    ("overrides", "names"),
    [(["subset=validation"], ["CH4"]), (["subset=all"], list(MOLECULES)), (["limit=2"], ["H2", "NH3"])],
)
def test_subset_and_limit_choose_the_structures(folder, evaluate, overrides, names):
    evaluate("output=results", *overrides)
    assert [row["name"] for row in rows(folder / "results" / "errors.csv")] == names


def test_so_many_of_the_worst_structures_are_drawn_as_asked(folder, evaluate):
    for count, names in ((0, set()), (1, {"worst.png"}), (9, {"worst.png", "worst_2.png"})):
        evaluate(f"output=results{count}", f"pictures={count}", "limit=2")
        assert {path.name for path in (folder / f"results{count}").glob("worst*")} == names


def test_pictures_of_an_earlier_evaluation_are_not_left_beside_the_new_ones(folder, evaluate):
    evaluate("output=results", "pictures=3")
    other = ["worst_case.png", "worst_01.png", "worst_1.png", "my_worst.png", "worst_2.png.txt"]
    for name in other:
        (folder / "results" / name).touch()
    for count, names in ((2, ["worst.png", "worst_2.png"]), (0, [])):
        evaluate("output=results", f"pictures={count}")
        assert sorted(path.name for path in (folder / "results").glob("*worst*")) == sorted([*names, *other])


def test_without_output_a_new_folder_is_made_for_each_evaluation(folder, evaluate):
    reported = [evaluate("limit=1"), evaluate("limit=1")]
    folders = sorted((folder / "runs" / "evaluate").iterdir())
    assert len(folders) == 2
    assert all(re.search(r"runs/evaluate/\d{4}-", text) for text in reported)


def test_an_interrupted_evaluation_does_only_the_rest(folder, evaluate, monkeypatch):
    evaluate("output=whole")
    import deepdft.evaluation.errors as module

    real, done = module.structure_errors, []

    def failing(*args, **options):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(options["name"])
        return real(*args, **options)

    monkeypatch.setattr(module, "structure_errors", failing)
    with pytest.raises(SystemExit) as stopped:
        evaluate("output=cut")
    assert stopped.value.code == 130
    assert not (folder / "cut" / "errors.csv").exists()
    shutil.copytree("cut", "cut_2")
    monkeypatch.setattr(
        module, "structure_errors", lambda *args, **options: done.append(options["name"]) or real(*args, **options)
    )
    done.clear()
    evaluate("output=cut_2", "matmul_precision=medium")
    assert len(done) == 4, "rows of another precision are not gone on with"
    done.clear()
    reported = evaluate("output=cut")
    assert "2 of 4 structures are done" in reported
    assert done == ["HF", "N2"]
    assert (folder / "cut" / "errors.csv").read_text() == (folder / "whole" / "errors.csv").read_text()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["evaluation=spread"], "evaluation=spread: expected errors or xc_ensemble"),
        (["subset=tests"], "subset=tests: expected one of train, validation, test, all"),
        (["limit=0"], "limit=0"),
        (
            ["densities=[PBE=x.cube]"],
            "densities= belongs to evaluation=xc_ensemble; for the errors of a model",
        ),
        (["limit=abc"], "limit=abc: expected a whole number"),
        (["pictures=1.5"], "pictures=1.5: expected a whole number"),
        (["checkpoint=null"], "checkpoint="),
        (["checkpoint=gone.ckpt"], "gone.ckpt: no such checkpoint"),
        (["data.root=nowhere"], "nowhere: no density store"),
        (["data.label=LDA"], "'LDA'"),
        (["device=quantum"], "device=quantum"),
        (["data.pbc=true"], "data.pbc is a setting of training"),
        (["seed=1"], "there is no option 'seed'"),
        (["pbc=xyz"], "pbc=xyz: expected null (as the model was trained), true or false"),
    ],
)
def test_a_mistake_gets_one_clear_line(evaluate, capsys, overrides, expected):
    with pytest.raises(SystemExit) as stopped:
        evaluate("output=results", *overrides)
    assert stopped.value.code == 1
    reported = capsys.readouterr().err
    assert "Traceback" not in reported
    (line,) = [line for line in reported.splitlines() if line.startswith("error: ")]
    assert expected in line


def test_an_evaluation_does_not_go_into_the_folder_of_a_training(folder, evaluate, capsys):
    (folder / "run").mkdir()
    (folder / "run" / "metrics.csv").write_text("step\n")
    (folder / "run" / "summary.json").write_text("{}")
    for name in ("output", "run_dir", "hydra.run.dir"):
        with pytest.raises(SystemExit):
            evaluate(f"{name}=run")
        assert "run: holds a training run; give another output" in capsys.readouterr().err
    assert sorted(path.name for path in (folder / "run").iterdir()) == ["metrics.csv", "summary.json"]


def test_structures_and_elements_of_the_training_are_told_apart(folder, evaluate, monkeypatch, capsys):
    run = folder / "run"
    (run / "checkpoints").mkdir(parents=True)
    model = build_model(CONFIG)
    save_checkpoint(run / "checkpoints" / "best.ckpt", Checkpoint(model, CONFIG, info={"elements": [1, 7, 9]}))
    (run / "split.json").write_text(json.dumps({"train": ["HF", "O2"], "validation": [], "test": []}))

    def warnings(*overrides):
        monkeypatch.setattr(sys, "argv", ["deepdft-evaluate", *OVERRIDES, "checkpoint=run", "pictures=0", *overrides])
        main()
        lines = re.findall("warning: (.*)", capsys.readouterr().err)
        assert lines[-1].startswith("the predicted number of electrons differs by more than 1 %")  # of random weights
        return lines[:-1]

    assert warnings("output=test") == ["the model was trained on 1 of these 4 structures, e.g. HF"]
    assert warnings("output=all", "subset=all") == [
        "the model was trained on 1 of these 6 structures, e.g. HF",
        "the model has not been trained on C, O, which these structures contain",
    ]
    assert warnings("output=train", "subset=train")[-1].startswith("the model has not been trained on O")
    (run / "split.json").unlink()
    assert warnings("output=unknown") == []


def test_several_processes_need_a_common_folder(evaluate, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        evaluate()
    assert "output=" in capsys.readouterr().err


def test_two_processes_count_every_structure_once(folder, evaluate):
    evaluate("output=alone", "subset=all")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-m", "deepdft.cli.evaluate", *OVERRIDES, "output=shared", "subset=all"]
    processes = [
        subprocess.Popen(command, env=environment | {"RANK": rank, "LOCAL_RANK": rank}, stdout=subprocess.DEVNULL)
        for rank in "01"
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert (folder / "shared" / "errors.csv").read_text() == (folder / "alone" / "errors.csv").read_text()
    assert json.loads((folder / "shared" / "summary.json").read_text())["processes"] == 2


@pytest.mark.filterwarnings("ignore")  # of wandb's own
def test_wandb_gets_summary_table_and_pictures_offline(folder, densities):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "WANDB_SILENT": "true"}
    command = [sys.executable, "-m", "deepdft.cli.evaluate", *OVERRIDES, "output=results", "logger=wandb", "limit=2"]
    subprocess.run(command, env=environment, check=True, timeout=120, capture_output=True)
    (run,) = (folder / "results" / "wandb").glob("offline-run-*")
    media = sorted(path.name.split("_")[0] for path in (run / "files" / "media").rglob("*.*"))
    assert media == ["errors", "histogram", "worst", "worst"]


def test_free_atoms_are_evaluated_without_training(evaluate, folder):
    evaluate("checkpoint=free_atoms", "output=out", "pictures=0")
    summary = json.loads((folder / "out/summary.json").read_text())
    assert summary["model"] == "FreeAtoms"
    assert summary["checkpoint"] == "free_atoms"
    assert summary["checkpoint_file"] is None
    assert summary["n_structures"] == 4
