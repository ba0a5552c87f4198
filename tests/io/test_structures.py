"""Which structures a name stands for."""

import sys

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.io import write

from deepdft.density import DensityGrid
from deepdft.io import write_density
from deepdft.io.structures import read_structures, total_charge


@pytest.fixture
def trajectory(tmp_path):
    frames = [molecule("H2O"), molecule("CH4"), molecule("NH3")]
    write(tmp_path / "frames.xyz", frames)
    return str(tmp_path / "frames.xyz")


@pytest.mark.parametrize(
    ("frames", "formulas"),
    [(":", ["H2O", "CH4", "H3N"]), ("1", ["CH4"]), (-1, ["H3N"]), ("::2", ["H2O", "H3N"])],
)
def test_frames_are_chosen_by_index_or_slice(trajectory, frames, formulas):
    assert [atoms.get_chemical_formula() for atoms in read_structures(trajectory, frames=frames)] == formulas


@pytest.mark.parametrize("frames", ["7", "5:", "nonsense"])
def test_frames_that_are_not_there_are_refused(trajectory, frames):
    with pytest.raises(ValueError, match=r"frames\.xyz"):
        read_structures(trajectory, frames=frames)


def test_a_crystal_can_be_read_as_a_molecule(tmp_path):
    write(tmp_path / "POSCAR", bulk("NaCl", "rocksalt", a=5.64))
    assert read_structures(str(tmp_path / "POSCAR"))[0].pbc.all()
    assert not read_structures(str(tmp_path / "POSCAR"), pbc=False)[0].pbc.any()


@pytest.mark.parametrize("name", ["m.cube", "m.cube.gz", "m.h5", "CHGCAR", "m.CHGCAR.zz"])
def test_the_structure_of_a_density_repeats_as_the_file_says(tmp_path, name):
    for structure in (molecule("CH4"), bulk("NaCl", "rocksalt", a=5.64)):
        if not structure.cell.rank:
            structure.cell = [6.0, 7.0, 8.0]
        write_density(tmp_path / name, DensityGrid(np.ones((4, 4, 4)), structure))
        (found,) = read_structures(str(tmp_path / name))
        assert found.pbc.tolist() == structure.pbc.tolist()
        assert str(found.symbols) == str(structure.symbols)
        assert found.positions == pytest.approx(structure.positions, abs=1e-5)


@pytest.mark.parametrize("name", ["CHG_water.xyz", "CHGCAR-1.cif", "relaxed.vasp"])
def test_a_structure_with_the_name_of_a_density_is_a_structure(tmp_path, name):
    write(tmp_path / name, bulk("Cu", cubic=True), format="vasp" if name.endswith("vasp") else None)
    assert len(read_structures(str(tmp_path / name))[0]) == 4


def test_a_damaged_density_is_named(tmp_path):
    (tmp_path / "m.cube").write_text("nothing\n")
    with pytest.raises(ValueError, match=r"structure=.*m\.cube: "):
        read_structures(str(tmp_path / "m.cube"))
    write_density(tmp_path / "w.cube", DensityGrid(np.ones((2, 2, 2)), bulk("Cu")))
    with pytest.raises(ValueError, match=r"w\.cube: no frame 3"):
        read_structures(str(tmp_path / "w.cube"), frames=3)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere/water\.xyz: no such file"):
        read_structures("nowhere/water.xyz")


def test_a_folder_is_no_structure(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_structures(str(tmp_path))


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "damaged.cif").write_text("not a crystal\n")
    with pytest.raises(ValueError, match=r"damaged\.cif"):
        read_structures(str(tmp_path / "damaged.cif"))


def test_positions_that_are_no_numbers_are_refused(tmp_path):
    (tmp_path / "nan.xyz").write_text("1\n\nH nan 0.0 0.0\n")
    with pytest.raises(ValueError, match="not finite"):
        read_structures(str(tmp_path / "nan.xyz"))


def test_without_rdkit_a_smiles_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ModuleNotFoundError, match=r"deepdft-lightning\[view\]"):
        read_structures("CCO")


def test_a_smiles_gives_a_molecule_with_hydrogens_and_sensible_bonds():
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install 'deepdft-lightning[view]'")
    (ethanol,) = read_structures("CCO")
    assert ethanol.get_chemical_formula() == "C2H6O"
    distances = np.sort(ethanol.get_all_distances()[np.triu_indices(9, 1)])
    assert 0.9 < distances[0] < 1.0  # O-H
    assert not ethanol.pbc.any()


def test_the_same_smiles_gives_the_same_structure():
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install 'deepdft-lightning[view]'")
    first, second = read_structures("CC(=O)O")[0], read_structures("CC(=O)O")[0]
    np.testing.assert_array_equal(first.positions, second.positions)


@pytest.mark.parametrize(
    ("smiles", "message"), [("[Na+].[Cl-]", "2 fragments"), ("C(C", "neither"), ("POSCAR", "neither")]
)
def test_what_is_no_molecule_is_refused(smiles, message):
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install 'deepdft-lightning[view]'")
    with pytest.raises(ValueError, match=message):
        read_structures(smiles)


@pytest.mark.parametrize(("smiles", "charge"), [("[OH-]", -1), ("C[NH3+]", 1), ("[NH3+]CC([O-])=O", 0)])
def test_a_smiles_has_the_charge_it_says(smiles, charge):
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install 'deepdft-lightning[view]'")
    (atoms,) = read_structures(smiles)
    assert total_charge(atoms) == charge


def test_a_charge_in_a_file_counts_and_the_noise_of_fitted_charges_does_not():
    water = molecule("H2O")
    assert total_charge(water) == 0
    water.set_initial_charges([-0.7, 0.34, 0.37])
    assert total_charge(water) == 0
    for charge, expected in ((2, 2), (-1.0, -1), ("unknown", 0), (np.nan, 0)):
        water.info["charge"] = charge
        assert total_charge(water) == expected
