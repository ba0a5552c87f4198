"""Molecules of QM9 from its own files and from the package that holds them as tables."""

import sys
from pathlib import Path

import numpy as np
import pytest

from deepdft.dft.structures_qm9 import Qm9Molecules

WATER = """3
gdb 3\t799.58812\t437.90386\t282.94545\t1.8511
O\t-0.0343604951\t 0.9775395708\t 0.0076015923\t-0.589706
H\t 0.0647664923\t 0.0205721989\t 1.5346341*^-6\t 0.294853
H\t 0.8717903737\t 1.3007924048\t 0.0006931336\t 0.294853
1671.4222\t3803.6305\t3907.698
O\tO
InChI=1S/H2O/h1H2\tInChI=1S/H2O/h1H2
"""
TABLE = """XYZ_file,Index,SMILES,Elements,XYZ_Ang
"dsgdb9nsd_000003.xyz",3,"O","['O','H','H']","[[-0.0343604951,0.9775395708,0.0076015923],[0.0647664923,0.0205721989,1.5346341e-06],[0.8717903737,1.3007924048,0.0006931336]]"
"dsgdb9nsd_000004.xyz",4,"C#C","['C','C','H','H']","[[0.5995394918,0.,1.],[-0.5995394918,0.,1.],[-1.6616385861,0.,1.],[1.6616385861,0.,1.]]"
"""
POSITIONS = [
    [-0.0343604951, 0.9775395708, 0.0076015923],
    [0.0647664923, 0.0205721989, 1.5346341e-6],
    [0.8717903737, 1.3007924048, 0.0006931336],
]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package qm9pack of two molecules, that must not be imported."""
    data = tmp_path / "packages" / "qm9pack" / "data"
    data.mkdir(parents=True)
    (data.parent / "__init__.py").write_text("raise ImportError('needs pandas')")
    (data / "qm9_part1.csv").write_text(TABLE)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.delitem(sys.modules, "qm9pack", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Files of QM9: water and two others with the same content."""
    for number in (3, 12, 133885):
        (tmp_path / f"dsgdb9nsd_{number:06d}.xyz").write_text(WATER)
    (tmp_path / "other.xyz").write_text("nothing")
    return str(tmp_path)


def test_files_of_the_data_set(folder: str) -> None:
    molecules = Qm9Molecules(count=3, folder=folder)
    assert [molecules.make(i)[0] for i in range(len(molecules))] == ["000003", "000012", "133885"]
    atoms = molecules.make(0)[1]
    assert str(atoms.symbols) == "OH2"
    np.testing.assert_allclose(atoms.positions, POSITIONS, rtol=1e-12)


def test_files_are_found_through_links_to_folders(tmp_path: Path, folder: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "link").symlink_to(folder)
    assert len(Qm9Molecules(count=3, folder=str(tmp_path / "other"))) == 3


def test_tables_of_the_package(package: None) -> None:
    molecules = Qm9Molecules(count=2)
    name, atoms = molecules.make(0)
    assert name == "000003"
    np.testing.assert_allclose(atoms.positions, POSITIONS, rtol=1e-12)
    assert str(molecules.make(1)[1].symbols) == "C2H2"


def test_the_choice_depends_on_the_seed_alone(folder: str) -> None:
    def names(**settings) -> list[str]:
        chosen = Qm9Molecules(count=2, folder=folder, **settings)
        return [chosen.make(i)[0] for i in range(2)]

    assert names(seed=None) == ["000003", "000012"]
    assert names(seed=1) == names(seed=1)
    assert len({tuple(names(seed=seed)) for seed in range(20)}) == 3


def test_molecules_are_chosen_by_number(folder: str) -> None:
    chosen = Qm9Molecules(numbers=[133885, 3], folder=folder)
    assert [chosen.make(i)[0] for i in range(len(chosen))] == ["133885", "000003"]
    with pytest.raises(ValueError, match=r"recipe.numbers: no molecule 4 among the 3 to choose from"):
        Qm9Molecules(numbers=[3, 4], folder=folder)


def test_large_molecules_can_be_left_out(package: None) -> None:
    assert Qm9Molecules(count=1, max_atoms=3).make(0)[0] == "000003"
    with pytest.raises(ValueError, match=r"recipe.count=2: there are 1 molecules to choose from"):
        Qm9Molecules(count=2, max_atoms=3)


def test_without_a_source_there_is_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps qm9pack"):
        Qm9Molecules(count=1)
    with pytest.raises(ValueError, match=r"no files dsgdb9nsd_000001\.xyz"):
        Qm9Molecules(count=1, folder=str(tmp_path))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "dsgdb9nsd_000001.xyz").write_text("5\n\nC 0 0\n")
    with pytest.raises(ValueError, match=r"dsgdb9nsd_000001.xyz: not an XYZ file of QM9"):
        Qm9Molecules(count=1, folder=str(tmp_path))
