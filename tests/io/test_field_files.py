"""Valid files that people have: headers, paddings and compressions that programs and scripts leave behind."""

import gzip
import io
import lzma
import tarfile
from pathlib import Path

import numpy as np
import pytest

import deepdft
from deepdft.errors import DensityFormatError, InputWarning
from deepdft.io.compression import decompress
from deepdft.io.formats.chgcar import parse_chgcar
from deepdft.io.occupancies import format_occupancies

CELL = "4 0 0\n0 5 0\n0 0 6\n"
VALUES = np.arange(1, 61, dtype=float)  # a grid of 3 × 4 × 5, so that the last line of seven numbers is short
SHARED = Path(__file__).parents[3] / "shared" / "data" / "vasp"


def chgcar(*, symbols="C H", counts="1 2", labels=("", "", ""), values=VALUES, per_line=7, padding=(), after=""):
    rows = [f"{0.1 * k} 0.2 0.3 {label}".rstrip() for k, label in enumerate(labels)]
    words = [f"{value:.11E}" for value in values] + list(padding)
    lines = [" ".join(words[start : start + per_line]) for start in range(0, len(words), per_line)]
    return "\n".join(["comment", "1.0", CELL + symbols, counts, "Direct", *rows, "", "3 4 5", *lines, after]).encode()


def read(text):
    return parse_chgcar(text, "CHGCAR")


def assert_values(density):
    np.testing.assert_allclose(density.values.ravel(order="F") * 120, VALUES)


@pytest.mark.parametrize("symbol", ["H.", "H.5", "H1.25", "H0.66"])
def test_hydrogens_with_a_fractional_charge_are_hydrogens(symbol):
    density = read(chgcar(symbols=f"C {symbol}"))
    assert density.atoms.get_chemical_symbols() == ["C", "H", "H"]
    assert_values(density)


@pytest.mark.parametrize(("written", "meant"), [("r", "Zr"), ("X", "Xe")])
def test_symbols_that_vasp_cuts_are_read_and_named(written, meant):
    with pytest.warns(InputWarning, match=f"'{written}' is read as {meant}"):
        assert read(chgcar(symbols=f"{written} H")).atoms.get_chemical_symbols() == [meant, "H", "H"]


@pytest.mark.parametrize("wrong", ["Q", "He2", "h", "1", "H.x"])
def test_symbols_that_are_none_are_refused(wrong):
    with pytest.raises(DensityFormatError, match="line 6: expected element symbols"):
        read(chgcar(symbols=f"C {wrong}"))


@pytest.mark.parametrize(
    "labels", [("Fe3+", "O2-", "O2-"), ("C1", "H1", "H2"), ("T F T C1", "F F F", "T T T H_a"), ("C", "H", "H")]
)
def test_labels_behind_positions_are_passed_over(labels):
    density = read(chgcar(labels=labels))
    np.testing.assert_allclose(density.atoms.get_scaled_positions()[:, 0], [0, 0.1, 0.2])


@pytest.mark.parametrize("labels", [("1", "", ""), ("0.5 0.5", "", ""), ("3+", "", "")])
def test_further_numbers_behind_positions_are_refused(labels):
    with pytest.raises(DensityFormatError, match="line 9: expected the position of an atom"):
        read(chgcar(labels=labels))


def test_more_than_twenty_elements_go_on_in_a_second_line():
    symbols = "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca\nSc Ti V"
    density = read(chgcar(symbols=symbols, counts=" ".join(["1"] * 20) + "\n1 1 1", labels=("",) * 23))
    assert density.atoms.numbers.tolist() == list(range(1, 24))
    assert_values(density)


def test_too_few_counts_are_refused():
    with pytest.raises(DensityFormatError, match="number of atoms of each of 3 elements"):
        read(chgcar(symbols="C H O", counts="1 2"))


@pytest.mark.parametrize("zero", ["0.00000000000E+00", "0.0", ".00000000000E+00", "-0.00000000000E+00", "0"])
def test_zeros_that_fill_the_last_line_are_left_out(zero):
    assert_values(read(chgcar(padding=[zero] * 3)))


@pytest.mark.parametrize(
    "padding",
    [
        ["0.00000000000E+00"] * 2,
        ["0.00000000000E+00"] * 4,
        ["0.00000000000E+00"] * 10,
        ["0.0", "0.0", "1.0E-30"],
        ["nan"] * 3,
    ],
    ids=["too few", "too many", "a line more", "not zero", "no number"],
)
def test_anything_else_behind_the_values_is_refused(padding):
    with pytest.raises(DensityFormatError, match="CHGCAR: not a valid CHGCAR"):
        read(chgcar(padding=padding))


@pytest.mark.parametrize("per_line", [5, 10])
def test_zeros_behind_full_lines_are_refused(per_line):
    with pytest.raises(DensityFormatError, match="more"):
        read(chgcar(per_line=per_line, padding=["0.00000000000E+00"] * per_line))


def occupancies(n_atoms, n_values):
    rows = np.random.default_rng(0).normal(size=(n_atoms, n_values)) * 10.0 ** np.arange(-n_values, 0)
    return np.array([[float(f"{x:.6e}") for x in row] for row in rows])


@pytest.mark.parametrize(("n_atoms", "n_values"), [(1005, 4), (3, 1200), (3, 120)])
def test_occupancies_of_many_atoms_and_many_waves_are_read_as_they_are_written(n_atoms, n_values):
    rows = occupancies(n_atoms, n_values)
    text = format_occupancies(rows)
    density = read(chgcar(symbols="C", counts=str(n_atoms), labels=("",) * n_atoms, after=text))
    np.testing.assert_array_equal(density.atom_arrays["occupancies"], rows)


