"""CHGCAR and CHG files: every header VASP writes, spin, augmentation, and damage."""

import re

import ase
import numpy as np
import pytest
from ase.calculators.vasp import VaspChargeDensity
from hypothesis import given, settings
from hypothesis import strategies as st

from deepdft import DensityGrid
from deepdft.io import DensityFormatError, read_density, write_density
from deepdft.io.formats.chgcar import parse_chgcar
from deepdft.io.occupancies import format_occupancies

CELL = np.array([[4.0, 0.0, 0.0], [2.5, 4.5, 0.3], [-1.0, 1.5, 5.0]])
SHAPE = (3, 4, 5)
VALUES = np.random.default_rng(0).lognormal(0, 3, SHAPE)
VOLUME = abs(np.linalg.det(CELL))
FRACTIONAL = np.array([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5], [0.9, 0.8, -0.1]])

HEADER = """a comment
1.0
4.0 0.0 0.0
2.5 4.5 0.3
-1.0 1.5 5.0
C H
1 2
Direct
0.1 0.2 0.3
0.5 0.5 0.5
0.9 0.8 -0.1

3 4 5
"""

AUGMENTATION = """augmentation occupancies   1   7
  0.1000000E+00  0.2000000E+00  0.3000000E+00  0.4000000E+00  0.5000000E+00
  0.6000000E+00  0.7000000E+00
augmentation occupancies   2   2
  0.1000000E+00 -0.2000000E-11
augmentation occupancies   3   1
  0.0000000E+00
"""
OCCUPANCIES = np.array([np.arange(1, 8) / 10, [0.1, -0.2e-11, *[np.nan] * 5], [0.0, *[np.nan] * 6]])


def block(values=VALUES, per_line=5):
    numbers = [f" {x:.11E}" for x in values.ravel(order="F") * VOLUME]
    return "".join("".join(numbers[k : k + per_line]) + "\n" for k in range(0, len(numbers), per_line))


def parse(text):
    return parse_chgcar(text.encode(), "CHGCAR")


def with_header(old, new):
    assert old in HEADER
    return HEADER.replace(old, new) + block()


def some_density(**options):
    atoms = ase.Atoms("CHH", scaled_positions=FRACTIONAL, cell=CELL, pbc=True)
    return DensityGrid(VALUES, atoms, **options)


def test_values_are_divided_by_the_volume_and_x_is_fastest():
    density = parse(HEADER + block())
    np.testing.assert_allclose(density.values, VALUES, rtol=1e-11)
    np.testing.assert_allclose(density.n_electrons, VALUES.mean() * VOLUME)
    np.testing.assert_allclose(density.atoms.cell.array, CELL)
    np.testing.assert_allclose(density.atoms.positions, FRACTIONAL @ CELL, atol=1e-12)
    assert density.atoms.get_chemical_symbols() == ["C", "H", "H"]
    assert density.atoms.pbc.all()
    assert density.values.flags.c_contiguous
    assert density.info == {"comment": "a comment"}


def test_ase_reads_the_same(tmp_path):
    (tmp_path / "CHGCAR").write_text(HEADER + block() + AUGMENTATION + "3 4 5\n" + block(-VALUES) + AUGMENTATION)
    ours, theirs = read_density(tmp_path / "CHGCAR"), VaspChargeDensity(str(tmp_path / "CHGCAR"))
    np.testing.assert_allclose(ours.values, theirs.chg[0], rtol=1e-14)
    np.testing.assert_allclose(ours.channels["difference"], theirs.chgdiff[0], rtol=1e-14)
    np.testing.assert_allclose(ours.atoms.positions, theirs.atoms[0].positions, atol=1e-12)
    assert theirs.aug == AUGMENTATION == format_occupancies(ours.atom_arrays["occupancies"])
    np.testing.assert_array_equal(ours.atom_arrays["occupancies"], OCCUPANCIES)


def test_chg_files_have_ten_columns():
    np.testing.assert_allclose(parse(HEADER + block(per_line=10)).values, VALUES, rtol=1e-11)


