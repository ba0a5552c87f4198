"""Models trained with the released code give the same densities here."""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
import pytest
import torch

from deepdft.checkpoint import load_checkpoint, save_checkpoint
from deepdft.graph.neighbors import atom_graph, probe_graph, structures_from_atoms
from deepdft.inference.encoded import EncodedStructure
from deepdft.inference.predictor import Predictor
from deepdft.models.base import DensityModel

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("released_*.npz"))
SHARED = sorted((Path(__file__).parents[3] / "shared/data/released_parity").glob("*.npz"))


@dataclass
class Released:
    """A file of random weights with the density that the released code gave for them."""

    atoms: ase.Atoms
    points: np.ndarray
    density: np.ndarray
    arguments: dict
    weights: dict[str, torch.Tensor]

    def folder(self, path: Path) -> Path:
        """As the released code stores a model."""
        (path / "arguments.json").write_text(json.dumps(self.arguments))
        torch.save({"model": self.weights, "step": 5, "best_val_mae": 0.1}, path / "best_model.pth")
        return path


def read(path: Path) -> Released:
    with np.load(path) as file:
        if "arguments" in file:
            arguments = json.loads(str(file["arguments"]))
        else:
            arguments = {name: file[name].item() for name in ("num_interactions", "node_size", "cutoff")}
            arguments |= {"use_painn_model": str(file["kind"]) == "painn", "ignore_pbc": not file["pbc"].any()}
        weights = {name[8:]: torch.from_numpy(file[name]) for name in file.files if name.startswith("weights/")}
        atoms = ase.Atoms(file["numbers"], file["positions"], cell=file["cell"], pbc=file["pbc"])
        return Released(atoms, file["probe_positions"], file["density"], arguments, weights)


@pytest.fixture(params=[*FIXTURES, *SHARED], ids=lambda path: path.stem)
def released(request: pytest.FixtureRequest) -> Released:
    return read(request.param)


@pytest.fixture
def molecule() -> Released:
    return read(FIXTURES[0].with_name("released_schnet_molecule.npz"))


def density(model: DensityModel, case: Released, dtype: torch.dtype) -> torch.Tensor:
    union = structures_from_atoms([case.atoms], dtype=dtype)
    points = torch.from_numpy(case.points)
    probes = probe_graph(union, points, torch.zeros(len(points), dtype=torch.int64), model.probe_cutoff)
    with torch.no_grad():
        return model(atom_graph(union, model.cutoff), probes).squeeze(-1)


def at_points(predictor: Predictor, case: Released) -> np.ndarray:
    """Without the check of the structure, whose atoms are at random places."""
    return EncodedStructure(predictor.model, case.atoms, pbc=predictor.pbc).total(case.points)


def test_there_are_fixtures() -> None:
    assert len(FIXTURES) == 4


def test_it_reproduces_the_density_in_double_precision(released: Released, tmp_path: Path) -> None:
    model = load_checkpoint(released.folder(tmp_path)).model.double()
    found = density(model, released, torch.float64).numpy()
    np.testing.assert_allclose(found, released.density, rtol=0.0, atol=1e-6)
    assert np.ptp(released.density) > 1e-4, "nothing to reproduce"


def test_it_reproduces_the_density_in_single_precision(released: Released, tmp_path: Path) -> None:
    found = density(load_checkpoint(released.folder(tmp_path)).model, released, torch.float32).numpy()
    assert np.abs(found - released.density).max() < 1e-4 * np.abs(released.density).max()


def test_the_predictor_takes_the_folder_and_its_periodicity(released: Released, tmp_path: Path) -> None:
    predictor = Predictor.from_checkpoint(released.folder(tmp_path))
    found = at_points(predictor, released)
    assert np.abs(found - released.density).max() < 1e-4 * np.abs(released.density).max()
    assert predictor.pbc is (False if released.arguments["ignore_pbc"] else None)


