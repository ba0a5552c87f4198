"""deepdft-predict, from the command line to the files it leaves."""

import re
import sys

import h5py
import numpy as np
import pytest
import torch
from ase.build import bulk, fcc111, molecule
from ase.calculators.vasp import VaspChargeDensity
from ase.io import write
from ase.io.cube import read_cube
from ase.units import Bohr
from scipy.integrate import quad

from deepdft.checkpoint import Checkpoint, build_model, load_checkpoint, save_checkpoint
from deepdft.cli.predict import main
from deepdft.density import DensityGrid
from deepdft.files import exclusive_lock
from deepdft.inference.predictor import Predictor
from deepdft.io import read_density, write_density

KNOWN = "checkpoint=free_atoms, the sum of isolated atoms, knows 83 elements"
CONFIG = {"_target_": "deepdft.models.schnet.SchNet", "hidden_size": 8, "n_interactions": 2, "cutoff": 3.0}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a random checkpoint and a few structures."""
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "tiny.ckpt", Checkpoint(build_model(CONFIG), CONFIG, info={"elements": [1, 8, 13]}))
    write(tmp_path / "water.xyz", molecule("H2O"))
    write(tmp_path / "frames.xyz", [molecule("H2O"), molecule("H2"), molecule("O2")])
    write(tmp_path / "POSCAR", bulk("Al"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def predict(folder, monkeypatch, capsys):
    """Run the command; returns its output."""

    def run(*overrides):
        monkeypatch.setattr(sys, "argv", ["deepdft-predict", "checkpoint=tiny.ckpt", *overrides])
        main()
        return capsys.readouterr()

    return run


@pytest.fixture
def failure(predict, capsys):
    """Run a command that must fail; returns its one line."""

    def run(*overrides):
        with pytest.raises(SystemExit) as stopped:
            predict(*overrides)
        assert stopped.value.code not in (0, None)
        reported = capsys.readouterr().err
        assert "Traceback" not in reported
        (line,) = [line for line in reported.splitlines() if line.startswith("error: ")]
        return line

    return run


def read(path):
    with path.open() as file:
        content = read_cube(file)
    return content["data"] / Bohr**3, content["atoms"]


def test_a_molecule_becomes_a_cube_and_a_picture(folder, predict):
    reported = predict("structure=water.xyz", "output=out/water.cube", "spacing=0.5").out
    values, atoms = read(folder / "out" / "water.cube")
    expected = Predictor.from_checkpoint("tiny.ckpt").predict(molecule("H2O"), spacing=0.5)
    np.testing.assert_allclose(values, expected.values, rtol=1e-4, atol=1e-7)
    assert (folder / "out" / "water.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["water.cube", "water.png"]
    electrons = float(re.search(r"(-?[\d.]+) electrons", reported).group(1))
    assert electrons == pytest.approx(values.mean() * atoms.get_volume(), abs=1e-3)
    assert "H2O" in reported
    assert "points/s" in reported


def test_a_crystal_becomes_a_chgcar_in_its_own_cell(folder, predict):
    predict("structure=POSCAR", "output=CHGCAR", "shape=[6,7,8]", "picture=false")
    content = VaspChargeDensity("CHGCAR")
    expected = Predictor.from_checkpoint("tiny.ckpt").predict(bulk("Al"), shape=(6, 7, 8))
    np.testing.assert_allclose(content.chg[0], expected.values, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(content.atoms[0].cell.array, bulk("Al").cell.array, atol=1e-10)
    assert not (folder / "CHGCAR.png").exists()


def test_frames_are_numbered(folder, predict):
    predict("structure=frames.xyz", "output=x.cube", "shape=[4,4,4]", "picture=false")
    assert [read(folder / f"x_00{i}.cube")[1].get_chemical_formula() for i in range(3)] == ["H2O", "H2", "O2"]


def test_one_frame_keeps_the_name(folder, predict):
    predict("structure=frames.xyz", "frames=-1", "output=x.cube", "shape=[4,4,4]", "picture=false")
    assert read(folder / "x.cube")[1].get_chemical_formula() == "O2"


def test_nothing_else_is_left_behind(folder, predict):
    before = {path.name for path in folder.iterdir()}
    predict("structure=water.xyz", "output=x.h5", "shape=[4,4,4]", "picture=false")
    assert {path.name for path in folder.iterdir()} - before == {"x.h5"}


def test_free_atoms_need_no_checkpoint(folder, predict):
    reported = predict("checkpoint=free_atoms", "structure=water.xyz", "output=w.cube", "spacing=0.1", "picture=false")
    assert "warning" not in reported.err
    values, atoms = read(folder / "w.cube")
    assert values.sum() * atoms.get_volume() / values.size == pytest.approx(8.0, rel=1e-3)


@pytest.fixture
def gaussian(folder):
    """A checkpoint of a model with a density that is positive everywhere: e/Å³ exp(-d²) round each atom."""
    config = {"_target_": "deepdft.models.superposition.Superposition", "n_functions": 1, "smallest_exponent": 1.0}
    model = build_model(config)
    torch.nn.init.ones_(model.weights.weight)
    save_checkpoint(folder / "gaussian.ckpt", Checkpoint(model, config, info={"elements": [1, 8]}))
    return Predictor(model)


def test_fields_are_written_beside_the_density_and_drawn(folder, predict, gaussian):
    reported = predict(
        "checkpoint=gaussian.ckpt", "structure=water.xyz", "output=out/w.cube", "spacing=0.5", "fields=[iri,hessian]"
    )
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "w.cube",
        "w.png",
        "w_hessian_1.cube",
        "w_hessian_2.cube",
        "w_hessian_3.cube",
        "w_iri.cube",
        "w_iri.png",
    ]
    assert (folder / "out" / "w_iri.png").read_bytes().startswith(b"\x89PNG")
    expected, _ = gaussian.fields(molecule("H2O"), ["iri", "hessian"], spacing=0.5)
    columns = {"iri": expected["iri"], **{f"hessian_{i + 1}": expected["hessian"][..., i] for i in range(3)}}
    for name, values in columns.items():
        with (folder / "out" / f"w_{name}.cube").open() as file:
            scale = np.abs(values).max()
            np.testing.assert_allclose(read_cube(file)["data"], values, rtol=1e-4, atol=1e-5 * scale, err_msg=name)
    assert re.search(r"out/w_iri.cube, .*out/w_hessian_3.cube: [\d.]+ s, \d+ points/s", reported.out)
    assert "out/w_iri.png: IRI on a plane" in reported.out


def test_fields_without_pictures_and_of_several_frames(folder, predict, gaussian):
    write("two.xyz", [molecule("H2O"), molecule("H2")])
    predict(
        "checkpoint=gaussian.ckpt",
        "structure=two.xyz",
        "output=x.h5",
        "shape=[4,4,4]",
        "fields=[dori]",
        "picture=false",
    )
    assert sorted(path.name for path in folder.glob("x*")) == ["x_000.h5", "x_000_dori.h5", "x_001.h5", "x_001_dori.h5"]


def test_elements_that_the_model_does_not_know_are_refused_before_anything_is_written(folder, failure):
    write("methane.xyz", molecule("CH4"))
    reported = failure("structure=methane.xyz", "output=out/x.cube", "shape=[4,4,4]")
    assert f"CH4: the model has not been trained on C, but on H, O, Al; {KNOWN}; allow_unknown=true" in reported
    assert not (folder / "out").exists()


def test_elements_that_are_predicted_all_the_same_are_reported_once_and_marked(folder, predict, gaussian):
    write("methane.xyz", molecule("CH4"))
    reported = predict(
        "checkpoint=gaussian.ckpt",
        "structure=methane.xyz",
        "output=x.h5",
        "spacing=0.5",
        "fields=[dori]",
        "allow_unknown=true",
    )
    assert (
        reported.err.strip()
        == f"warning: CH4: the model has not been trained on C: densities there are guesses; {KNOWN}"
    )
    with h5py.File("x.h5") as file:
        assert "which was not trained on C" in file.attrs["comment"]


def test_missing_electrons_and_negative_densities_are_reported_beside_the_count(folder, predict):
    config = {"_target_": "deepdft.models.superposition.Superposition", "n_functions": 1, "smallest_exponent": 1.0}
    model = build_model(config)
    torch.nn.init.constant_(model.weights.weight, -1.0)
    info = {"elements": [1, 8], "valences": {1: 1, 8: 6}}
    save_checkpoint(folder / "bad.ckpt", Checkpoint(model, config, info=info))
    reported = predict("checkpoint=bad.ckpt", "structure=water.xyz", "output=x.cube", "spacing=0.2", "picture=false")
    exact = -3 * quad(lambda r: 4 * np.pi * r**2 * np.exp(-(r**2)) * (1 - r**2 / 10) ** 3, 0, 10**0.5)[0]
    found, share = re.search(r"x\.cube: (-[\d.]+) electrons \((-[\d.]+) of 8 expected\);", reported.out).groups()
    assert float(found) == pytest.approx(exact, rel=1e-3)
    assert float(share) == pytest.approx(exact, abs=0.06)
    assert "warning: x.cube: -" in reported.err
    assert re.search(r"warning: x\.cube: the density goes down to -[\d.]+ e/Å³", reported.err)


def test_names_and_lists_of_smiles_are_structures(folder, predict):
    reported = predict("checkpoint=free_atoms", "structure=NaCl", "output=n.cube", "shape=[8,8,8]", "picture=false").out
    assert "structure: the crystal NaCl (rocksalt, a = 5.64 Å; 8 atoms, by ASE's bulk)" in reported
    assert read(folder / "n.cube")[1].get_chemical_formula() == "Cl4Na4"
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install 'deepdft-lightning[view]'")
    predict("checkpoint=free_atoms", "structure=[CCO,C(=O)O]", "output=m.cube", "shape=[4,4,4]", "picture=false")
    assert [read(folder / f"m_00{i}.cube")[1].get_chemical_formula() for i in range(2)] == ["C2H6O", "CH2O2"]


def test_a_file_with_an_at_sign_in_its_name_is_read(folder, predict):
    write("a@b.xyz", molecule("H2O"), format="xyz")
    predict("structure=a@b.xyz", "output=x.cube", "shape=[4,4,4]", "picture=false")


def test_a_second_prediction_into_the_same_file_is_refused(folder, failure):
    with exclusive_lock("x.cube", "prediction"):
        reported = failure("structure=water.xyz", "output=x.cube", "shape=[4,4,4]", "picture=false")
    assert "x.cube: prediction is under way there, by this process" in reported
    assert not (folder / "x.cube").exists()


def test_a_model_is_exported_as_a_checkpoint_of_this_package(folder, predict):
    predict("export_checkpoint=copies/copy.ckpt")
    first, second = load_checkpoint("tiny.ckpt"), load_checkpoint("copies/copy.ckpt")
    assert first.config == second.config
    for name, weight in first.model.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[name], weight, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["structure=nowhere.xyz", "output=x.cube"], "structure=nowhere.xyz: no such file"),
        (["structure=water.xyz", "output=x.cube", "spacing=0"], "spacing is a distance in Å above zero, got 0"),
        (["structure=water.xyz", "output=x.cube", "spacing=-1"], "above zero"),
        (["structure=water.xyz", "output=x.cube", "shape=[1,2]"], "shape is three numbers"),
        (["structure=water.xyz", "output=x.cube", "shape=10"], "shape=10: expected a list, as shape=[10]"),
        (["structure=water.xyz", "output=x.cube", "spacing=abc"], "spacing=abc: expected a number"),
        (["structure=water.xyz", "output=x.cube", "n_electrons=true"], "n_electrons=True: expected a number"),
        (["structure=water.xyz", "output=x.cube", "trusted=mine"], "trusted=mine: expected a list, as trusted=[mine]"),
        (["structure=water.xyz", "output=x.xyz", "checkpoint=gone.ckpt"], "x.cube, x.h5, CHGCAR"),
        (["structure=water.xyz"], "output="),
        (
            ["structure=water.xyz", "output=x.cube", "fields=[iri,elf]", "checkpoint=gone.ckpt"],
            "fields=['elf']: expected some of gradient, laplacian, hessian, iri, dori",
        ),
        (["structure=water.xyz", "output=x.cube", "fields=iri"], "fields=iri: expected a list, as fields=[iri]"),
        ([], "structure="),
        (["structure=slab.xyz", "output=x.cube"], "cell has no volume"),
        (["structure=water.xyz", "output=x.cube", "device=quantum"], "device=quantum"),
        (["structure=water.xyz", "output=x.cube", "checkpoint=gone.ckpt"], "gone.ckpt: no such checkpoint"),
        (["structure=frames.xyz", "frames=9", "output=x.cube"], "no frame 9"),
        (["structure=POSCAR", "output=x.cube", "vacuum=3"], "is periodic"),
    ],
)
def test_a_mistake_gets_one_clear_line(folder, failure, overrides, expected):
    slab = fcc111("Al", (1, 1, 2))
    slab.info = {}
    write("slab.xyz", slab)
    assert expected in failure(*overrides)
    assert not (folder / "x.cube").exists()


@pytest.mark.parametrize("name", ["x.cube", "CHGCAR", "x.h5"])
def test_what_is_no_prediction_is_not_written_over(folder, failure, predict, name):
    content = b"not by us\n" * 50
    (folder / name).write_bytes(content)
    reported = failure("structure=water.xyz", f"output={name}")
    assert f"output={name}: the file exists and is not a prediction" in reported
    assert (folder / name).read_bytes() == content
    (folder / name).unlink()
    for _ in range(2):  # the second time, it overwrites the first
        predict("structure=water.xyz", f"output={name}", "spacing=0.5")


@pytest.mark.parametrize(
    ("name", "derived"), [("x.cube", "x_gradient_z.cube"), ("CHGCAR", "CHGCAR_iri"), ("x.h5", "x_hessian_1.h5")]
)
def test_what_is_no_prediction_is_not_written_over_by_a_field(folder, failure, predict, gaussian, name, derived):
    options = ["checkpoint=gaussian.ckpt", "structure=water.xyz", f"output={name}", "shape=[4,4,4]", "picture=false"]
    fields = "fields=[gradient,iri,hessian]"
    (folder / derived).write_bytes(b"not by us\n" * 50)
    assert f"{derived}: the file exists and is not a prediction" in failure(*options, fields)
    assert (folder / derived).read_bytes() == b"not by us\n" * 50
    assert not (folder / name).exists(), "refused before anything is predicted"
    predict(*options, "fields=[]")
    (folder / derived).unlink()
    for _ in range(2):  # the second time, it overwrites the first
        predict(*options, fields)


def test_a_density_of_dft_is_not_written_over(folder, failure):
    water = molecule("H2O")
    water.center(vacuum=3.0)
    write_density("dft.h5", DensityGrid(np.ones((6, 6, 6)), water))
    before = (folder / "dft.h5").read_bytes()
    assert "not a prediction" in failure("structure=dft.h5", "output=dft.h5")
    assert (folder / "dft.h5").read_bytes() == before


def test_a_grid_that_its_disk_cannot_hold_is_not_started(folder, failure):
    for options in (["output=x.cube", "spacing=1e-3"], ["output=x.h5", "spacing=1e-4"]):
        reported = failure("structure=water.xyz", *options)
        assert "GB left; take a wider spacing" in reported
    assert not list(folder.glob("x*"))


def test_a_charge_is_reported_to_be_ignored(folder, predict):
    water = molecule("H2O")
    water.info["charge"] = -1
    write("charged.xyz", water, format="extxyz")
    reported = predict("structure=charged.xyz", "output=x.cube", "spacing=0.5").err
    assert "warning: H2O has the charge -1, which models ignore" in reported
    assert "charge" not in predict("structure=water.xyz", "output=y.cube", "spacing=0.5").err


def test_a_mistyped_option_is_refused(failure, folder):
    assert "spacin" in failure("structure=water.xyz", "output=x.cube", "spacin=0.2")
    assert not (folder / "x.cube").exists()


def test_without_a_checkpoint_the_bundled_model_predicts(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["deepdft-predict", "structure=water.xyz", "output=water.h5", "picture=false"])
    main()
    reported = capsys.readouterr().out
    assert "no checkpoint given: the bundled model" in reported
    electrons = float(re.search(r"([\d.]+) electrons", reported).group(1))
    assert electrons == pytest.approx(8, rel=0.02)  # valence electrons
    assert "electrons (8 expected);" in reported


def test_a_coarse_grid_is_reported_to_miscount(predict):
    hint = "miscount the electrons near nuclei"
    assert hint in predict("structure=water.xyz", "output=water.cube", "spacing=0.5", "picture=false").out
    assert hint not in predict("structure=water.xyz", "output=water.cube", "spacing=0.2", "picture=false").out


@pytest.fixture
def template(folder):
    """A CHGCAR of the aluminium of POSCAR, with occupancies, whose electrons are those that are predicted."""
    density = Predictor(load_checkpoint(folder / "tiny.ckpt").model).predict(bulk("Al"), shape=(4, 5, 6))
    arrays = {"occupancies": np.array([[0.5, -0.25, 0.125]])}
    write_density(folder / "dft.CHGCAR", DensityGrid(1.01 * density.values, density.atoms, atom_arrays=arrays))
    return folder / "dft.CHGCAR"


@pytest.mark.parametrize("structure", [[], ["structure=POSCAR"]])
def test_a_chgcar_for_vasp_has_grid_electrons_and_occupancies_of_its_template(folder, predict, template, structure):
    said = predict("template=dft.CHGCAR", "output=CHGCAR", *structure).out
    found, expected = read_density(folder / "CHGCAR"), read_density(template)
    assert found.shape == (4, 5, 6)
    assert found.n_electrons == pytest.approx(expected.n_electrons, abs=1e-3)
    np.testing.assert_array_equal(found.atom_arrays["occupancies"], expected.atom_arrays["occupancies"])
    assert re.search(r"scaled by 1\.0\d+ to", said)
    assert "PAW occupancies: those of dft.CHGCAR, not predicted" in said
    assert "  ICHARG = 1\n  NGXF = 4; NGYF = 5; NGZF = 6\n" in said
    assert (folder / "CHGCAR").read_text().splitlines()[1:10] == template.read_text().splitlines()[1:10]


def test_the_grid_of_an_outcar_is_taken(folder, predict, failure):
    (folder / "OUTCAR").write_text("NGXF= 6 NGYF= 5 NGZF= 4\n NELECT = 3.0\n NIONS = 1\n")
    said = predict("structure=POSCAR", "grid_like=OUTCAR", "output=CHGCAR", "n_electrons=3").out
    assert read_density(folder / "CHGCAR").shape == (6, 5, 4)
    assert "to 3.000 electrons" in said
    assert "no PAW occupancies (the model has none)" in said
    assert "it has 1 atoms, the structure 3" in failure("structure=water.xyz", "grid_like=OUTCAR", "output=C.CHGCAR")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["output=x.cube"], "is for files that VASP reads: expected output=CHGCAR"),
        (["output=CHGCAR", "spacing=0.2"], "template= and spacing= each say what the grid is"),
        (["output=CHGCAR", "grid_like=OUTCAR"], "template= and grid_like= each say"),
        (["output=CHGCAR", "structure=water.xyz"], "it is a CHGCAR of other atoms: Al there, H2O in the structure"),
        (["output=CHGCAR", "structure=frames.xyz"], "belongs to one structure, got 3"),
        (["output=CHGCAR", "uncertainty=true"], "writes no file that VASP starts from"),
        (["output=dft.CHGCAR"], "the file exists and is not a prediction"),
    ],
)
def test_what_does_not_go_with_a_template_is_refused(template, failure, folder, overrides, said):
    before = template.read_bytes()
    assert said in failure("template=dft.CHGCAR", *overrides)
    assert template.read_bytes() == before
    assert not (folder / "CHGCAR").exists()
