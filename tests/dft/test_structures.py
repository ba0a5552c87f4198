"""Structures of all kinds come with names, and recipes resume where they were interrupted."""

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule

from deepdft.density import DensityGrid
from deepdft.dft.structures import members_of_recipe, read_members
from deepdft.io import write_density


def test_frames_of_a_trajectory_are_numbered(tmp_path: Path) -> None:
    frames = [molecule("H2O"), molecule("CH4"), molecule("NH3")]
    ase.io.write(tmp_path / "md.traj", frames)
    entries = read_members(str(tmp_path / "md.traj"))
    assert [entry.name for entry in entries] == ["md-000000", "md-000001", "md-000002"]
    assert entries[1].source == f"{tmp_path}/md.traj, frame 1"
    assert entries[1].atoms == frames[1]
    assert [len(entry.atoms) for entry in read_members(str(tmp_path / "md.traj"), frames="::2")] == [3, 4]


def test_a_single_frame_has_the_name_of_its_file(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "salt.cif", bulk("NaCl", "rocksalt", a=5.6))
    (entry,) = read_members(str(tmp_path / "salt.cif"))
    assert entry.name == "salt"
    assert entry.atoms.pbc.all()


def test_frames_may_bring_their_names(tmp_path: Path) -> None:
    frames = [molecule("H2O"), molecule("CH4")]
    for atoms, name in zip(frames, ("water", "methane"), strict=True):
        atoms.info["name"] = name
    ase.io.write(tmp_path / "named.extxyz", frames)
    assert [entry.name for entry in read_members(str(tmp_path / "named.extxyz"))] == ["water", "methane"]


def test_rows_of_a_database(tmp_path: Path) -> None:
    from ase.db import connect

    with connect(tmp_path / "rows.db") as database:
        for name in ("H2O", "CH4"):
            database.write(molecule(name))
    assert [str(entry.atoms.symbols) for entry in read_members(str(tmp_path / "rows.db"))] == ["OH2", "CH4"]


def test_a_folder_gives_all_files_that_ase_or_we_know(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    ase.io.write(tmp_path / "b.xyz", molecule("H2O"))
    ase.io.write(tmp_path / "deep" / "a.xyz", molecule("CH4"))
    (tmp_path / "README").write_text("no structure")
    (tmp_path / ".hidden.xyz").write_text("no structure")
    water = molecule("H2O", cell=[4.0, 4.0, 4.0])
    write_density(tmp_path / "CHGCAR.zz", DensityGrid(np.ones((2, 2, 2)), water))
    assert [entry.name for entry in read_members(str(tmp_path))] == ["CHGCAR", "b", "a"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"empty: no file in it has a name that ASE knows"):
        read_members(str(empty))


def test_several_sources_keep_their_order(tmp_path: Path) -> None:
    for name in ("H2O", "CH4"):
        ase.io.write(tmp_path / f"{name}.xyz", molecule(name))
    sources = [str(tmp_path / "H2O.xyz"), str(tmp_path / "CH4.xyz")]
    assert [entry.name for entry in read_members(sources)] == ["H2O", "CH4"]


def test_a_list_of_smiles(tmp_path: Path) -> None:
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install 'deepdft-lightning[view]'")
    path = tmp_path / "list.smi"
    path.write_text("# a comment\nO water\n\nCCO\n")
    entries = read_members(str(path))
    assert [(entry.name, len(entry.atoms)) for entry in entries] == [("water", 3), ("CCO", 9)]
    assert entries[0].source == f"{path}, line 2: O"
    path.write_text("O\twater\nCCO \t  ethyl alcohol \n\t\nC\n")
    assert [entry.name for entry in read_members(str(path))] == ["water", "ethyl alcohol", "C"]
    assert [entry.name for entry in read_members(["C", "O"])] == ["C", "O"]
    path.write_text("O\nC(\n")
    with pytest.raises(ValueError, match=r"list.smi, line 2: 'C\(' is neither a file nor a valid SMILES"):
        read_members(str(path))


def test_a_smiles_is_a_name_even_where_it_looks_like_a_path() -> None:
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install 'deepdft-lightning[view]'")
    pair = ["F/C=C/F", "F/C=C\\F"]
    entries = read_members(pair)
    assert [entry.name for entry in entries] == [entry.source for entry in entries] == pair
    trans, cis = (entry.atoms.get_distance(0, 3) for entry in entries)
    assert trans > cis + 0.5


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    water = molecule("H2O", cell=[4.0, 4.0, 4.0], pbc=True)
    for name in ("a/1/POSCAR", "a/2/POSCAR", "a/2/deep/POSCAR", "a/x.xyz", "b/1/POSCAR", "b/1/POSCAR.1", "b/1/y.xyz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        ase.io.write(tmp_path / name, [water, water] if name == "b/1/y.xyz" else water, format=format_of(name))

    def names(*sources: str) -> list[str]:
        return [entry.name for entry in read_members([str(tmp_path / source) for source in sources])]

    assert names("a") == ["1/POSCAR", "2/POSCAR", "2/deep/POSCAR", "x"]
    assert names("a/1/POSCAR", "a/2/POSCAR") == names("a/1", "a/2")[:2] == ["1/POSCAR", "2/POSCAR"]
    assert names("b") == ["1/POSCAR", "1/POSCAR.1", "y-000000", "y-000001"]
    assert names("a/1", "b/1/POSCAR", "b/1/y.xyz") == ["a/1/POSCAR", "b/1/POSCAR", "y-000000", "y-000001"]
    assert len(set(names("a", "b"))) == 8
    assert len(set(names("a/1", "a/1"))) == 1  # for the plan to refuse


def format_of(name: str) -> str:
    return "extxyz" if name.endswith(".xyz") else "vasp"


def test_folders_that_links_lead_to_are_read(tmp_path: Path) -> None:
    for name in ("folder/own.xyz", "elsewhere/deep/other.xyz"):
        (tmp_path / name).parent.mkdir(parents=True)
        ase.io.write(tmp_path / name, molecule("H2O"))
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "folder")
    assert [entry.name for entry in read_members(str(tmp_path / "folder"))] == ["other", "own"]


class Counting:
    """A recipe that counts what it is asked for."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.made: list[int] = []
        self.stop_at = stop_at

    def __len__(self) -> int:
        return 4

    def make(self, number: int) -> tuple[str, ase.Atoms]:
        if number == self.stop_at:
            raise KeyboardInterrupt
        self.made.append(number)
        rng = np.random.default_rng(number)
        return f"{number:03d}", ase.Atoms("HO", rng.random((2, 3)), cell=rng.random((3, 3)), pbc=[True, True, False])


def test_a_recipe_that_was_interrupted_continues(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        members_of_recipe(Counting(stop_at=2), tmp_path)
    recipe = Counting()
    seen: list[int] = []
    entries = members_of_recipe(recipe, tmp_path, progress=seen.append)
    assert recipe.made == seen == [2, 3]
    assert [entry.name for entry in entries] == ["000", "001", "002", "003"]
    for number, entry in enumerate(entries):
        assert entry.atoms == Counting().make(number)[1], "not even rounded"
        assert entry.source == "Counting"
