"""deepdft-evaluate evaluation=xc_ensemble, from the command line to the files it leaves."""

import contextlib
import csv
import json
import sys

import numpy as np
import pytest
import torch
from ase.build import molecule

import deepdft
from deepdft.checkpoint import Checkpoint, build_model, save_checkpoint
from deepdft.cli.evaluate import main
from deepdft.data.index import write_index
from deepdft.data.writer import ShardWriter
from deepdft.density import DensityGrid
from deepdft.metrics import eps_mad, eps_mae

CONFIG = {"_target_": "deepdft.models.superposition.Superposition", "n_functions": 2, "smallest_exponent": 0.5}
LABELS = ("RPBE", "PBE", "LDA")
NAMES = ("H2O", "CH4", "NH3", "HF")


def write_store(root, structures, labels):
    root.mkdir()
    with ShardWriter(root, 0, labels=labels) as shard:
        for name, densities in structures.items():
            shard.add(name, {label: densities[label] for label in labels})
    write_index(root, [shard.record], labels=labels, compression={"name": "none"}, provenance={})
    (root / "split.json").write_text(json.dumps({"train": ["H2O"], "validation": [], "test": ["HF", "CH4"]}))


@pytest.fixture
def structures():
    generator = np.random.default_rng(0)
    found = {}
    for i, name in enumerate(NAMES):
        atoms = molecule(name, vacuum=2.0)
        first = generator.gamma(0.5, 0.2, (6 + i, 7, 8))
        found[name] = {}
        for label in LABELS:
            values = first * generator.uniform(0.9, 1.1, first.shape)
            values *= first.sum() / values.sum()  # functionals move electrons but do not create them
            found[name][label] = DensityGrid(values.astype(np.float32), atoms)
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch, structures):
    """A working directory with a store of three functionals and a checkpoint."""
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "tiny.ckpt", Checkpoint(build_model(CONFIG), CONFIG, pbc=False))
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "store", structures, LABELS)
    return tmp_path


@pytest.fixture
def evaluate(folder, monkeypatch, capsys):
    """Run the command; returns its output."""

    def run(*overrides):
        arguments = ["evaluation=xc_ensemble", "data.root=store", "device=cpu", *overrides]
        monkeypatch.setattr(sys, "argv", ["deepdft-evaluate", *arguments])
        main()
        return capsys.readouterr()

    return run


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def expected_spread(densities, labels=LABELS, reference="PBE"):
    return eps_mad(np.stack([densities[label].values for label in labels]), list(labels).index(reference))


def left_in(folder):
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_the_spread_of_every_structure_of_a_store(folder, structures, evaluate):
    reported = evaluate("output=results")
    table = rows(folder / "results" / "errors.csv")
    assert [row["name"] for row in table] == list(NAMES)
    for row in table:
        assert float(row["eps_mad"]) == pytest.approx(expected_spread(structures[row["name"]]), rel=1e-9)
        assert float(row["n_electrons"]) == pytest.approx(structures[row["name"]]["PBE"].n_electrons, rel=1e-9)
    summary = json.loads((folder / "results" / "summary.json").read_text())
    values = [float(row["eps_mad"]) for row in table]
    assert set(summary["eps_mad"]) == {"mean", "median", "p99", "max", "pooled"}
    assert summary["eps_mad"]["mean"] == pytest.approx(np.mean(values))
    assert summary["eps_mad"]["max"] == pytest.approx(max(values))
    assert summary["functionals"] == list(LABELS)
    assert (summary["reference"], summary["n_structures"], summary["subset"]) == ("PBE", 4, "all")
    assert (summary["evaluation"], summary["incomplete"]) == ("xc_ensemble", [])
    assert "eps_mae" not in summary
    assert f"{np.mean(values):.3f}" in reported.out
    assert left_in(folder / "results") == {"errors.csv", "summary.json", "histogram.png", "spread.png"}
    assert reported.err == ""


def test_with_a_model_both_figures_stand_in_one_table(folder, structures, evaluate):
    evaluate("output=results", "checkpoint=tiny.ckpt", "reference=RPBE", "pictures=2")
    table = rows(folder / "results" / "errors.csv")
    predictor = deepdft.Predictor.from_checkpoint("tiny.ckpt")
    below = 0
    for row in table:
        reference = structures[row["name"]]["RPBE"]
        predicted = predictor.predict_points(reference.atoms, reference.points())
        error = eps_mae(predicted, reference.values.ravel())
        spread = expected_spread(structures[row["name"]], reference="RPBE")
        assert float(row["eps_mae"]) == pytest.approx(error, rel=1e-5)
        assert float(row["eps_mad"]) == pytest.approx(spread, rel=1e-9)
        below += error < spread
    summary = json.loads((folder / "results" / "summary.json").read_text())
    assert summary["share_below_spread"] == below / len(table)
    assert summary["eps_mae"]["max"] == pytest.approx(max(float(row["eps_mae"]) for row in table))
    assert summary["checkpoint"] == "tiny.ckpt"
    pictures = {"histogram.png", "spread.png", "worst.png", "worst_2.png"}
    assert left_in(folder / "results") == {"errors.csv", "summary.json", *pictures}