def test_columns_of_occupancies_touch_where_both_have_four_digits():
    text = format_occupancies(occupancies(1001, 1001))
    assert "\naugmentation occupancies10011001\n" in text
    density = read(chgcar(symbols="C", counts="1001", labels=("",) * 1001, after=text))
    assert density.atom_arrays["occupancies"].shape == (1001, 1001)


def test_an_exponent_of_three_digits_has_no_letter_as_fortran_writes_it():
    rows = np.array([[1.5e-110, -2.25e-100, 0.0, 9.9999999e-1, -1.0]])
    assert format_occupancies(rows).splitlines()[1] == (
        "  0.1500000-109 -0.2250000E-99  0.0000000E+00  0.1000000E+01 -0.1000000E+01"
    )
    density = read(chgcar(symbols="C", counts="1", labels=("",), after=format_occupancies(rows)))
    np.testing.assert_allclose(density.atom_arrays["occupancies"], rows, rtol=1e-7)


def test_sets_that_are_not_those_of_the_atoms_are_refused():
    text = format_occupancies(occupancies(3, 4))
    with pytest.raises(DensityFormatError, match="not those of 3 atoms"):
        read(chgcar(after=text.replace("occupancies   3", "occupancies   2")))
    with pytest.warns(InputWarning, match="occupancies of 2 of 3 atoms"):
        read(chgcar(after=text[: text.index("augmentation occupancies   3")]))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs VASP's files of ../shared")
@pytest.mark.parametrize("name", ["CHGCAR.Li_spin.gz", "CHGCAR.NaCl_augmentation.gz"])
def test_occupancies_of_vasp_are_written_byte_for_byte(name, tmp_path):
    text = gzip.decompress((SHARED / name).read_bytes()).decode()
    density = deepdft.read_density(SHARED / name)
    written = "".join(format_occupancies(rows) for rows in density.atom_arrays.values())
    theirs = [
        line
        for line in text.splitlines()
        if "occupancies" in line or (len(line.split()[0:1]) and line[:4] in ("  0.", " -0."))
    ]
    ours = written.splitlines()
    assert len(ours) > 3
    assert set(ours) <= set(theirs)
    deepdft.write_density(tmp_path / "CHGCAR", density)
    again = deepdft.read_density(tmp_path / "CHGCAR")
    for key, rows in density.atom_arrays.items():
        np.testing.assert_array_equal(again.atom_arrays[key], rows)


def tar_of(path, names):
    with tarfile.open(path, "w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(chgcar())
            tar.addfile(info, io.BytesIO(chgcar()))
    return path.read_bytes()


class TestJoinedTars:
    def test_a_second_tar_is_not_left_out_without_a_word(self, tmp_path):
        both = tar_of(tmp_path / "a.tar", ["1.CHGCAR"]) + tar_of(tmp_path / "b.tar", ["2.CHGCAR"])
        (tmp_path / "a.tar").unlink()
        (tmp_path / "b.tar").unlink()
        (tmp_path / "both.tar").write_bytes(both)
        (tmp_path / "list.txt").write_text("both.tar\n")
        for source in (tmp_path / "both.tar", tmp_path / "list.txt", tmp_path):
            with pytest.raises(DensityFormatError, match=r"both\.tar: after the end of the tar"):
                deepdft.io.members(source)

    @pytest.mark.parametrize("n_zeros", [0, 512, 10240, 3 << 20])
    def test_zeros_may_follow(self, tmp_path, n_zeros):
        path = tmp_path / "a.tar"
        path.write_bytes(tar_of(path, ["1.CHGCAR"]) + bytes(n_zeros))
        assert len(deepdft.io.members(path)) == 1

    def test_a_single_byte_far_behind_is_found(self, tmp_path):
        path = tmp_path / "a.tar"
        path.write_bytes(tar_of(path, ["1.CHGCAR"]) + bytes(2 << 20) + b"x")
        with pytest.raises(DensityFormatError, match="there is more"):
            deepdft.io.members(path)


class TestCompression:
    @pytest.mark.parametrize("suffix", [".gz", ".zz", ".bz2", ".xz", ".zst", ".lz4"])
    def test_a_bomb_is_refused_before_it_fills_memory(self, suffix):
        from deepdft.io.compression import compress

        bomb = compress(bytes(200 << 20), suffix)
        if len(bomb) * 500 > 200 << 20:
            pytest.skip("this compression makes no bombs")
        with pytest.raises(DensityFormatError, match=rf"x\{suffix}: .*expands to more than"):
            decompress(bomb, f"x{suffix}")

    def test_an_old_unix_compression_is_named(self):
        with pytest.raises(DensityFormatError, match=r"CHGCAR\.Z: compressed by Unix compress"):
            decompress(b"\x1f\x9d\x90" + bytes(50), "CHGCAR.Z")

    def test_streams_one_after_another_are_read(self):
        assert decompress(gzip.compress(b"a") + gzip.compress(b"b"), "x.gz") == b"ab"
        assert decompress(lzma.compress(b"a") + lzma.compress(b"b"), "x.xz") == b"ab"

    @pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".zst"])
    def test_a_density_is_read_and_written_in_each(self, tmp_path, suffix):
        path = tmp_path / f"CHGCAR{suffix}"
        deepdft.write_density(path, read(chgcar()))
        assert_values(deepdft.read_density(path))
