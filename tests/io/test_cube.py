"""Cube files: units, voxels, several values, every header line, and damage."""

import re

import ase
import numpy as np
import pytest
from ase.io.cube import read_cube
from ase.units import Bohr
from hypothesis import given, settings
from hypothesis import strategies as st

from deepdft import DensityGrid
from deepdft.io import DensityFormatError, read_density, write_density
from deepdft.io.formats.cube import parse_cube

SHAPE = (2, 3, 8)
VALUES = np.random.default_rng(0).lognormal(0, 3, SHAPE)  # e/bohr³
VOXELS = np.array([[0.5, 0.0, 0.0], [0.1, 0.6, 0.0], [-0.2, 0.1, 0.4]])  # bohr
CELL = VOXELS * np.array(SHAPE)[:, None] * Bohr

HEADER = """a comment
another
2 1.0 -2.0 0.5
2 0.5 0.0 0.0
3 0.1 0.6 0.0
8 -0.2 0.1 0.4
6 6.0 1.0 2.0 3.0
1 1.0 0.0 0.5 -1.0
"""


def block(values=VALUES):
    rows = values.reshape(6, -1)
    lines = [" ".join(f"{x:.8E}" for x in row[k : k + 6]) for row in rows for k in range(0, len(row), 6)]
    return "\n".join(lines) + "\n"


def parse(text):
    return parse_cube(text.encode(), "x.cube")


def replaced(old, new):
    assert old in HEADER
    return HEADER.replace(old, new, 1)


def some_density(**options):
    atoms = ase.Atoms("CH", positions=[[0.1, 0.2, 0.3], [5.0, -1.0, 2.0]], cell=CELL)
    return DensityGrid(VALUES / Bohr**3, atoms, **options)


def test_lengths_are_bohr_and_values_per_cubic_bohr_with_z_fastest():
    density = parse(HEADER + block())
    np.testing.assert_allclose(density.values, VALUES / Bohr**3, rtol=1e-8)
    np.testing.assert_allclose(density.n_electrons, VALUES.sum() * abs(np.linalg.det(VOXELS)), rtol=1e-8)
    np.testing.assert_allclose(density.atoms.cell.array, CELL)
    np.testing.assert_allclose(density.origin, np.array([1.0, -2.0, 0.5]) * Bohr)
    np.testing.assert_allclose(density.atoms.positions, np.array([[1.0, 2.0, 3.0], [0.0, 0.5, -1.0]]) * Bohr)
    assert density.atoms.get_chemical_symbols() == ["C", "H"]
    assert not density.atoms.pbc.any()
    assert density.info == {"comment": "a comment"}


def test_ase_reads_the_same(tmp_path):
    (tmp_path / "x.cube").write_text(HEADER + block())
    ours = read_density(tmp_path / "x.cube")
    with (tmp_path / "x.cube").open() as file:
        theirs = read_cube(file)
    np.testing.assert_allclose(ours.values, theirs["data"] / Bohr**3, rtol=1e-14)
    np.testing.assert_allclose(ours.atoms.positions, theirs["atoms"].positions, atol=1e-12)
    np.testing.assert_allclose(ours.atoms.cell.array, theirs["atoms"].cell.array, atol=1e-12)
    np.testing.assert_allclose(ours.origin, theirs["origin"], atol=1e-12)


def test_ase_reads_what_is_written(tmp_path):
    density = some_density(origin=np.array([1.0, 2.0, -3.0]))
    write_density(tmp_path / "x.cube", density)
    with (tmp_path / "x.cube").open() as file:
        theirs = read_cube(file)
    np.testing.assert_allclose(theirs["data"], VALUES, rtol=1e-5)
    np.testing.assert_allclose(theirs["atoms"].positions, density.atoms.positions, atol=1e-9)
    np.testing.assert_allclose(theirs["atoms"].cell.array, CELL, atol=1e-9)
    np.testing.assert_allclose(theirs["origin"], density.origin, atol=1e-9)


def test_what_ase_writes_is_read(tmp_path):  # one value a line, no line end behind the last
    from ase.io.cube import write_cube

    density = some_density()
    with (tmp_path / "x.cube").open("w") as file:
        write_cube(file, density.atoms, VALUES)
    np.testing.assert_allclose(read_density(tmp_path / "x.cube").values, density.values, rtol=1e-6)


def test_negative_numbers_of_voxels_mean_angstrom():
    text = HEADER.replace("\n2 0.5", "\n-2 0.5").replace("\n3 0.1", "\n-3 0.1").replace("\n8 -0.2", "\n-8 -0.2")
    density = parse(text + block())
    np.testing.assert_allclose(density.atoms.cell.array, CELL / Bohr)
    np.testing.assert_allclose(density.atoms.positions[0], [1.0, 2.0, 3.0])
    np.testing.assert_allclose(density.origin, [1.0, -2.0, 0.5])
    np.testing.assert_allclose(density.values, VALUES / Bohr**3, rtol=1e-8)


def test_several_values_per_voxel_are_channels():
    text = replaced("2 1.0 -2.0 0.5\n", "2 1.0 -2.0 0.5 3\n")
    density = parse(text + block(np.stack([VALUES, VALUES + 1, VALUES + 2], axis=-1)))
    np.testing.assert_allclose(density.values, VALUES / Bohr**3, rtol=1e-7)
    assert list(density.channels) == ["value_2", "value_3"]
    np.testing.assert_allclose(density.channels["value_3"], (VALUES + 2) / Bohr**3, rtol=1e-7)