def test_a_spread_alone_leaves_no_pictures_of_an_earlier_model(folder, evaluate):
    evaluate("output=results", "checkpoint=tiny.ckpt", "pictures=2")
    evaluate("output=results")
    assert left_in(folder / "results") == {"errors.csv", "summary.json", "histogram.png", "spread.png"}


def test_a_model_of_zero_error_is_below_the_spread_everywhere(folder, structures, evaluate, monkeypatch):
    """The model is made to return the reference itself."""
    import deepdft.inference.uncertainty as module

    real = module.EncodedStructure

    class Perfect(real):
        def density_on_grid(self, grid, flat, **_):
            formula = grid.atoms.numbers.tolist()
            (match,) = [d["PBE"] for d in structures.values() if d["PBE"].atoms.numbers.tolist() == formula]
            return match.values.ravel()[flat][:, None]

    monkeypatch.setattr(module, "EncodedStructure", Perfect)
    evaluate("output=results", "checkpoint=tiny.ckpt", "pictures=0")
    summary = json.loads((folder / "results" / "summary.json").read_text())
    assert summary["share_below_spread"] == 1.0
    assert summary["eps_mae"]["max"] == 0.0


@pytest.mark.parametrize(
    ("overrides", "names"),
    [(["subset=test"], ["CH4", "HF"]), (["limit=3"], list(NAMES[:3])), (["subset=test", "limit=1"], ["CH4"])],
)
def test_subset_and_limit_choose_the_structures(folder, evaluate, overrides, names):
    evaluate("output=results", *overrides)
    assert sorted(row["name"] for row in rows(folder / "results" / "errors.csv")) == sorted(names)


def test_files_and_stores_of_single_functionals_give_the_same(folder, structures, evaluate):
    specs = {"files": [], "stores": [], "folders": []}
    for label in LABELS:
        write_store(folder / f"{label}_store", {name: {"PBE": d[label]} for name, d in structures.items()}, ["PBE"])
        (folder / label).mkdir()
        for name in NAMES:
            deepdft.write_density(folder / label / f"{name}.cube", structures[name][label])
        specs["stores"].append(f"{label}={label}_store")
        specs["folders"].append(f"{label}={label}")
        specs["files"].append(f"{label}={label}/NH3.cube")
    for kind, sources in specs.items():
        evaluate(f"output={kind}", f"densities=[{','.join(sources)}]", "data.root=nowhere")
        table = {row["name"].removesuffix(".cube"): float(row["eps_mad"]) for row in rows(folder / kind / "errors.csv")}
        assert set(table) == ({"NH3"} if kind == "files" else set(NAMES))
        for name, value in table.items():
            assert value == pytest.approx(expected_spread(structures[name]), rel=1e-9 if kind == "stores" else 1e-4)
        summary = json.loads((folder / kind / "summary.json").read_text())
        assert summary["data"]["densities"] == sources


def test_an_interrupted_evaluation_does_only_the_rest(folder, evaluate, monkeypatch):
    evaluate("output=whole", "checkpoint=tiny.ckpt")
    import deepdft.runs.evaluate_ensemble as module

    real, done = module.structure_spread, []

    def failing(*args, **options):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(options["index"])
        return real(*args, **options)

    monkeypatch.setattr(module, "structure_spread", failing)
    with pytest.raises(SystemExit) as stopped:
        evaluate("output=cut", "checkpoint=tiny.ckpt")
    assert stopped.value.code == 130
    done.clear()
    monkeypatch.setattr(
        module, "structure_spread", lambda *args, **options: done.append(options["index"]) or real(*args, **options)
    )
    reported = evaluate("output=cut", "checkpoint=tiny.ckpt")
    assert "2 of 4 structures are done" in reported.out
    assert done == [2, 3]
    assert (folder / "cut" / "errors.csv").read_text() == (folder / "whole" / "errors.csv").read_text()
    assert left_in(folder / "cut") == left_in(folder / "whole")


def test_structures_that_lack_a_density_are_counted(folder, structures, evaluate):
    write_store(folder / "some", {name: {"PBE": structures[name]["LDA"]} for name in NAMES if name != "CH4"}, ["PBE"])
    reported = evaluate("densities=[PBE=store,LDA=some]", "output=results")
    assert "warning: 1 structures lack some of the densities and are left out, e.g. CH4" in reported.err
    assert json.loads((folder / "results" / "summary.json").read_text())["incomplete"] == ["CH4"]


