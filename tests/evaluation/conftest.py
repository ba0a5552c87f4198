"""Folders like those that the commands make, written by hand."""

import json

import pytest

from deepdft.evaluation.run_folders import find_runs
from deepdft.evaluation.runs import read_runs


def training_folder(
    folder, errors=(30.0, 10.0, 12.0), model="deepdft.models.schnet.SchNet", *, finished=True, **config
):
    """A run directory as deepdft-train leaves it, validated every 100 steps."""
    folder.mkdir(parents=True)
    content = {"model": {"_target_": model, "hidden_size": 8}, "run_dir": str(folder), **config}
    (folder / "config.yaml").write_text(json.dumps(content))
    lines = ["step,train/loss,val/eps_mae", "50,0.5,"]
    lines += [f"{100 * (i + 1)},,{error}" for i, error in enumerate(errors)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    (folder / "split.json").write_text(json.dumps({"train": ["a"] * 5, "validation": ["b"] * 2, "test": ["c"]}))
    (folder / "run.json").write_text(json.dumps({"n_parameters": 123, "command": ["deepdft-train", "x=1"]}))
    if finished:
        (folder / "summary.json").write_text(json.dumps({"val/eps_mae": min(errors, default=None), "seconds": 1800.0}))
    return folder


def evaluation_folder(folder, errors=None, spreads=None, **summary):
    """An output folder as deepdft-evaluate leaves it; name → eps_mae, name → eps_mad in %."""
    folder.mkdir(parents=True)
    columns = {"eps_mad": spreads, "eps_mae": errors}
    given = {column: values for column, values in columns.items() if values is not None}
    names = list(next(iter(given.values())))
    lines = [",".join(["name", "formula", "n_electrons", *given])]
    lines += [",".join([name, "H2O", "8.0", *(str(values[name]) for values in given.values())]) for name in names]
    (folder / "errors.csv").write_text("\n".join(lines) + "\n")
    content = {"n_structures": len(names), "subset": "test", "data": {"root": "/data/qm9", "fingerprint": "f"}}
    for column, values in given.items():
        numbers = sorted(values.values())
        mean = sum(numbers) / len(numbers)
        content[column] = {"mean": mean, "median": mean, "p99": numbers[-1], "max": numbers[-1], "pooled": mean}
    if spreads is not None:
        content |= {"functionals": ["PBE", "LDA"], "reference": "PBE", "widest": max(spreads, key=spreads.get)}
    (folder / "summary.json").write_text(json.dumps(content | summary))
    return folder


@pytest.fixture
def write_training():
    return training_folder


@pytest.fixture
def write_evaluation():
    return evaluation_folder


@pytest.fixture
def read():
    """Trainings and evaluations at or below some paths."""

    def read_all(paths, names=None):
        folders, problems = find_runs(paths)
        assert problems == []
        runs = read_runs(folders, names)
        assert runs.problems == []
        return runs.trainings, runs.evaluations

    return read_all
