"""Folders of runs and evaluations are read back; other folders are refused."""

import math
import os
import re

import pytest

from deepdft.evaluation.run_folders import MAX_DEPTH, find_runs
from deepdft.evaluation.runs import read_runs


def test_a_training_run_is_read(tmp_path, write_training, read):
    ((run,), evaluations) = read([write_training(tmp_path / "schnet")])
    assert evaluations == []
    assert (run.name, run.model, run.steps, run.best) == ("schnet", "SchNet", 300, 10.0)
    assert run.curve() == ([100, 200, 300], [30.0, 10.0, 12.0])
    assert run.split == {"train": 5, "validation": 2, "test": 1}
    assert run.run["n_parameters"] == 123
    assert run.summary["seconds"] == 1800.0


def test_a_run_that_is_not_finished_is_read_too(tmp_path, write_training, read):
    folder = write_training(tmp_path / "a", errors=(), finished=False)
    for name in ("split.json", "run.json"):
        (folder / name).unlink()
    ((run,), _) = read([folder])
    assert math.isnan(run.best)
    assert (run.steps, run.split, run.run, run.summary) == (50, {}, {}, {})


def test_an_evaluation_is_read(tmp_path, write_evaluation, read):
    (_, (run,)) = read([write_evaluation(tmp_path / "e", {"a": 1.0, "b": 3.0, "c": 2.0})])
    assert (run.name, run.data) == ("e", "qm9, test")
    assert run.values("eps_mae") == {"a": 1.0, "b": 3.0, "c": 2.0}
    assert run.values("eps_mad") == {}
    assert [row["name"] for row in run.worst(2)] == ["b", "c"]
    (_, (files,)) = read(
        [write_evaluation(tmp_path / "x", None, {"a": 0.5}, subset="all", data={"densities": ["PBE=a", "LDA=b"]})]
    )
    assert files.data == "files"
    assert [row["name"] for row in files.worst(5)] == ["a"]


def test_an_evaluation_knows_the_run_its_model_came_from(tmp_path, monkeypatch, write_training, write_evaluation, read):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "ab"):
        write_training(tmp_path / "runs" / name)
    checkpoints = {
        "of_run": {"checkpoint": "runs/a"},
        "of_file": {"checkpoint": "gone", "checkpoint_file": str(tmp_path / "runs/a/checkpoints/best.ckpt")},
        "of_other": {"checkpoint": "runs/ab"},
        "of_none": {},
    }
    for name, summary in checkpoints.items():
        write_evaluation(tmp_path / "eval" / name, {"x": 1.0}, **summary)
    trainings, evaluations = read([tmp_path / "runs", tmp_path / "eval"])
    first = next(run for run in trainings if run.name == "a")
    assert {run.name for run in evaluations if run.is_of(first)} == {"of_run", "of_file"}


def test_runs_in_folders_are_found_once_and_named_apart(tmp_path, write_training, write_evaluation, read):
    for study in ("first", "second"):
        for job in ("0", "1"):
            write_training(tmp_path / study / job)
    write_evaluation(tmp_path / "first" / "evaluate", {"a": 1.0})
    trainings, evaluations = read([tmp_path / "first", tmp_path / "second", tmp_path / "second" / "1"])
    assert [run.name for run in trainings] == ["first/0", "first/1", "second/0", "second/1"]
    assert [run.name for run in evaluations] == ["first/evaluate"]


@pytest.mark.parametrize(
    "names",
    [
        ["schnet", "sweep/0", "sweep/1"],
        ["train/a", "sweep/2026-01-31/0", "sweep/2026-01-31/1"],
        ["sweep/2026-01-31/0"],
        ["runs/train/a", "runs/sweep/2026-01-31/0"],
    ],
)
def test_runs_are_found_at_whatever_levels_they_lie(tmp_path, write_training, write_evaluation, names):
    trainings = [write_training(tmp_path / name) for name in names]
    evaluation = write_evaluation(tmp_path / "evaluate" / "a", {"x": 1.0})
    folders, problems = find_runs([tmp_path])
    assert folders == sorted([*trainings, evaluation])
    assert problems == []


def test_the_deepest_runs_lie_so_many_levels_below_a_folder(tmp_path, write_training):
    run = write_training(tmp_path.joinpath(*map(str, range(MAX_DEPTH + 1))))
    assert find_runs([tmp_path / "0"])[0] == [run]
    with pytest.raises(ValueError, match=f"no such folders in it, down to {MAX_DEPTH} levels"):
        find_runs([tmp_path])