def test_ignore_pbc_is_honoured(tmp_path: Path) -> None:
    case = read(FIXTURES[0].with_name("released_painn_crystal.npz"))
    kept = at_points(Predictor.from_checkpoint(case.folder(tmp_path)), case)
    case.arguments["ignore_pbc"] = True
    ignored = at_points(Predictor.from_checkpoint(case.folder(tmp_path)), case)
    case.atoms.pbc = False
    assert np.abs(ignored - kept).max() > 1e-3
    np.testing.assert_array_equal(ignored, at_points(Predictor.from_checkpoint(case.folder(tmp_path)), case))


def test_the_weights_file_itself_may_be_named(molecule: Released, tmp_path: Path) -> None:
    assert load_checkpoint(molecule.folder(tmp_path) / "best_model.pth").info["released"]


def test_it_becomes_a_checkpoint_of_this_package(released: Released, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(released.folder(tmp_path))
    save_checkpoint(tmp_path / "ours.ckpt", checkpoint)
    again = load_checkpoint(tmp_path / "ours.ckpt")
    assert (again.pbc, again.config) == (checkpoint.pbc, checkpoint.config)
    torch.testing.assert_close(
        density(again.model, released, torch.float32),
        density(checkpoint.model, released, torch.float32),
        rtol=0.0,
        atol=0.0,
    )


def test_it_can_be_trained_on(released: Released, tmp_path: Path) -> None:
    model = load_checkpoint(released.folder(tmp_path)).model.train()
    union = structures_from_atoms([released.atoms])
    points = torch.from_numpy(released.points)
    probes = probe_graph(union, points, torch.zeros(len(points), dtype=torch.int64), model.probe_cutoff)
    model(atom_graph(union, model.cutoff), probes).square().sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


class Hostile:
    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (Path("harmed"),)


def test_a_hostile_pickle_is_refused(molecule: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = molecule.folder(tmp_path)
    torch.save({"model": molecule.weights, "more": Hostile()}, folder / "best_model.pth")
    with pytest.raises(ValueError, match=r"best_model.pth: refused, it holds more than tensors"):
        load_checkpoint(folder)
    (folder / "best_model.pth").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match=r"best_model.pth: (refused|damaged)"):
        load_checkpoint(folder)
    assert not (tmp_path / "harmed").exists()


def _without_a_weight(case: Released) -> None:
    del case.weights["probe_model.readout_function.2.bias"]


def _with_another_weight(case: Released) -> None:
    case.weights["probe_model.extra"] = torch.zeros(1)


def _of_another_size(case: Released) -> None:
    case.arguments["node_size"] = 16


def _with_more_steps(case: Released) -> None:
    case.arguments["num_interactions"] = 3


def _without_an_argument(case: Released) -> None:
    del case.arguments["cutoff"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_a_weight, r"missing: probe_model\.readout_function\.2\.bias; unexpected: none"),
        (_with_another_weight, r"missing: none; unexpected: probe_model\.extra"),
        (_of_another_size, r"has shape .* for\s+node_size=16"),
        (_with_more_steps, r"num_interactions=3 were expected; missing: atom_model\.interactions\.2\..* and \d+ more"),
        (_without_an_argument, r"the arguments lack 'cutoff'"),
    ],
)
def test_what_does_not_fit_is_named(
    molecule: Released, tmp_path: Path, spoil: Callable[[Released], None], message: str
) -> None:
    spoil(molecule)
    with pytest.raises(ValueError, match=f"^{tmp_path}: .*{message}"):
        load_checkpoint(molecule.folder(tmp_path))


def test_a_folder_without_weights_is_named(molecule: Released, tmp_path: Path) -> None:
    (molecule.folder(tmp_path) / "best_model.pth").unlink()
    with pytest.raises(FileNotFoundError, match=r"arguments.json without best_model.pth"):
        load_checkpoint(tmp_path)


def test_arguments_that_are_not_json_are_named(molecule: Released, tmp_path: Path) -> None:
    (molecule.folder(tmp_path) / "arguments.json").write_text("{")
    with pytest.raises(ValueError, match=r"arguments.json: damaged, not JSON"):
        load_checkpoint(tmp_path)
