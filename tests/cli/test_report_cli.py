"""deepdft-report, on what the other commands leave."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from deepdft.cli import evaluate, report, train
from deepdft.data.index import write_index
from deepdft.data.store import DensityStore
from deepdft.data.writer import ShardWriter
from deepdft.density import DensityGrid

TRAIN = [
    "model=superposition",
    "trainer=cpu",
    "trainer.max_steps=4",
    "trainer.val_check_interval=2",
    "trainer.log_every_n_steps=2",
    "trainer.enable_progress_bar=false",
    "callbacks.picture=null",
    "data.num_workers=0",
]


@pytest.fixture(scope="module")
def study(tiny_store, tmp_path_factory):
    """A run, its evaluation, and an ensemble evaluation of it, by the commands themselves."""
    folder = tmp_path_factory.mktemp("study")
    store, labels = DensityStore(tiny_store), ("PBE", "LDA")
    (folder / "ensemble").mkdir()
    with ShardWriter(folder / "ensemble", 0, labels=labels) as shard:
        for name in ("C2H2", "HCN"):
            first = store.density(store.index_of(name))
            wave = 1 + 0.01 * np.sin(np.arange(first.values.size)).reshape(first.shape)
            other = DensityGrid((first.values * wave).astype(np.float32), first.atoms)
            shard.add(name, {"PBE": first, "LDA": other})
    write_index(folder / "ensemble", [shard.record], labels=labels, compression={"name": "none"}, provenance={})
    commands = [
        (train.main, [*TRAIN, f"data.root={tiny_store}", "hydra.run.dir=run"]),
        (evaluate.main, ["checkpoint=run", f"data.root={tiny_store}", "output=test", "pictures=1"]),
        (evaluate.main, ["evaluation=xc_ensemble", "checkpoint=run", "data.root=ensemble", "output=dft", "pictures=0"]),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for main, arguments in commands:
            patch.setattr(sys, "argv", ["deepdft", *arguments])
            main()
    return folder


@pytest.fixture
def run(study, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.chdir(study)
        monkeypatch.setattr(sys, "argv", ["deepdft-report", *arguments])
        report.main()
        return capsys.readouterr()

    return call


def test_a_report_compares_what_the_commands_left(study, run):
    before = set(study.iterdir())
    reported = run("run", "test", "dft", "output=out")
    assert set(study.iterdir()) - before == {study / "out"}
    assert sorted(path.name for path in (study / "out").iterdir()) == ["report.html", "report.md"]
    assert "1 training runs and 2 evaluations are compared in out/report.html" in reported.out
    assert reported.err == ""
    markdown = (study / "out" / "report.md").read_text()
    summary = json.loads((study / "test" / "summary.json").read_text())
    mean = f"{summary['eps_mae']['mean']:.3f}"
    assert f"| tiny, test | test | Superposition | 5 | 3 | 2 | {mean} |" in markdown
    spread = json.loads((study / "dft" / "summary.json").read_text())
    assert f"| PBE, LDA | PBE | 2 | {spread['eps_mad']['mean']:.3f} |" in markdown
    assert f"| dft | Superposition | dft | 2 | {100 * spread['share_below_spread']:.1f} |" in markdown
    best = json.loads((study / "run" / "summary.json").read_text())["val/eps_mae"]
    assert f"| 4 | {best:.3f} |" in markdown
    page = (study / "out" / "report.html").read_text()
    assert page.count('src="data:image/png') == 2  # worst.png and spread.png
    assert page.count('src="data:image/svg+xml') == 2


def test_a_folder_of_runs_a_title_and_names(study, run):
    run(".", "output=all", "title=Three", "names=[first,second,third]", "worst=1")
    markdown = (study / "all" / "report.md").read_text()
    assert markdown.startswith("# Three\n")
    for name in ("first", "second", "third"):
        assert name in markdown


def test_runs_of_a_study_at_several_levels_are_all_compared(study, run, tmp_path):
    for name in ("train/a", "sweep/2026-01-31/0", "sweep/2026-01-31/1"):
        shutil.copytree(study / "run", tmp_path / "runs" / name)
    reported = run(str(tmp_path / "runs"), f"output={tmp_path / 'out'}")
    assert "3 training runs and 0 evaluations" in reported.out
    assert reported.err == ""


def test_what_failed_is_left_out_aloud(study, run):
    reported = run("ensemble", "run", "output=some")
    assert "1 training runs and 0 evaluations" in reported.out
    (line,) = reported.err.splitlines()
    assert line.startswith("warning: left out: ensemble: neither a training run")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "runs are required"),
        (["gone"], "gone: there is no such run directory or evaluation"),
        (["ensemble"], "ensemble: neither a training run"),
        (["run", "names=[a,b]"], "expected 1 different ones"),
        (["run", "names=a"], "names=a: expected a list"),
        (["run", "worst=-1"], "worst=-1: a number of structures"),
        (["run", "worse=1"], "worse"),
    ],
)
def test_a_mistake_gets_one_clear_line(study, run, capsys, arguments, expected):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments, "output=refused")
    assert stopped.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert not Path("refused").exists()
