"""What readers of structure files pass over is read, refused or warned of."""

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.io import write

from deepdft.errors import InputWarning
from deepdft.io.structures import read_structures, total_charge

WATER = """\
ATOM      1  O   HOH A   1       0.000   0.000   0.117  1.00  0.00           O
ATOM      2  H1  HOH A   1       0.000   0.757  -0.469  1.00  0.00           H
ATOM      3  H2  HOH A   1       0.000  -0.757  -0.469  1.00  0.00           H
"""


def read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    return read_structures(str(tmp_path / name))


def named(name, residue, number=1, position=(0.0, 0.0, 0.0), record="ATOM  "):
    """A line of a PDB file without an element; the name has its four columns."""
    x, y, z = position
    return f"{record}{number:5d} {name:<4} {residue:>3} A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00\n"


@pytest.mark.parametrize("size", ["    1.000    1.000    1.000", "    0.000    0.000    0.000"])
def test_a_placeholder_cell_of_a_pdb_is_left_out(tmp_path, size):
    with pytest.warns(InputWarning, match="placeholder"):
        (atoms,) = read(tmp_path, "x.pdb", f"CRYST1{size}  90.00  90.00  90.00 P 1           1\n{WATER}END\n")
    assert not atoms.pbc.any()
    assert atoms.cell.rank == 0


def test_the_cell_of_a_pdb_is_that_of_all_its_models(tmp_path):
    cell = "CRYST1   10.000   11.000   12.000  90.00  90.00  90.00 P 1           1\n"
    models = "".join(f"MODEL     {number:4d}\n{WATER}ENDMDL\n" for number in (1, 2))
    found = read(tmp_path, "x.pdb", f"{cell}{models}END\n")
    assert [atoms.cell.lengths().tolist() for atoms in found] == [[10.0, 11.0, 12.0]] * 2
    assert all(atoms.pbc.all() for atoms in found)


@pytest.mark.parametrize("end", ["END\n", ""])
def test_models_of_a_pdb_end_with_the_last_one_that_has_atoms(tmp_path, end):
    models = "".join(f"MODEL     {number:4d}\n{WATER}ENDMDL\n" for number in (1, 2))
    assert [len(atoms) for atoms in read(tmp_path, "x.pdb", models + end)] == [3, 3]
    assert len(read_structures(str(tmp_path / "x.pdb"), frames=-1)[0]) == 3


def test_atoms_behind_the_last_end_of_a_pdb_are_read(tmp_path):
    assert [len(atoms) for atoms in read(tmp_path, "x.pdb", f"{WATER}END\n{WATER}")] == [3, 3]


@pytest.mark.parametrize(
    ("name", "residue", "element"),
    [
        (" HE1", "HIS", "H"),
        ("HE21", "GLN", "H"),
        ("HG11", "VAL", "H"),
        (" HG ", "SER", "H"),
        ("HG  ", "SER", "H"),  # flush left, as many programs write
        ("HE2 ", "LIG", "H"),
        (" CA ", "ALA", "C"),
        ("CA  ", "ALA", "C"),
        ("CA  ", " CA", "Ca"),
        ("HG  ", " HG", "Hg"),
        ("ZN  ", " ZN", "Zn"),
        ("NA  ", "NA+", "Na"),
        (" C1 ", "LIG", "C"),
        ("1HB ", "ALA", "H"),
        (" OXT", "ALA", "O"),
    ],
)
def test_names_of_atoms_tell_elements_where_a_pdb_names_none(tmp_path, name, residue, element):
    (atoms,) = read(tmp_path, "x.pdb", named(name, residue) + "END\n")
    assert list(atoms.symbols) == [element]


def test_an_element_that_is_guessed_is_reported(tmp_path):
    with pytest.warns(InputWarning, match="CL1 as Cl"):
        (atoms,) = read(tmp_path, "x.pdb", named("CL1 ", "LIG"))
    assert list(atoms.symbols) == ["Cl"]


def test_a_name_of_hydrogen_or_mercury_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'HG' of residue LIG is H or Hg: give its element"):
        read(tmp_path, "x.pdb", named("HG  ", "LIG"))


