"""A spin-polarised density from CHGCAR files to a store, a model, its evaluation, and back into a CHGCAR.

The densities are sums of Gaussian atoms with known electrons and moments, so every integral on the way is known.
"""

import csv
import json
import sys

import ase
import numpy as np
import pytest

import deepdft
from deepdft.cli.predict import main as predict
from deepdft.data.convert import convert
from deepdft.density import DensityGrid, Grid

ATOMS = {"Fe": (0.7, 8.0, 3.0), "O": (0.5, 6.0, 0.2)}
"""Element → width in Å, electrons, unpaired electrons."""
ELECTRONS, MOMENT = 2 * (8.0 + 6.0), 2 * (3.0 + 0.2)
SHAPE = (20, 20, 18)


def magnetic_cell(seed):
    """Four atoms in a cell with the density and the spin density of their Gaussians."""
    generator = np.random.default_rng(seed)
    cell = np.diag([4.2, 4.3, 4.1]) * generator.uniform(0.98, 1.02)
    corners = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    atoms = ase.Atoms("FeOFeO", scaled_positions=corners, cell=cell, pbc=True)
    atoms.positions += generator.normal(0, 0.08, (4, 3))
    points = Grid(atoms, SHAPE).points()
    total, difference = np.zeros(len(points)), np.zeros(len(points))
    for symbol, position in zip(atoms.symbols, atoms.positions, strict=True):
        width, electrons, unpaired = ATOMS[symbol]
        for image in np.ndindex(3, 3, 3):
            squared = ((points - position - (np.array(image) - 1) @ cell) ** 2).sum(axis=1)
            gaussian = (2 * np.pi * width**2) ** -1.5 * np.exp(-squared / (2 * width**2))
            total += electrons * gaussian
            difference += unpaired * gaussian
    occupancies = generator.normal(size=(4, 8))
    occupancies[[1, 3], 6:] = np.nan  # O has fewer
    return DensityGrid(
        total.reshape(SHAPE),
        atoms,
        channels={"difference": difference.reshape(SHAPE)},
        atom_arrays={"occupancies": occupancies, "occupancies_difference": 0.1 * occupancies},
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Ten CHGCAR files with a spin block."""
    folder = tmp_path_factory.mktemp("spin") / "files"
    folder.mkdir()
    for i in range(10):
        deepdft.write_density(folder / f"{i}.CHGCAR", magnetic_cell(i))
    return folder


@pytest.fixture(scope="module")
def store(files):
    convert(files, files.parent / "store", split={"validation": 2, "test": 2})
    return deepdft.Store(files.parent / "store")


def test_the_store_has_the_channels_and_moments_of_the_files(store):
    assert tuple(store.channels) == ("total", "difference")
    for i in range(len(store)):
        density = store.density(i)
        seed = int(store.names[i].partition(".")[0])
        expected = magnetic_cell(seed)
        assert density.channel_names == ("total", "difference")
        np.testing.assert_allclose(density.channel("difference"), expected.channel("difference"), atol=1e-6)
        assert density.channel("difference").sum() * density.voxel_volume == pytest.approx(MOMENT, rel=1e-5)


def test_the_store_gives_the_occupancies_back_for_a_chgcar(store, tmp_path):
    deepdft.write_density(tmp_path / "CHGCAR", store.density(0))
    again, expected = deepdft.read_density(tmp_path / "CHGCAR"), magnetic_cell(int(store.names[0].partition(".")[0]))
    assert set(again.atom_arrays) == {"occupancies", "occupancies_difference"}
    for name, values in expected.atom_arrays.items():
        np.testing.assert_allclose(again.atom_arrays[name], values, rtol=1e-5)


@pytest.fixture(scope="module")
def run(store):
    overrides = [
        "data=default",
        f"data.root={store.root}",
        "model=superposition",
        "model.channels=[total,difference]",
        "optimizer.lr=1e-4",  # the fit before the first step is good already
        "trainer.max_steps=4",
        "trainer.val_check_interval=2",
        "trainer.accelerator=cpu",
        f"run_dir={store.root.parent / 'run'}",
    ]
    return deepdft.train(deepdft.compose("train", overrides))


def test_validation_measures_both_channels(run):
    last = [row for row in run.metrics if "val/eps_mae" in row][-1]
    assert float(last["val/eps_mae"]) < 0.1
    assert float(last["val/eps_mae_difference"]) < 0.1
    assert float(last["val/difference_error_per_electron"]) < float(last["val/eps_mae_difference"])


def test_the_evaluation_reports_the_moments_of_the_files(run, tmp_path):
    result = deepdft.evaluate(run, output=tmp_path / "evaluation")
    summary = json.loads((tmp_path / "evaluation" / "summary.json").read_text())
    assert summary["n_structures"] == 2
    assert summary["eps_mae_difference"]["max"] < 0.1
    assert summary["moment_error"]["max_absolute"] < 0.01
    with (tmp_path / "evaluation" / "errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row in rows:
        assert float(row["moment"]) == pytest.approx(MOMENT, rel=1e-5)
        assert float(row["absolute_moment"]) == pytest.approx(MOMENT, rel=1e-5)  # it is positive everywhere
        assert float(row["n_electrons"]) == pytest.approx(ELECTRONS, rel=1e-5)
        assert "dipole_error" not in row  # periodic
    labels = list(result.table.columns[0].cells)
    assert "ε_mae of the spin density mean" in labels
    assert "moment error mean of |…|" in labels


def test_a_prediction_is_a_spin_polarised_chgcar_with_the_moment_of_the_atoms(run, files, tmp_path, monkeypatch):
    """The structure is read from a CHGCAR; what is written is compared with the density that is in it."""
    output = tmp_path / "CHGCAR"
    arguments = [f"checkpoint={run.directory}", f"structure={files / '9.CHGCAR'}", f"output={output}"]
    monkeypatch.setattr(sys, "argv", ["deepdft-predict", *arguments, "shape=[20,20,18]", "device=cpu"])
    predict()
    assert {path.name for path in tmp_path.glob("*.png")} == {"CHGCAR.png", "CHGCAR_difference.png"}
    predicted, expected = deepdft.read_density(output), magnetic_cell(9)
    assert predicted.channel_names == ("total", "difference")
    for name, integral in (("total", ELECTRONS), ("difference", MOMENT)):
        assert predicted.channel(name).sum() * predicted.voxel_volume == pytest.approx(integral, rel=1e-3)
        assert deepdft.metrics.eps_mae(predicted.channel(name), expected.channel(name)) < 0.1


def test_points_have_a_column_for_each_channel(run):
    density = magnetic_cell(9)
    points = density.grid.points(np.arange(0, density.values.size, 7))
    found = run.predictor().predict_points(density.atoms, points)
    assert found.shape == (len(points), 2)
    np.testing.assert_allclose(found[:, 0], density.values.ravel()[::7], atol=0.01)
    np.testing.assert_allclose(found[:, 1], density.channel("difference").ravel()[::7], atol=0.01)


@pytest.mark.slow
def test_the_spin_density_is_learned_from_gradients_too(store, tmp_path):
    small = ["hidden_size=8", "n_orbitals=4", "n_radial=6", "l_max=1", "n_interactions=1"]
    overrides = [
        "data=default",
        f"data.root={store.root}",
        "model=orbital",
        "model.channels=[total,difference]",
        *(f"model.{setting}" for setting in small),
        "optimizer.lr=0.01",
        "trainer.max_steps=40",
        "trainer.val_check_interval=20",
        "trainer.accelerator=cpu",
        f"run_dir={tmp_path / 'run'}",
    ]
    run = deepdft.train(deepdft.compose("train", overrides))
    errors = [float(row["val/eps_mae_difference"]) for row in run.metrics if "val/eps_mae_difference" in row]
    assert errors[-1] < 0.9 * min(errors[0], 100.0)


def test_a_channel_that_the_data_lack_is_refused(tmp_path, store):
    plain = tmp_path / "plain"
    plain.mkdir()
    for i in range(4):
        density = magnetic_cell(i)
        deepdft.write_density(plain / f"{i}.CHGCAR", DensityGrid(density.values, density.atoms))
    convert(plain, tmp_path / "store", split={"validation": 1, "test": 1})
    overrides = ["data=default", f"data.root={tmp_path / 'store'}", "model=superposition"]
    overrides += ["model.channels=[total,difference]", "trainer.max_steps=2", f"run_dir={tmp_path / 'run'}"]
    with pytest.raises(ValueError, match="difference"):
        deepdft.train(deepdft.compose("train", overrides))