@pytest.mark.parametrize("orbitals", [" 2 7 8\n", " 2\n 7 8\n", " 2 7\n 8\n"])
@pytest.mark.parametrize("n_fields", ["", " 1", " 2"])
def test_a_negative_number_of_atoms_announces_orbitals(orbitals, n_fields):
    text = replaced("2 1.0 -2.0 0.5\n", f"-2 1.0 -2.0 0.5{n_fields}\n") + orbitals
    density = parse(text + block(np.stack([VALUES, -VALUES], axis=-1)))
    np.testing.assert_allclose(density.values, VALUES / Bohr**3, rtol=1e-7)
    np.testing.assert_allclose(density.channels["orbital_8"], -VALUES / Bohr**3, rtol=1e-7)


def test_charges_that_are_not_the_atomic_numbers_are_kept(tmp_path):
    density = parse(replaced("6 6.0 ", "6 4.0 ") + block())
    assert density.info["charges"] == "4 1"
    write_density(tmp_path / "x.cube", density)
    assert read_density(tmp_path / "x.cube").info["charges"] == "4 1"
    assert "charges" not in parse(replaced("6 6.0 ", "6 0.0 ").replace("1 1.0 0.0", "1 0.0 0.0") + block()).info


def test_our_own_cubes_remember_periodicity_and_channels(tmp_path):
    density = some_density(channels={"difference": VALUES / 7})
    density.atoms.pbc = [True, True, False]
    write_density(tmp_path / "x.cube", density, comment="a slab")
    again = read_density(tmp_path / "x.cube")
    assert again.atoms.pbc.tolist() == [True, True, False]
    np.testing.assert_allclose(again.channels["difference"], density.channels["difference"], rtol=1e-5)
    assert again.info == {"comment": "a slab"}


def test_periodicity_can_be_given(tmp_path):
    (tmp_path / "x.cube").write_text(HEADER + block())
    assert read_density(tmp_path / "x.cube", pbc=True).atoms.pbc.all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("another", "OUTER LOOP: Z, MIDDLE LOOP: Y, INNER LOOP: X", "order of loops"),
        ("2 1.0 -2.0 0.5", "2 1.0 -2.0", "line 3: expected number of atoms and origin"),
        ("2 1.0 -2.0 0.5", "2.5 1.0 -2.0 0.5", "line 3: expected number of atoms and origin"),
        ("2 1.0 -2.0 0.5", "2 1.0 -2.0 0.5 2", "expected 96 values, found 48, fewer"),
        ("2 1.0 -2.0 0.5", "200000 1.0 -2.0 0.5", "200000 atoms, more"),
        ("2 1.0 -2.0 0.5", "3 1.0 -2.0 0.5", "line 9: expected number, charge and position"),
        ("2 1.0 -2.0 0.5", "1 1.0 -2.0 0.5", "expected 48 values, found 53, more"),
        ("2 1.0 -2.0 0.5", "-2 1.0 -2.0 0.5", "numbers of orbitals"),
        ("3 0.1 0.6 0.0", "3 0.1 0.6", "line 5: expected number of voxels"),
        ("3 0.1 0.6 0.0", "0 0.1 0.6 0.0", "line 5: 0 is not a number of voxels"),
        ("3 0.1 0.6 0.0", "2.5 0.1 0.6 0.0", "line 5: 2.5 is not a number of voxels"),
        ("3 0.1 0.6 0.0", "-3 0.1 0.6 0.0", "all positive (bohr) or all negative"),
        ("3 0.1 0.6 0.0", "4 0.1 0.6 0.0", "expected 64 values, found 48"),
        ("3 0.1 0.6 0.0", "3 1.0 0.0 0.0", "cell with a volume"),
        ("1 1.0 0.0 0.5 -1.0", "1 1.0 0.0 0.5", "line 8: expected number, charge and position"),
        ("1 1.0 0.0 0.5 -1.0", "500 1.0 0.0 0.5 -1.0", "atomic numbers"),
    ],
)
def test_a_wrong_header_is_named_with_file_and_line(old, new, message):
    with pytest.raises(DensityFormatError, match=rf"^x\.cube: not a valid cube: .*{re.escape(message)}"):
        parse(replaced(old, new) + block())


TEXT = HEADER + block()


@settings(max_examples=300, deadline=None)
@given(st.integers(len(HEADER), len(TEXT) - 1), st.binary(max_size=3), st.integers(0, 30))
def test_damage_to_the_values_gives_an_error_or_unshifted_values(place, noise, lost):
    damaged = TEXT[:place].encode() + noise + TEXT[place + lost :].encode()
    try:
        density = parse_cube(damaged, "x.cube")
    except DensityFormatError:
        return
    same = np.isclose(density.values, VALUES / Bohr**3, rtol=1e-6)
    assert same.sum() >= VALUES.size - 4  # what was overwritten


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(TEXT) - 2))
def test_a_truncated_file_is_an_error(end):
    with pytest.raises(DensityFormatError, match=r"x\.cube"):
        parse(TEXT[:end])
