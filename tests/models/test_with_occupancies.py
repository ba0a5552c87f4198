"""PAW occupancies beside the density: their order, how they rotate, and that they are learned, stored and written."""

import json
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

import deepdft
from deepdft.checkpoint import build_model
from deepdft.cli.predict import main as predict
from deepdft.data.convert import convert
from deepdft.data.partial_waves import partial_waves
from deepdft.density import DensityGrid, Grid
from deepdft.graph.neighbors import atom_graph, structures_from_atoms
from deepdft.inference.box import make_box
from deepdft.inference.domains import Domains
from deepdft.inference.pieces import Pieces
from deepdft.models.base import DensityModel
from deepdft.models.ensemble import Ensemble
from deepdft.models.orbital import Orbital
from deepdft.models.painn import PaiNN
from deepdft.models.with_occupancies import WithOccupancies
from deepdft.nn.occupancies import degrees_of_pairs, n_occupancies
from deepdft.testing.contract import ModelContract

VASP = Path(__file__).parents[3] / "shared" / "data" / "vasp"


def small_orbital():
    return Orbital(n_orbitals=4, n_radial=3, hidden_size=8, n_interactions=2, l_max=2)


class TestContractWithOccupancies(ModelContract):
    def make_model(self) -> DensityModel:
        inner = small_orbital()
        for parameter in [*inner.scalar_readout[-1].parameters(), *inner.order_readout.parameters()]:
            torch.nn.init.normal_(parameter, std=0.3)  # an untrained one predicts zero
        return WithOccupancies(inner, dict.fromkeys(("H", "Li", "C", "O", "Co", "Ni"), "ssp"))


def real_harmonics(degree, directions):
    """Y_LM (n, 2L + 1) for M = -L…L, without the Condon-Shortley phase: y, z, x; xy, yz, 3z² - r², xz, x² - y²."""
    polar = np.arccos(directions[:, 2])
    azimuth = np.arctan2(directions[:, 1], directions[:, 0])
    columns = []
    for order in range(-degree, degree + 1):
        complex_ = sph_harm_y(degree, abs(order), polar, azimuth) * (-1.0) ** order
        columns.append(complex_.real if order == 0 else 2**0.5 * (complex_.imag if order < 0 else complex_.real))
    return np.stack(columns, axis=1)


