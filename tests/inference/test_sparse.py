"""Densities at points of a file, above a threshold, and in a part of a structure."""

import csv

import h5py
import numpy as np
import pytest
from ase.build import bulk, molecule

from deepdft.inference.box import make_box, make_region
from deepdft.inference.predictor import Predictor
from deepdft.inference.sparse import read_points
from deepdft.io import read_density
from deepdft.runs.predict import PredictionFiles, predict_to_files
from deepdft.runs.predict_points import points_above_to_file, points_to_file

NAMES = {"source": "water", "checkpoint": "nowhere"}


def read(path):
    """Points (n, 3) and densities (n,) of a file."""
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            assert "predicted by nowhere" in file.attrs["comment"]
            return file["points"][()], file["values"][:, 0]
    with path.open() as file:
        assert "predicted by nowhere" in next(file)
        rows = list(csv.reader(file))
    assert rows[0] == ["x (Å)", "y (Å)", "z (Å)", "total (e/Å³)"]
    numbers = np.array(rows[1:], dtype=float).reshape(-1, 4)
    return numbers[:, :3], numbers[:, 3]


@pytest.mark.parametrize("given", ["p.npy", "p.csv", "with_header.csv"])
@pytest.mark.parametrize("output", ["x.csv", "x.h5"])
def test_points_of_a_file_have_the_density_there(gaussians, tmp_path, given, output):
    points = np.random.default_rng(0).uniform(-2, 2, (40, 3))
    if given == "p.npy":
        np.save(tmp_path / given, points)
    else:
        np.savetxt(tmp_path / given, points, delimiter=",", header="x,y,z" if "header" in given else "", comments="")
    predictor = Predictor(gaussians)
    points_to_file(predictor, [molecule("H2O")], tmp_path / given, tmp_path / output, **NAMES)
    found, values = read(tmp_path / output)
    np.testing.assert_allclose(found, points, rtol=1e-6)
    np.testing.assert_allclose(values, predictor.predict_points(molecule("H2O"), points), rtol=1e-6)
    points_to_file(predictor, [molecule("H2O")], tmp_path / given, tmp_path / output, **NAMES)  # over a prediction


@pytest.mark.parametrize("text", ["1,2\n", "1,2,x\n", "1,2,nan\n", "x,y\n1,2\n", "\x00\xff"])
def test_files_without_points_are_refused(tmp_path, text):
    path = tmp_path / "p.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"expected a .npy array \(n, 3\), or a .csv with x,y,z"):
        read_points(path)


def test_foreign_files_and_other_formats_are_refused(gaussians, tmp_path):
    np.save(tmp_path / "p.npy", np.zeros((1, 3)))
    (tmp_path / "results.csv").write_text("a,b\n")
    for output, message in (("results.csv", "not a prediction"), ("x.cube", "x.csv or x.h5")):
        with pytest.raises(ValueError, match=message):
            points_to_file(Predictor(gaussians), [molecule("H2O")], tmp_path / "p.npy", tmp_path / output, **NAMES)


def test_points_above_a_threshold_are_those_of_the_grid(gaussians, tmp_path):
    predictor, box = Predictor(gaussians), make_box(molecule("H2O"), spacing=0.4)
    points_above_to_file(predictor, [box], 0.5, tmp_path / "x.h5", **NAMES)
    found, values = read(tmp_path / "x.h5")
    whole = predictor.predict_box(box).values.ravel()
    assert 0 < (whole > 0.5).sum() < whole.size
    np.testing.assert_allclose(values, whole[whole > 0.5], rtol=1e-6)
    np.testing.assert_allclose(found, box.points()[whole > 0.5])


@pytest.mark.parametrize("bounds", [[[0, 3], [1, 2], [-1, 4]], [[0, 3], [1.5, 1.5], [-1, 4]]], ids=["box", "plane"])
@pytest.mark.parametrize("periodic", [True, False])
def test_a_region_has_the_density_of_the_whole_structure(gaussians, tmp_path, bounds, periodic, monkeypatch):
    monkeypatch.setattr("deepdft.chunks.CPU.points_in_slab_by_edges", 100)
    atoms = bulk("NaCl", "rocksalt", a=5.6) if periodic else molecule("CH3OH")
    files = PredictionFiles(tmp_path / "x.cube", "it", "gaussians", "nowhere")
    predict_to_files(Predictor(gaussians), [atoms], files, spacing=0.5, region=bounds)
    density = read_density(tmp_path / "x.cube")
    box = make_region(atoms, bounds, spacing=0.5)
    assert density.shape == box.shape
    assert (box.shape[1] == 1) == (bounds[1][0] == bounds[1][1])
    expected = Predictor(gaussians).predict_points(atoms, box.points())
    np.testing.assert_allclose(density.values.ravel(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(density.origin, np.array(bounds, dtype=float)[:, 0], atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.cube"]


@pytest.mark.parametrize("bounds", [[[0, 1], [0, 1]], [[1, 0], [0, 1], [0, 1]], [[0, 0], [1, 1], [0, 1]], "plane"])
def test_what_is_no_region_is_refused(bounds):
    with pytest.raises(ValueError, match="region="):
        make_region(molecule("H2O"), bounds, spacing=0.5)