def test_windows_line_ends_are_read():
    np.testing.assert_allclose(parse((HEADER + block()).replace("\n", "\r\n")).values, VALUES, rtol=1e-11)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [("2.0", 2 * CELL), (f"{-8 * VOLUME:.12f}", 2 * CELL), ("1.0 2.0 3.0", CELL * [1, 2, 3])],
    ids=["factor", "target volume", "three factors"],
)
@pytest.mark.parametrize("kind", ["Direct", "Cartesian", "kartesisch"])
def test_scale_factors(scale, expected, kind):
    text = HEADER.replace("\n1.0\n", f"\n{scale}\n").replace("Direct", kind)
    density = parse(text + block())
    np.testing.assert_allclose(density.atoms.cell.array, expected, rtol=1e-9)
    positions = FRACTIONAL @ expected if kind == "Direct" else FRACTIONAL @ np.linalg.inv(CELL) @ expected
    np.testing.assert_allclose(density.atoms.positions, positions, atol=1e-9)
    np.testing.assert_allclose(density.n_electrons, VALUES.mean() * VOLUME)  # the mean of the block is the count


def test_selective_dynamics_and_words_behind_positions():
    text = HEADER.replace("Direct", "Selective dynamics\nDirect").replace("0.5 0.5 0.5", "0.5 0.5 0.5 T F T")
    np.testing.assert_allclose(parse(text + block()).atoms.positions, FRACTIONAL @ CELL, atol=1e-12)
    np.testing.assert_allclose(
        parse(with_header("0.5 0.5 0.5", "0.5 0.5 0.5 H")).atoms.positions, FRACTIONAL @ CELL, atol=1e-12
    )


def test_a_left_handed_cell_keeps_positive_densities():
    density = parse(with_header("4.0 0.0 0.0", "-4.0 0.0 0.0"))
    assert np.linalg.det(density.atoms.cell.array) < 0
    assert density.values.min() > 0
    np.testing.assert_allclose(density.n_electrons, VALUES.mean() * VOLUME)


def test_a_species_may_appear_again_and_carry_the_name_of_its_potential():
    assert parse(with_header("C H\n1 2", "H_s C H/1a2b\n1 1 1")).atoms.get_chemical_symbols() == ["H", "C", "H"]


def test_noncollinear_blocks_are_magnetisation_channels():
    text = HEADER + "3 4 5\n".join(block(VALUES + k) for k in range(4))
    density = parse(text)
    assert list(density.channels) == ["magnetization_x", "magnetization_y", "magnetization_z"]
    np.testing.assert_allclose(density.channels["magnetization_z"], VALUES + 3, rtol=1e-10)


def test_moments_behind_the_occupancies_are_kept_apart():
    moments = "  0.1000000E+01  0.2000000E+01  0.3000000E+01\n"
    density = parse(HEADER + block() + AUGMENTATION + moments + "  3   4   5\n" + block() + AUGMENTATION)
    np.testing.assert_array_equal(density.atom_arrays["occupancies"], OCCUPANCIES)
    np.testing.assert_array_equal(density.atom_arrays["occupancies_difference"], OCCUPANCIES)
    assert density.info["magnetic_moments"] == moments


@pytest.mark.parametrize("compression", ["", ".zz", ".lz4", ".gz"])
def test_a_density_with_spin_and_augmentation_comes_back(tmp_path, compression):
    text = HEADER + block() + AUGMENTATION + " 1.0 2.0 3.0\n" + "3 4 5\n" + block(-VALUES / 3) + AUGMENTATION
    density = parse(text)
    path = tmp_path / f"CHGCAR{compression}"
    write_density(path, density)
    again = read_density(path)
    np.testing.assert_allclose(again.values, density.values, rtol=1e-11)
    np.testing.assert_allclose(again.channels["difference"], density.channels["difference"], rtol=1e-11)
    assert again.info == density.info
    assert again.atom_arrays.keys() == density.atom_arrays.keys() == {"occupancies", "occupancies_difference"}
    for rows in again.atom_arrays.values():
        np.testing.assert_array_equal(rows, OCCUPANCIES)


