"""Structures by name and formula."""

import numpy as np
import pytest

from deepdft.io.names import structure_by_name
from deepdft.io.structures import read_structures


@pytest.mark.parametrize(
    ("name", "formula", "n_atoms"),
    [
        ("water", "H2O", 3),
        ("Caffeine", "C8H10N4O2", 24),
        ("aspirin", "C9H8O4", 21),
        ("acetic  acid", "C2H4O2", 8),
        ("CH3OH", "CH4O", 4 + 2),
        ("H2O", "H2O", 3),
        ("NaCl", "Cl4Na4", 8),
        ("table salt", "Cl4Na4", 8),
        ("diamond", "C8", 8),
        ("Cu", "Cu4", 4),
        ("ZnO", "O2Zn2", 4),
    ],
)
def test_names_and_formulas_are_structures(name, formula, n_atoms):
    (atoms,) = read_structures(name)
    assert atoms.get_chemical_formula() == formula
    assert len(atoms) == n_atoms


def test_a_crystal_says_which_lattice_it_has():
    (salt,) = read_structures("NaCl")
    assert "rocksalt, a = 5.64 Å" in salt.info["description"]
    assert np.allclose(salt.cell.array, 5.64 * np.eye(3))
    nearest = np.sort(salt.get_all_distances(mic=True)[0])[1:4]
    assert np.allclose(nearest, 2.82)


@pytest.mark.parametrize("smiles", ["C", "O", "N", "CO", "CN", "CCl", "CCO", "c1ccccc1"])
def test_a_smiles_stays_one(smiles):
    assert structure_by_name(smiles) is None


def test_structures_of_a_name_do_not_share_their_atoms():
    first = structure_by_name("caffeine")
    first.positions += 1.0
    assert not np.allclose(first.positions, structure_by_name("caffeine").positions)


def test_what_is_not_understood_names_what_is():
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install 'deepdft-lightning[view]'")
    with pytest.raises(ValueError, match=r"neither a file, a name .* nor a valid SMILES; the name 'caffeine' is known"):
        read_structures("caffein")
    with pytest.raises(ValueError, match="such as water, caffeine, benzene, NaCl, Cu"):
        read_structures("xyzzy")


def test_a_list_of_smiles_is_a_file_of_structures(tmp_path):
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install 'deepdft-lightning[view]'")
    (tmp_path / "x.smi").write_text("# two\nCCO ethanol\n\nO water molecule\n")
    ethanol, water = read_structures(str(tmp_path / "x.smi"))
    assert (ethanol.info["name"], water.info["name"]) == ("ethanol", "water molecule")
    assert len(read_structures(str(tmp_path / "x.smi"), frames=1)[0]) == 3
    (tmp_path / "bad.smi").write_text("CCO\nC(C\n")
    with pytest.raises(ValueError, match=r"bad\.smi, line 2: 'C\(C' is neither"):
        read_structures(str(tmp_path / "bad.smi"))


def test_devices_are_no_structures():
    with pytest.raises(ValueError, match="/dev/null: is a device or a pipe"):
        read_structures("/dev/null")