def test_the_limit_counts_structures_that_have_all_densities(folder, structures, evaluate):
    write_store(folder / "some", {name: {"PBE": structures[name]["LDA"]} for name in NAMES if name != "CH4"}, ["PBE"])
    evaluate("densities=[PBE=store,LDA=some]", "output=results", "subset=test", "limit=1")
    assert [row["name"] for row in rows(folder / "results" / "errors.csv")] == ["HF"]


def test_figures_and_pictures_go_to_the_logger(folder, evaluate, monkeypatch):
    calls = []

    class Recorder:
        def __getattr__(self, name):
            return lambda *args, **options: calls.append((name, *args))

    import deepdft.cli.evaluate as module

    monkeypatch.setattr(module, "_wandb", lambda config: contextlib.nullcontext(Recorder()))
    evaluate("output=results", "checkpoint=tiny.ckpt", "pictures=0", "logger=wandb")
    summary = json.loads((folder / "results" / "summary.json").read_text())
    (logged,) = [call[1] for call in calls if call[0] == "log_metrics"]
    assert logged["ensemble/eps_mad_mean"] == summary["eps_mad"]["mean"]
    assert logged["ensemble/eps_mae_max"] == summary["eps_mae"]["max"]
    assert logged["ensemble/share_below_spread"] == summary["share_below_spread"]
    assert [call[1] for call in calls if call[0] == "log_image"] == ["histogram", "spread"]
    (described,) = [call[1] for call in calls if call[0] == "log_hyperparams"]
    assert described["functionals"] == list(LABELS)


def test_densities_of_different_kinds_are_warned_of(folder, structures, evaluate):
    doubled = {
        name: {"LDA": DensityGrid(density["LDA"].values * 1.5, density["LDA"].atoms)}
        for name, density in structures.items()
    }
    write_store(folder / "doubled", doubled, ["LDA"])
    reported = evaluate("densities=[PBE=store,LDA=doubled]", "output=results")
    (line,) = reported.err.splitlines()
    assert line.startswith("warning: the electron counts of the densities of 4 structures differ by more than 0.5 %")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.root=single"], "single: a spread needs at least two densities of each structure, found PBE"),
        (["data.root=nowhere"], "nowhere: no density store"),
        (["reference=B3LYP"], "reference=B3LYP: no density has this label; give reference= one of RPBE, PBE, LDA"),
        (["densities=[RPBE=store,LDA=store]"], "no density is labelled PBE; give reference= one of RPBE, LDA"),
        (["densities=[PBE=store]"], "at least two densities of each structure, found PBE"),
        (["densities=[PBE=store,PBE=single]"], "two are labelled PBE"),
        (["densities=[PBE=single,RPBE=other]"], "other: none of its structures, such as 'x', is among those of single"),
        (["densities=[PBE=single,RPBE=coarse]"], "H2O: PBE and RPBE differ in their grids"),
        (["densities=[PBE=gone.cube,RPBE=single]"], "is a store and gone.cube is not"),
        (["densities=[PBE=gone.cube,RPBE=gone]"], "gone.cube"),
        (["densities=store"], "densities=store: expected a list"),
        (["densities=[PBE=a.cube,RPBE=b.cube]", "subset=test"], "subset=test: files have no split"),
        (
            ["data.label=PBE"],
            "data.label=PBE: an ensemble takes all labels; reference= chooses the one to compare with",
        ),
        (["checkpoint=gone.ckpt"], "gone.ckpt: no such checkpoint"),
        (["subset=validation"], "the split has no validation structures"),
        (["densities=[PBE=store,LDA=single]", "subset=test"], "subset=test: none of its 2 structures has all of the"),
    ],
)
def test_a_mistake_gets_one_clear_line(folder, structures, evaluate, capsys, overrides, expected):
    water = {label: structures["H2O"][label] for label in LABELS}
    write_store(folder / "single", {"H2O": water}, ["PBE"])
    write_store(folder / "other", {"x": water}, ["PBE"])
    coarse = DensityGrid(water["PBE"].values[:-1], water["PBE"].atoms)
    write_store(folder / "coarse", {"H2O": {"RPBE": coarse}}, ["RPBE"])
    for name in ("a", "b"):
        deepdft.write_density(folder / f"{name}.cube", water["PBE"])
    with pytest.raises(SystemExit) as stopped:
        evaluate("output=results", *overrides)
    assert stopped.value.code == 1
    reported = capsys.readouterr().err
    assert "Traceback" not in reported
    (line,) = reported.splitlines()
    assert line.startswith("error: ")
    assert expected in line
