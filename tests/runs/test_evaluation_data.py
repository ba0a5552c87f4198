"""The data that an evaluation takes if none are named, and doubtful data."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepdft import bundled
from deepdft.data.splits import Split
from deepdft.data.store import DensityStore, elements_of
from deepdft.errors import InputWarning
from deepdft.models.free_atoms import FreeAtoms
from deepdft.runs.data_checks import warn_of_free_atom_valences, warn_of_new_elements
from deepdft.runs.evaluation_settings import EvaluationSettings, with_data


def make_run(folder: Path, root: Path, split: dict[str, list[str]] | None = None, label: str | None = None) -> Path:
    """A run directory as far as its data are concerned."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "best.ckpt").touch()
    (folder / "config.yaml").write_text(f"run_dir: {folder}\ndata: {{root: {root}, label: {label or 'null'}}}\n")
    fingerprint = DensityStore(root).fingerprint
    (folder / "run.json").write_text(json.dumps({"data": {"root": str(root.resolve()), "fingerprint": fingerprint}}))
    if split is not None:
        (folder / "split.json").write_text(json.dumps(split))
    return folder


def test_a_run_is_evaluated_on_its_own_data_and_split(tmp_path: Path, tiny_store: Path) -> None:
    run = make_run(tmp_path / "run", tiny_store, {"train": [], "validation": [], "test": []})
    for checkpoint in (run, run / "checkpoints" / "best.ckpt"):
        settings, reported = with_data(EvaluationSettings(checkpoint=str(checkpoint)))
        assert settings.root == str(tiny_store.resolve())
        assert settings.split == str(run / "split.json")
        assert reported == f"data: {tiny_store.resolve()}, the data of this run, with its split"


def test_the_same_data_named_have_the_split_of_the_run_unless_another_is_given(
    tmp_path: Path, tiny_store: Path
) -> None:
    run = make_run(tmp_path / "run", tiny_store, {"train": [], "validation": [], "test": []})
    moved = tmp_path / "moved"
    shutil.copytree(tiny_store, moved)
    given = EvaluationSettings(checkpoint=str(run), root=str(moved))
    settings, reported = with_data(given)
    assert (settings.root, settings.split, reported) == (str(moved), str(run / "split.json"), None)
    assert with_data(replace(given, split="mine.json"))[0].split == "mine.json"


def test_other_data_keep_their_own_split(tmp_path: Path, tiny_store: Path) -> None:
    run = make_run(tmp_path / "run", tiny_store, {"train": [], "validation": [], "test": []})
    other = bundled.path("qm9_demo")
    settings, reported = with_data(EvaluationSettings(checkpoint=str(run), root=str(other)))
    assert (settings.root, settings.split, reported) == (str(other), None, None)


def test_data_of_a_run_that_are_gone_are_named(tmp_path: Path, tiny_store: Path) -> None:
    gone = tmp_path / "gone"
    shutil.copytree(tiny_store, gone)
    run = make_run(tmp_path / "run", gone)
    shutil.rmtree(gone)
    with pytest.raises(FileNotFoundError, match=r"run: its data, .*gone, are not there; give data.root=STORE"):
        with_data(EvaluationSettings(checkpoint=str(run)))


@pytest.mark.parametrize("checkpoint", ["bundled", "free_atoms"])
def test_models_of_the_package_are_evaluated_on_its_molecules_and_say_so(checkpoint: str) -> None:
    settings, reported = with_data(EvaluationSettings(checkpoint=checkpoint))
    assert settings.root == str(bundled.path("qm9_demo"))
    assert reported is not None
    assert "the bundled molecules; data.root=STORE" in reported


def test_a_checkpoint_without_a_run_needs_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.root= is required with a checkpoint outside a run directory"):
        with_data(EvaluationSettings(checkpoint=str(tmp_path / "model.ckpt")))


def test_elements_that_only_validation_has_are_reported(tiny_store: Path) -> None:
    store = DensityStore(tiny_store)
    first = store.elements([0])
    other = next(i for i in range(len(store)) if not set(store.elements([i])) <= set(first))
    with pytest.warns(InputWarning, match="validation structures contain .*, which no training structure contains"):
        warn_of_new_elements(store, Split(train=[0], validation=[other], test=[]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_new_elements(store, Split(train=list(range(len(store))), validation=[0], test=[other]))


class Counted:
    """A store of which only formulas and electron counts are known."""

    formulas = ("Na2Cl2", "NaCl", "Cl2")
    names = ("two", "one", "chlorine")

    def __init__(self, *electrons: float) -> None:
        self._electrons = np.array(electrons)

    def elements(self, indices: list[int]) -> list[int]:
        return elements_of(self.formulas[i] for i in indices)

    def electrons(self, label: str | None = None) -> np.ndarray:
        return self._electrons


def test_free_atoms_with_other_valences_than_the_data_are_reported_by_element() -> None:
    # Na of VASP's standard potential has one electron, GPAW's seven; Cl has seven in both
    with pytest.warns(InputWarning, match=r"2 of 3 densities: Na 1 for 7 per atom; two has 16.0 electrons, its free"):
        warn_of_free_atom_valences(FreeAtoms(), Counted(16.0, 8.0, 14.0), [0, 1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_free_atom_valences(FreeAtoms(), Counted(28.0, 14.01, 14.0), [0, 1, 2])