def test_what_lies_within_a_run_belongs_to_it_and_is_not_looked_through(
    tmp_path, monkeypatch, write_training, write_evaluation
):
    run = write_training(tmp_path / "study" / "run")
    inside = write_evaluation(run / "evaluate", {"a": 1.0})
    write_training(tmp_path / "study" / ".trash" / "old")
    (run / "checkpoints").mkdir()
    looked_into, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked_into.append(os.fspath(path)) or scandir(path))
    assert find_runs([tmp_path])[0] == [run]
    assert looked_into == [str(tmp_path), str(tmp_path / "study"), str(run)]
    assert find_runs([run])[0] == [run]
    assert find_runs([run, inside])[0] == [run, inside]
    assert find_runs([tmp_path / "study" / ".trash"])[0] == [tmp_path / "study" / ".trash" / "old"]


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch, write_training):
    run = write_training(tmp_path / "run")
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def locked(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    folders, (problem,) = find_runs([tmp_path])
    assert folders == [run]
    assert problem.startswith(f"{tmp_path / 'locked'}: Permission denied; ")
    with pytest.raises(ValueError, match="locked: Permission denied"):
        find_runs([tmp_path / "locked"])


def test_runs_are_called_as_asked(tmp_path, write_training, write_evaluation, read):
    paths = [write_training(tmp_path / "a"), write_evaluation(tmp_path / "b", {"x": 1.0})]
    trainings, evaluations = read(paths, ["SchNet", "SchNet, test"])
    assert (trainings[0].name, evaluations[0].name) == ("SchNet", "SchNet, test")
    for names in (["SchNet"], ["SchNet", "SchNet"]):
        with pytest.raises(ValueError, match=r"names=\['SchNet'.*expected 2 different ones"):
            read(paths, names)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone: there is no such run"):
        find_runs([tmp_path / "gone"])
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"empty: neither a training run .* nor an evaluation"):
        find_runs([tmp_path / "empty"])
    (tmp_path / "empty" / "eps_mae.0.part").touch()
    with pytest.raises(ValueError, match=r"empty: this evaluation is not finished"):
        find_runs([tmp_path / "empty"])
    with pytest.raises(ValueError, match="no runs are given"):
        find_runs([])


def test_what_is_no_run_among_others_is_left_out_and_told(tmp_path, write_training):
    write_training(tmp_path / "run")
    (tmp_path / "failed" / ".hydra").mkdir(parents=True)
    folders, (problem,) = find_runs([tmp_path / "failed", tmp_path / "run"])
    assert folders == [tmp_path / "run"]
    assert problem.startswith(f"{tmp_path / 'failed'}: neither a training run")


DAMAGED_EVALUATIONS = [
    ("summary.json", "{", r"summary\.json: damaged, not JSON"),
    ("summary.json", "[]", r"summary\.json: damaged: expected an object, got a list"),
    ("summary.json", "\udcff", r"summary\.json: damaged, not JSON"),
    ("summary.json", '{"n_structures": 1}', "neither eps_mae nor eps_mad"),
    ("summary.json", '{"n_structures": 1, "eps_mae": 3.0}', "eps_mae lacks a number for mean"),
    ("summary.json", '{"n_structures": 1, "eps_mae": {"mean": "low"}}', "eps_mae lacks a number for mean"),
    ("errors.csv", "name,formula,eps_mae\n", r"errors\.csv: 0 structures, but summary\.json says 1"),
    (
        "errors.csv",
        "name,formula,eps_mae\na,H2O,low\n",
        r"errors\.csv: damaged: could not convert string to float",
    ),
    ("errors.csv", "name,formula\na,H2O\n", r"errors\.csv: damaged: a row has no eps_mae"),
    ("errors.csv", "\udcff", r"errors\.csv: damaged: 'utf-8' codec"),
]
DAMAGED_TRAININGS = [
    ("config.yaml", "- a", r"config\.yaml: damaged, not the config of a training run"),
    ("config.yaml", "a: [", r"config\.yaml: damaged, not a config"),
    ("config.yaml", "a: !!python/object/apply:os.system [echo]", r"config\.yaml: damaged, not a config"),
    ("config.yaml", "model: 3", r"config\.yaml: damaged, not the config of a training run"),
    ("metrics.csv", "a,b\n1,2\n", r"metrics\.csv: damaged: a row has no step"),
    ("metrics.csv", "step,val/eps_mae\nx,2\n", r"metrics\.csv: damaged: invalid literal"),
    ("metrics.csv", "\udcff\n", r"metrics\.csv: damaged: 'utf-8' codec"),
    ("run.json", "[1]", r"run\.json: damaged: expected an object"),
    ("run.json", '{"command": 7}', r"run\.json: damaged: command is not a list of words"),
    ("split.json", '{"train": 7}', r"split\.json: damaged: entry 'train' is not a list"),
    ("summary.json", '{"seconds": "long"}', r"summary\.json: damaged: seconds is 'long'"),
]


def write_damaged(file, content):
    file.write_bytes(content.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(
    ("kind", "file", "content", "expected"),
    [("evaluation", *case) for case in DAMAGED_EVALUATIONS] + [("training", *case) for case in DAMAGED_TRAININGS],
)
def test_a_damaged_folder_is_left_out_in_one_line_with_its_file(
    tmp_path, kind, file, content, expected, write_training, write_evaluation
):
    good, damaged = write_evaluation(tmp_path / "good", {"a": 1.0}), tmp_path / "damaged"
    if kind == "evaluation":
        write_evaluation(damaged, {"a": 1.0})
    else:
        write_training(damaged)
    write_damaged(damaged / file, content)
    runs = read_runs([good, damaged])
    assert [run.name for run in runs.evaluations] == ["good"]
    (problem,) = runs.problems
    assert re.search(expected, problem)
    assert problem.startswith(str(damaged))
    assert "\n" not in problem
    with pytest.raises(ValueError, match=expected):
        read_runs([damaged])