def rotation_of_harmonics(degree, rotation):
    """D with Y(R r) = D Y(r)."""
    directions = np.random.default_rng(0).normal(size=(60, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    before, after = (real_harmonics(degree, points) for points in (directions, rotation.apply(directions)))
    return np.linalg.lstsq(before, after, rcond=None)[0].T


def test_the_pairs_of_oxygen_and_hydrogen_are_in_the_order_of_vasp():
    assert degrees_of_pairs("ssp") == [0, 0, 1, 0, 1, 0, 2]
    assert degrees_of_pairs("sspp") == [0, 0, 1, 1, 0, 1, 1, 0, 2, 0, 2, 0, 2]
    assert degrees_of_pairs("sd") == [0, 2, 0, 2, 4]
    assert [n_occupancies(waves) for waves in ("ssp", "sspp", "ssppdd")] == [15, 33, 138]


@pytest.mark.parametrize("inner", [small_orbital, lambda: PaiNN(hidden_size=8, n_interactions=2)])
def test_occupancies_rotate_with_the_structure_and_the_density_stays(inner):
    torch.manual_seed(0)
    waves = {"O": "ssppd", "H": "ssp"}
    model = WithOccupancies(inner(), waves).double()
    generator = np.random.default_rng(1)
    atoms = ase.Atoms("OHHO", positions=generator.normal(0, 1.2, (4, 3)))
    rotation = Rotation.from_rotvec([0.4, -1.1, 0.7])
    turned = ase.Atoms(atoms.numbers, positions=rotation.apply(atoms.positions))

    def occupancies(structure):
        graph = atom_graph(structures_from_atoms([structure], dtype=torch.float64), model.cutoff)
        return model.occupancies(model.encode(graph)).values[:, 0].detach().numpy()

    before, after = occupancies(atoms), occupancies(turned)
    seen = set()
    for row, expected, symbol in zip(after, before, atoms.symbols, strict=True):
        first = 0
        for degree in degrees_of_pairs(waves[symbol]):
            block = slice(first, first + 2 * degree + 1)
            np.testing.assert_allclose(row[block], rotation_of_harmonics(degree, rotation) @ expected[block], atol=1e-9)
            if np.abs(expected[block]).max() > 1e-4:
                seen.add(degree)
            first += 2 * degree + 1
        assert np.isnan(row[first:]).all()
    assert {0, 1, 2} <= seen  # they are not all zero


# ── data whose occupancies follow from the neighbours ────────────────────────────────────────────────────────────

WAVES = {"H": "ssp", "O": "sspp"}
VALENCE = {8: 6.0, 1: 1.0}
EXPONENT = 0.5 * 200 ** (1 / 3)
"""Å⁻², one of the model's own: the sum of atoms is the density, and what is left to learn are the occupancies."""
SHAPE = (20, 20, 20)


def cell_with_occupancies(seed):
    """Two O and two H in a cell; each block is a sum over neighbours of a Gaussian times harmonics of the direction."""
    generator = np.random.default_rng(seed)
    corners = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    atoms = ase.Atoms("O2H2", scaled_positions=corners, cell=np.diag([4.0, 4.2, 4.4]), pbc=True)
    atoms.positions += generator.normal(0, 0.25, (4, 3))
    points = Grid(atoms, SHAPE).points()
    images = np.array([np.array(i) - 1 for i in np.ndindex(3, 3, 3)]) @ atoms.cell.array
    density = np.zeros(len(points))
    for number, position in zip(atoms.numbers, atoms.positions, strict=True):
        for image in images:
            squared = ((points - position - image) ** 2).sum(axis=1)
            density += VALENCE[number] * (EXPONENT / np.pi) ** 1.5 * np.exp(-EXPONENT * squared)
    rows = np.full((4, 33), np.nan)
    for i, symbol in enumerate(atoms.symbols):
        vectors = (atoms.positions[:, None] + images - atoms.positions[i]).reshape(-1, 3)
        lengths = np.linalg.norm(vectors, axis=1)
        near = (lengths > 0.1) & (lengths < 4.5)
        first = 0
        for block, degree in enumerate(degrees_of_pairs(WAVES[symbol])):
            weights = (1 + 0.3 * block) * np.exp(-(lengths[near] ** 2) / 4)
            harmonics = real_harmonics(degree, vectors[near] / lengths[near, None])
            rows[i, first : first + 2 * degree + 1] = weights @ harmonics
            first += 2 * degree + 1
    return DensityGrid(density.reshape(SHAPE), atoms, atom_arrays={"occupancies": rows})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("occupancies")
    (folder / "files").mkdir()
    for i in range(14):
        deepdft.write_density(folder / "files" / f"{i:02d}.CHGCAR", cell_with_occupancies(i))
    convert(folder / "files", folder / "store", split={"validation": 2, "test": 2})
    return deepdft.Store(folder / "store")


def compose(store, *overrides):
    own = [f"data.root={store.root}", "data.num_workers=0", "data.probes_per_structure=100", "trainer=cpu"]
    small = ["n_orbitals=4", "n_radial=4", "hidden_size=16", "n_interactions=1", "l_max=2"]
    return deepdft.compose("train", [*own, *(f"model.{setting}" for setting in small), *overrides])


@pytest.fixture(scope="module")
def run(store):
    folder = store.root.parent / "run"
    overrides = ["model.occupancies=auto", "optimizer.lr=0.01", "occupancy_weight=0.1", "trainer.max_steps=240"]
    overrides += ["trainer.val_check_interval=120"]
    return deepdft.train(compose(store, *overrides, f"run_dir={folder}"))


def test_partial_waves_are_found_from_the_data(store):
    assert partial_waves(store, range(len(store))) == WAVES


@pytest.mark.skipif(not VASP.is_dir(), reason="needs files of VASP")
def test_partial_waves_of_files_of_vasp(tmp_path):
    convert(VASP / "CHGCAR.NaCl_augmentation.gz", tmp_path / "NaCl")
    assert partial_waves(deepdft.Store(tmp_path / "NaCl"), [0]) == {"Na": "sspp", "Cl": "sspp"}
    convert(VASP / "CHGCAR.Li_spin.gz", tmp_path / "Li")
    assert partial_waves(deepdft.Store(tmp_path / "Li"), [0]) == {"Li": "ssp"}


def test_occupancies_are_learned_beside_the_density(run):
    validations = [row for row in run.metrics if row.get("val/occupancy_error")]
    assert float(validations[-1]["val/occupancy_error"]) < 30  # % of the spread; 100 is the average of each element
    assert float(validations[-1]["val/eps_mae"]) < 12


@pytest.mark.filterwarnings("ignore::deepdft.errors.InputWarning")  # the electrons of a model that has hardly learned
def test_the_evaluation_measures_them(run, store, tmp_path):
    deepdft.evaluate(run, output=tmp_path / "evaluation")
    summary = json.loads((tmp_path / "evaluation" / "summary.json").read_text())
    assert 0 < summary["occupancy_error"]["mean"] < 30
    predictor = deepdft.Predictor.from_checkpoint(run)
    index = store.index_of(next(name for name in store.names))
    exact, atoms = store.occupancies(index)[:, 0], store.atoms(index)
    predicted = predictor.predict(atoms, shape=SHAPE).atom_arrays["occupancies"]
    known = np.isfinite(exact)
    assert np.array_equal(known, np.isfinite(predicted))
    assert np.corrcoef(exact[known], predicted[known])[0, 1] > 0.95


def test_a_predicted_chgcar_has_them(run, store, tmp_path, capsys, monkeypatch):
    atoms = store.atoms(0)
    atoms.write(tmp_path / "POSCAR", direct=True)
    deepdft.write_density(tmp_path / "template.CHGCAR", store.density(0))
    expected = deepdft.Predictor.from_checkpoint(run).predict(atoms, shape=SHAPE).atom_arrays["occupancies"]
    for arguments in (["shape=[20,20,20]"], [f"template={tmp_path / 'template.CHGCAR'}", "n_electrons=14"]):
        output = tmp_path / f"{len(arguments)}.CHGCAR"
        monkeypatch.setattr(
            "sys.argv",
            [
                "deepdft-predict",
                f"checkpoint={run.directory}",
                f"structure={tmp_path / 'POSCAR'}",
                f"output={output}",
                "picture=false",
                *arguments,
            ],
        )
        predict()
        written = deepdft.read_density(output).atom_arrays["occupancies"]
        np.testing.assert_allclose(written, expected, rtol=1e-5, atol=1e-6)
    assert "PAW occupancies: predicted" in capsys.readouterr().out


def test_domains_and_an_ensemble_give_the_same_occupancies(run):
    model = deepdft.Predictor.from_checkpoint(run).model
    atoms = cell_with_occupancies(3).atoms.repeat((3, 3, 2))
    box = make_box(atoms, shape=(12, 12, 12))
    whole = Pieces(model, box).occupancies()["occupancies"]
    domains = Pieces(model, box)
    domains._domains = Domains(atoms, model.receptive_field, 700)
    np.testing.assert_allclose(domains.occupancies()["occupancies"], whole, atol=1e-5)
    both = Ensemble([model, model]).eval()
    np.testing.assert_allclose(Pieces(both, box).occupancies()["occupancies"], whole, atol=1e-6)


def test_a_model_of_the_density_alone_is_where_training_can_start(store, tmp_path):
    few = ["trainer.max_steps=2", "trainer.val_check_interval=2", "optimizer.lr=1e-6"]
    alone = deepdft.train(compose(store, *few, f"run_dir={tmp_path / 'alone'}"))
    overrides = [*few, f"init={alone.directory}", "model.occupancies=auto", f"run_dir={tmp_path / 'both'}"]
    both = deepdft.train(compose(store, *overrides))
    assert both.best == pytest.approx(alone.best, rel=1e-2)
    model = deepdft.Predictor.from_checkpoint(both).model
    assert (model.head.spread[8, 0, :33] < 1).any()  # of the data


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("occupancies", "message"),
    [
        ("{O: sspp}", "no partial waves of H"),
        ("{O: ssp, H: ssp}", "O with the partial waves ssp has 15 occupancies, and those in .* are 33"),
        ("sspp", "auto, partial waves by element"),
        ("{O: sspx, H: ssp}", "letters among s, p, d, f"),
    ],
)
def test_wrong_partial_waves_are_refused(store, tmp_path, occupancies, message):
    with pytest.raises(ValueError, match=message):
        deepdft.train(compose(store, f"model.occupancies={occupancies}", f"run_dir={tmp_path / 'run'}"))


def test_data_without_occupancies_are_refused(tmp_path):
    density = cell_with_occupancies(0)
    (tmp_path / "files").mkdir()
    for i in range(4):
        deepdft.write_density(tmp_path / "files" / f"{i}.CHGCAR", DensityGrid(density.values, density.atoms))
    convert(tmp_path / "files", tmp_path / "store", split={"validation": 1, "test": 0})
    bare = deepdft.Store(tmp_path / "store")
    with pytest.raises(ValueError, match="has no occupancies, which a CHGCAR can have"):
        deepdft.train(compose(bare, "model.occupancies=auto", f"run_dir={tmp_path / 'run'}"))


def test_a_model_without_equivariant_features_is_refused():
    with pytest.raises(ValueError, match="equivariant features, and SchNet has none"):
        build_model({"_target_": "deepdft.models.schnet.SchNet", "occupancies": {"O": "sspp"}})