def test_of_alternate_locations_the_first_is_read(tmp_path):
    first = "ATOM      1  O  AHOH A   2       0.000   0.000   9.000  0.60  0.00           O\n"
    second = "ATOM      2  O  BHOH A   2       0.300   0.000   9.000  0.40  0.00           O\n"
    with pytest.warns(InputWarning, match="1 alternate location"):
        (atoms,) = read(tmp_path, "x.pdb", first + second + WATER)
    assert atoms.positions[0].tolist() == [0.0, 0.0, 9.0]
    assert len(atoms) == 4


SDF = """\
{name}
  own

{n:3d}  0  0  0  0  0  0  0  0  0999 V2000
{atoms}{more}M  END
$$$$
"""


def sdf(atoms: ase.Atoms, more: str = "", code: int = 0) -> str:
    lines = [
        f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:<3} 0{code:3d}  0  0  0  0\n"
        for symbol, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    return SDF.format(name="x", n=len(atoms), atoms="".join(lines), more=more)


def test_all_molecules_of_an_sdf_are_frames(tmp_path):
    text = sdf(molecule("H2O")) + sdf(molecule("CH4")) + sdf(molecule("N2"))
    assert [len(atoms) for atoms in read(tmp_path, "x.sdf", text)] == [3, 5, 2]
    assert len(read_structures(str(tmp_path / "x.sdf"), frames="1")[0]) == 5
    with pytest.raises(ValueError, match="no frame 3"):
        read_structures(str(tmp_path / "x.sdf"), frames=3)


def test_an_sdf_has_the_charge_it_says(tmp_path):
    one, other = sdf(molecule("OH"), more="M  CHG  2   1  -2   2   1\n"), sdf(molecule("OH")[:1], code=5)
    assert [total_charge(atoms) for atoms in read(tmp_path, "x.sdf", one + other)] == [-1, -1]


def test_partial_occupancies_are_refused(tmp_path):
    crystal = bulk("NaCl", "rocksalt", a=5.64)
    write(tmp_path / "x.cif", crystal)
    text = (tmp_path / "x.cif").read_text()
    assert len(read_structures(str(tmp_path / "x.cif"))[0]) == 2
    lines = [line.replace("1.0000", "0.7000") if line.split()[:1] == ["Na"] else line for line in text.splitlines()]
    with pytest.raises(ValueError, match=r"y\.cif: sites are partly occupied \(Na 0\.7\)"):
        read(tmp_path, "y.cif", "\n".join(lines) + "\n")


@pytest.mark.parametrize("key", ["charge", "total_charge", "net_charge"])
def test_a_charge_counts_by_whatever_name(tmp_path, key):
    text = f'1\nProperties=species:S:1:pos:R:3 {key}=-1 pbc="F F F"\nCl 0 0 0\n'
    assert total_charge(read(tmp_path, "x.xyz", text)[0]) == -1


def test_ghost_atoms_are_left_out_with_a_word(tmp_path):
    with pytest.warns(InputWarning, match="1 ghost atom"):
        (atoms,) = read(tmp_path, "x.xyz", "2\n\nH 0 0 0\nX 0 0 1\n")
    assert list(atoms.symbols) == ["H"]
    with pytest.raises(ValueError, match="X is not an element"):
        read(tmp_path, "y.xyz", "1\n\nX 0 0 1\n")


def test_ions_of_a_gromacs_file_are_no_carbon_and_nitrogen(tmp_path):
    rows = [("SOL", "OW", 0.1), ("SOL", "HW1", 0.2), ("CL", "CL", 1.0), ("NA", "NA", 1.5), ("ALA", "CA", 2.0)]
    lines = [
        f"{i:5d}{residue:<5}{name:>5}{i:5d}{x:8.3f}{0.0:8.3f}{0.0:8.3f}\n"
        for i, (residue, name, x) in enumerate(rows, start=1)
    ]
    (atoms,) = read(tmp_path, "x.gro", f"t\n{len(rows):5d}\n{''.join(lines)}   3.0   3.0   3.0\n")
    assert list(atoms.symbols) == ["O", "H", "Cl", "Na", "C"]


def test_a_frame_is_named_by_its_number(tmp_path):
    good, bad = molecule("H2O"), molecule("H2O")
    bad.positions[1] = bad.positions[0] + 0.05
    write(tmp_path / "x.xyz", [good, bad])
    with pytest.raises(ValueError, match=r"x\.xyz, frame 1: H2O: .* 0\.0866 Å apart"):
        read_structures(str(tmp_path / "x.xyz"))
    assert np.isfinite(read_structures(str(tmp_path / "x.xyz"), frames=0)[0].positions).all()
