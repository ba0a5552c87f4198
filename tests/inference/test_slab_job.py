"""Predictions that continue from the slabs beside their output."""

from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from deepdft.density import DensityGrid
from deepdft.inference.box import make_box
from deepdft.inference.pieces import Pieces
from deepdft.inference.predictor import Predictor
from deepdft.io import read_density
from deepdft.runs.predict import PredictionFiles, predict_to_files

WATER = [molecule("H2O")]


@pytest.fixture
def predict(gaussians, tmp_path, monkeypatch):
    """Predicts water into a file, in slabs of 200 points; interrupted after so many of them."""
    monkeypatch.setattr("deepdft.chunks.CPU.points_in_slab_by_edges", 200)

    def run(name: str, *, slabs: int | None = None, structures=WATER, **options) -> Path:
        left = iter(range(10**9 if slabs is None else slabs))
        density = Pieces.density

        def counted(self, slab):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return density(self, slab)

        output = tmp_path / name
        files = PredictionFiles(output, "water", "gaussians", "nowhere", picture=False, **options)
        with monkeypatch.context() as patch:
            patch.setattr(Pieces, "density", counted)
            predict_to_files(Predictor(gaussians), structures, files, shape=(10, 9, 8), vacuum=2.0)
        return output

    return run


@pytest.mark.parametrize("name", ["x.h5", "x.cube", "x.CHGCAR"])
def test_an_interrupted_prediction_gives_the_same_file(predict, gaussians, name, capsys):
    with pytest.raises(KeyboardInterrupt):
        predict(name, slabs=2)
    output = predict(name)
    assert f"2 of {4 if name == 'x.CHGCAR' else 5} slabs were there" in capsys.readouterr().out
    again = output.read_bytes()
    predict(name)
    assert output.read_bytes() == again
    assert not output.with_name(f"{name}.parts").exists()
    expected: DensityGrid = Predictor(gaussians).predict(molecule("H2O"), shape=(10, 9, 8), vacuum=2.0)
    np.testing.assert_allclose(read_density(output).values, expected.values, rtol=1e-4, atol=1e-6)


def test_a_density_in_slabs_is_scaled(predict):
    assert read_density(predict("x.h5", n_electrons=8.0)).n_electrons == pytest.approx(8.0, rel=1e-5)


def test_parts_of_another_prediction_are_discarded(predict, gaussians, capsys):
    with pytest.raises(KeyboardInterrupt):
        predict("x.h5", slabs=2)
    gaussians.width.data += 0.1
    predict("x.h5")
    out = capsys.readouterr().out
    assert "other settings are discarded" in out
    assert "were there" not in out


def test_a_folder_of_something_else_is_left_alone(predict, tmp_path):
    (tmp_path / "x.h5.parts").mkdir()
    (tmp_path / "x.h5.parts" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="expected the parts of an unfinished prediction"):
        predict("x.h5")
    assert (tmp_path / "x.h5.parts" / "thesis.tex").exists()


def test_several_structures_continue_with_the_first_that_is_missing(predict, tmp_path, capsys):
    structures = [molecule(name) for name in ("H2O", "CH4", "NH3")]
    with pytest.raises(KeyboardInterrupt):
        predict("x.h5", slabs=7, structures=structures)
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == ["x_000.h5"]
    capsys.readouterr()
    predict("x.h5", structures=structures)
    out = capsys.readouterr().out
    assert "1 of 3 structures were there" in out
    assert "2 of 5 slabs were there" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x_000.h5", "x_001.h5", "x_002.h5"]
    assert make_box(structures[2], shape=(10, 9, 8), vacuum=2.0).shape == read_density(tmp_path / "x_002.h5").shape