def test_atoms_that_are_not_grouped_keep_their_order_and_ase_reads_them(tmp_path):
    atoms = ase.Atoms("HCHOH", scaled_positions=np.random.default_rng(1).random((5, 3)), cell=CELL, pbc=True)
    write_density(tmp_path / "CHGCAR", DensityGrid(VALUES, atoms))
    again = read_density(tmp_path / "CHGCAR").atoms
    assert again.get_chemical_symbols() == ["H", "C", "H", "O", "H"]
    np.testing.assert_allclose(again.positions, atoms.positions, atol=1e-12)
    theirs = VaspChargeDensity(str(tmp_path / "CHGCAR"))
    np.testing.assert_allclose(theirs.chg[0], VALUES, rtol=1e-10)
    assert theirs.atoms[0].get_chemical_symbols() == ["H", "C", "H", "O", "H"]


def test_an_origin_moves_the_atoms_for_others_and_is_undone_by_us(tmp_path):
    density = some_density(origin=np.array([1.0, -2.0, 0.5]))
    density.atoms.pbc = [True, False, True]
    write_density(tmp_path / "CHGCAR", density)
    theirs = VaspChargeDensity(str(tmp_path / "CHGCAR")).atoms[0]
    np.testing.assert_allclose(theirs.positions, density.atoms.positions - density.origin, atol=1e-9)
    again = read_density(tmp_path / "CHGCAR")
    np.testing.assert_allclose(again.origin, density.origin)
    np.testing.assert_allclose(again.atoms.positions, density.atoms.positions, atol=1e-12)
    assert again.atoms.pbc.tolist() == [True, False, True]
    assert again.info["comment"] == "CH2"


def test_channels_that_a_chgcar_cannot_hold_are_refused(tmp_path):
    with pytest.raises(DensityFormatError, match=r"CHGCAR: cannot be written: .*'difference'.*got \('spin',\)"):
        write_density(tmp_path / "CHGCAR", some_density(channels={"spin": VALUES}))
    assert list(tmp_path.iterdir()) == []


class TestTemplate:
    @pytest.fixture
    def template(self, tmp_path):
        path = tmp_path / "CHGCAR_template"
        path.write_text(HEADER.replace("0.9 0.8 -0.1", "0.9 0.8 0.9") + block() + AUGMENTATION)
        return path

    def test_occupancies_are_copied_for_the_same_atoms(self, template, tmp_path):
        write_density(tmp_path / "CHGCAR", some_density(), template=template)
        assert VaspChargeDensity(str(tmp_path / "CHGCAR")).aug == AUGMENTATION

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (lambda d: d.atoms.translate(np.outer([0, 1, 0], [0.0, 0.1, 0.0])), "0.100 Å"),
            (lambda d: d.atoms.set_chemical_symbols("CHO"), "the atoms differ"),
            (lambda d: d.atoms.set_cell(CELL * 1.1), "the cells differ"),
        ],
    )
    def test_other_atoms_get_a_warning_and_no_occupancies(self, template, tmp_path, change, problem):
        density = some_density(atom_arrays={"occupancies": np.ones((3, 2))})
        change(density)
        with pytest.warns(UserWarning, match=problem):
            write_density(tmp_path / "CHGCAR", density, template=template)
        assert read_density(tmp_path / "CHGCAR").atom_arrays == {}

    def test_a_template_without_occupancies_gets_a_warning(self, tmp_path):
        write_density(tmp_path / "plain.CHGCAR", some_density())
        with pytest.warns(UserWarning, match="the template has none"):
            write_density(tmp_path / "CHGCAR", some_density(), template=tmp_path / "plain.CHGCAR")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("C H\n1 2", "1 2", "VASP 4's; insert a line with the symbols"),
        ("C H\n", "C Xx\n", "line 6: expected element symbols"),
        ("\n1 2\n", "\n1 2 3\n", "line 7: expected the number of atoms of each of 2 elements"),
        ("\n1 2\n", "\n1 2000000\n", "more atoms"),
        ("\n1 2\n", "\n1 3\n", "line 12: expected the position of an atom"),
        ("\n1 2\n", "\n1 1\n", "line 11: expected the grid"),
        ("4.0 0.0 0.0", "4.0 0.0", "line 3: expected a lattice vector"),
        ("4.0 0.0 0.0", "4.0 nan 0.0", "line 3: expected a lattice vector"),
        ("4.0 0.0 0.0", "0.0 0.0 0.0", "span no volume"),
        ("\n1.0\n", "\n0.0\n", "line 2: expected one or three scale factors"),
        ("\n1.0\n", "\nfoo\n", "line 2: expected one or three scale factors"),
        ("\n1.0\n", "\n-1.0 1.0 1.0\n", "none may be negative"),
        ("Direct", "0.1 0.2 0.3", "Direct"),
        ("0.5 0.5 0.5", "0.5 0.5 0.5 0.5", "line 10: expected the position of an atom"),
        ("3 4 5", "3 4", "expected the grid"),
        ("3 4 5", "3 4 0", "expected the grid"),
        ("3 4 5", "3 4 6", "3x4x6: expected 72 values, found 60, fewer"),
        ("3 4 5", "3 4 4", "3x4x4: expected 48 values, found 60, more"),
        ("3 4 5", "3000 4000 50000", "expected 600000000000 values, found 60"),
    ],
)
def test_a_wrong_header_is_named_with_file_and_line(old, new, message):
    with pytest.raises(DensityFormatError, match=rf"^CHGCAR: not a valid CHGCAR: .*{re.escape(message)}"):
        parse(with_header(old, new))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER, "density on the grid 3x4x5: expected 60 values, found 0"),
        (HEADER + block() + "3 4 5\n" + block() + "3 4 5\n" + block(), "3 blocks of values"),
        (HEADER + block() + "3 4 5\n" + block()[:-60], "difference on the grid"),
        (HEADER + block() + AUGMENTATION.replace("1   7", "1   9"), "augmentation occupancies: expected 9 numbers"),
        (HEADER + block() + AUGMENTATION.replace("   2   2", " what"), "behind them, 'augmentation occupancies what"),
        (HEADER + block() + AUGMENTATION + "3 4\n" + block() + AUGMENTATION, "neither the line with the grid nor"),
        (HEADER + block() + AUGMENTATION + block() + AUGMENTATION, "nor a magnetic moment for each of 3 atoms"),
        (HEADER + block() + AUGMENTATION + " 1.0 2.0\n3 4 5\n" + block(), "behind them, '1.0 2.0' is neither"),
        (HEADER + block() + AUGMENTATION + "3 4 5", "difference on the grid 3x4x5: expected 60 values, found 0"),
        (HEADER + block() + AUGMENTATION + "3 4", "behind them, '3 4' is neither"),
        (HEADER + block() + "another step\n", "'another' is not a number"),
        (HEADER[:50], "ends after line 5, where element symbols"),
    ],
)
def test_wrong_blocks_are_named(text, message):
    with pytest.raises(DensityFormatError, match=f"^CHGCAR: .*{message}"):
        parse(text)


TEXT = HEADER + block() + AUGMENTATION


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(TEXT) - 1), st.binary(max_size=3), st.integers(0, 40))
def test_damage_anywhere_gives_an_error_or_unshifted_values(place, noise, lost):
    damaged = TEXT[:place].encode() + noise + TEXT[place + lost :].encode()
    try:
        density = parse_chgcar(damaged, "CHGCAR")
    except DensityFormatError:
        return
    if density.shape == SHAPE:  # damage to the cell changes a common factor, damage to numbers a few next to it
        ratio = (density.values / VALUES).ravel(order="F")
        assert np.isclose(ratio, np.median(ratio), rtol=1e-9).sum() >= VALUES.size - 4


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(HEADER + block()) - 2))
def test_a_truncated_file_is_an_error(end):
    with pytest.raises(DensityFormatError, match="CHGCAR"):
        parse((HEADER + block())[:end])


def test_occupancies_glued_to_the_last_value_are_refused(tmp_path):
    """The value would be read as far as it goes: 3.6E-01 without its last digit is 3.6."""
    path = tmp_path / "CHGCAR"
    atoms = ase.Atoms("H", cell=[3.0, 3.0, 3.0], pbc=True)
    density = DensityGrid(np.full((2, 2, 2), 0.01), atoms, atom_arrays={"occupancies": np.array([[0.5, 0.25]])})
    write_density(path, density)
    whole = path.read_text()
    last = whole.index("augmentation")
    path.write_text(whole[: last - 2] + whole[last:])
    with pytest.raises(DensityFormatError, match="CHGCAR: "):
        read_density(path)
