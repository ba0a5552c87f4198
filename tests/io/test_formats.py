"""`read_density` and `write_density`: format by name or content, compression, round trips, whole files only."""

from dataclasses import replace

import ase
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepdft
from deepdft import DensityGrid
from deepdft.errors import InputWarning
from deepdft.io import DensityFormatError, read_density, write_density
from deepdft.io.formats import format_of, parse_density, serialise
from deepdft.io.text import quoted
from deepdft.io.vasp_names import is_derived, is_run_density

NAMES = ["x.cube", "x.cube.gz", "CHGCAR", "x.CHGCAR.zz", "x.chgcar.lz4", "x.vasp", "x.h5", "x.h5.gz"]


def some_density(seed=0, shape=(3, 5, 7), origin=True):
    rng = np.random.default_rng(seed)
    cell = rng.normal(size=(3, 3)) + 4 * np.eye(3)[rng.permutation(3)]  # every second one is left-handed
    n = int(rng.integers(1, 9))
    atoms = ase.Atoms(rng.integers(1, 90, n), rng.normal(size=(n, 3)) * 9, cell=cell, pbc=rng.random(3) < 0.5)
    values = rng.lognormal(0, 6, shape) * rng.choice([1, 1, 1, -1, 0], shape)
    return DensityGrid(values, atoms, rng.normal(size=3) * 5 if origin else np.zeros(3), info={"comment": "some text"})


def assert_same(one, other):
    np.testing.assert_allclose(one.values, other.values, rtol=1e-5)
    np.testing.assert_allclose(one.atoms.cell.array, other.atoms.cell.array, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(one.atoms.positions, other.atoms.positions, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(one.origin, other.origin, rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(one.atoms.numbers, other.atoms.numbers)
    np.testing.assert_array_equal(one.atoms.pbc, other.atoms.pbc)
    np.testing.assert_allclose(one.points(), other.points(), atol=1e-7)
    np.testing.assert_allclose(one.n_electrons, other.n_electrons, rtol=1e-4)
    assert one.info == other.info


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 10**6), st.booleans())
def test_what_is_written_is_read_back(name, seed, origin):
    density = some_density(seed, origin=origin)
    assert_same(parse_density(serialise(density, name, "some text"), name), density)


@pytest.mark.parametrize("name", NAMES)
def test_files_are_read_by_name_and_by_content(tmp_path, name):
    density = some_density()
    write_density(tmp_path / name, density)
    assert_same(read_density(tmp_path / name), density)
    (tmp_path / name).rename(tmp_path / "nameless")
    assert_same(deepdft.read_density(str(tmp_path / "nameless")), density)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.cube", "cube"),
        ("b.CUB.gz", "cube"),
        ("CHGCAR", "chgcar"),
        ("CHG", "chgcar"),
        ("CHGCAR_000001", "chgcar"),
        ("CHGCAR2.lz4", "chgcar"),
        ("AECCAR0", "chgcar"),
        ("chgcar", "chgcar"),
        ("run/Chgcar.gz", "chgcar"),
        ("aeccar2", "chgcar"),
        ("000001.CHGCAR.lz4", "chgcar"),
        ("x.chgcar.zz", "chgcar"),
        ("x.vasp", "chgcar"),
        ("x.h5", "h5"),
        ("CHGCAR.cube", "cube"),
        ("CHGCAR.json", None),
        ("chgcar.sh", None),
        ("CHGCAR.zip", None),
        ("CHGCAR.tar.gz", None),
        ("chgcars", None),
        ("CHGNET.md", None),
        ("x.tar", None),
        ("x.zz", None),
    ],
)
def test_names_tell_formats(name, expected):
    found = format_of(name)
    assert (None if found is None else found.name) == expected


@pytest.mark.parametrize(
    "name", ["CHGCAR", "run/chgcar_7.gz", "CHGCAR.vasp", "CHG_1.CHGCAR.zz", "AECCAR0.CHGCAR", "sum.chgcar"]
)
def test_names_tell_the_density_of_a_calculation(name):
    assert is_run_density(name)
    assert not is_derived(name, beside_chgcar=True)


@pytest.mark.parametrize("name", ["AECCAR0", "run/AECCAR2.gz", "PARCHG.0001.ALLK", "CHGDIFF.vasp", "CHGDIFF"])
def test_names_tell_parts_of_a_density(name):
    assert is_derived(name, beside_chgcar=False)
    assert not is_run_density(name)


@pytest.mark.parametrize(
    "name",
    [
        "CHG",
        "chg.lz4",
        "CHG_3",
        "CHGCAR_sum",
        "CHGCAR_mag.gz",
        "CHGCAR.bak",
        "CHGCAR.old",
        "CHGCAR_diff.vasp",
        "CHGCAR~",
    ],
)
def test_names_tell_copies_and_combinations_beside_a_chgcar(name):
    assert is_derived(name, beside_chgcar=True)
    assert not is_derived(name, beside_chgcar=False)
    assert not is_run_density(name)


@pytest.mark.parametrize("name", ["CHG.cube", "x.vasp", "INCAR", "CHGCAR2", "CHGCAR.Li_spin", "CHGCAR_summit"])
def test_other_names_are_not_those_of_derived_densities(name):
    assert not is_derived(name, beside_chgcar=True)


@pytest.mark.parametrize("name", ["ELFCAR", "LOCPOT.gz", "ELFCAR_2"])
def test_other_fields_of_vasp_are_questioned(tmp_path, name):
    content = serialise(some_density(), "CHGCAR.gz" if name.endswith(".gz") else "CHGCAR", "")
    (tmp_path / name).write_bytes(content)
    with pytest.warns(InputWarning, match=rf"{name}: by its name this is no electron density \(.* electrons for "):
        read_density(tmp_path / name)


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_an_empty_file_is_an_error(tmp_path, data):
    (tmp_path / "x.cube").write_bytes(data)
    with pytest.raises(DensityFormatError, match=r"x\.cube: the file is empty"):
        read_density(tmp_path / "x.cube")


@pytest.mark.parametrize("data", [b"some text\nand more\n", b"\x00\x01\x02", b"3\n\nH 0 0 0\nH 1 1 1\nO 2 2 2\n"])
def test_an_unknown_content_is_an_error(tmp_path, data):
    (tmp_path / "thing").write_bytes(data)
    with pytest.raises(DensityFormatError, match="thing: neither a CHGCAR, a cube nor an HDF5 file"):
        read_density(tmp_path / "thing")


GARBAGE = b"\x1b[2J\x00\xff\x07\x9b"


@pytest.mark.parametrize("name", ["x.cube", "CHGCAR"])
def test_bytes_that_are_no_text_are_not_printed(name):
    data = serialise(some_density(), name, "")
    lines = data.splitlines(keepends=True)
    for n in range(2, 30):  # behind the comments, at the beginning of a line or from there on
        for damaged in ([*lines[:n], GARBAGE, *lines[n:]], [*lines[:n], GARBAGE * 9]):
            with pytest.raises(DensityFormatError) as error:
                parse_density(b"".join(damaged), name)
            assert not any(letter in str(error.value) for letter in ("\\x", "[2J", "\x1b", "\ufffd"))


def test_text_is_quoted_as_it_is():
    assert quoted("  H  O\t") == "'H  O'"
    assert quoted("Å and °".encode()) == "'Å and °'"
    assert quoted("x" * 100) == repr("x" * 60)
    assert quoted(GARBAGE) == quoted(GARBAGE.decode("latin-1")) == "bytes that are no text"


@pytest.mark.parametrize("name", ["x.xyz", "density", "x.npy.gz"])
def test_an_unknown_name_cannot_be_written(tmp_path, name):
    with pytest.raises(DensityFormatError, match=r"cannot be written: the name tells the format: x\.cube"):
        write_density(tmp_path / name, some_density())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "x.cube"
    path.write_text("before")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_density(path, some_density())
    assert [one.name for one in tmp_path.iterdir()] == ["x.cube"]
    assert path.read_text() == "before"


def test_values_in_single_precision_stay_so_in_hdf5(tmp_path):
    density = some_density()
    single = DensityGrid(density.values.astype(np.float32), density.atoms, channels={"difference": density.values})
    write_density(tmp_path / "x.h5", single)
    again = read_density(tmp_path / "x.h5")
    assert again.values.dtype == np.float32
    np.testing.assert_array_equal(again.values, single.values)
    np.testing.assert_array_equal(again.channels["difference"], density.values)


def test_damaged_hdf5_is_named(tmp_path):
    data = serialise(some_density(), "x.h5", "")
    (tmp_path / "x.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(DensityFormatError, match=r"x\.h5: not a whole HDF5 file with a density"):
        read_density(tmp_path / "x.h5")


def test_hdf5_of_something_else_is_named(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["other"] = 1
    with pytest.raises(DensityFormatError, match=r"x\.h5: .*values"):
        read_density(tmp_path / "x.h5")
    write_density(tmp_path / "y.h5", some_density())
    with h5py.File(tmp_path / "y.h5", "a") as file:
        file["values"].attrs["unit"] = "1/Å"
    with pytest.raises(DensityFormatError, match=r"y\.h5: .*'1/Å'"):
        read_density(tmp_path / "y.h5")


def test_nothing_is_changed_by_writing(tmp_path):
    density = some_density()
    before = density.values.copy(), density.atoms.positions.copy()
    for name in NAMES:
        write_density(tmp_path / name, density)
    np.testing.assert_array_equal(density.values, before[0])
    np.testing.assert_array_equal(density.atoms.positions, before[1])


@pytest.mark.parametrize("name", ["x.cube", "CHGCAR"])
def test_a_comment_cannot_pass_for_our_mark(name, tmp_path):
    density = replace(some_density(3), info={"comment": "mine all"})
    write_density(tmp_path / name, density, comment="mine [deepdft origin=9,9,9 pbc=TTT] all")
    assert_same(read_density(tmp_path / name), density)


def test_what_could_not_be_read_back_is_not_written(tmp_path):
    empty = DensityGrid(np.ones((2, 2, 2)), ase.Atoms(cell=[1.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="a CHGCAR needs at least one atom"):
        write_density(tmp_path / "CHGCAR", empty)
    odd = DensityGrid(np.ones((2, 2, 2)), ase.Atoms("H", cell=[1.0, 1.0, 1.0]), channels={"a/b": np.ones((2, 2, 2))})
    with pytest.raises(ValueError, match="channel 'a/b'"):
        write_density(tmp_path / "x.h5", odd)
    assert list(tmp_path.iterdir()) == []


def test_channels_may_be_lists():
    density = DensityGrid(np.ones((1, 1, 2)), ase.Atoms("H", cell=[1.0] * 3), channels={"difference": [[[1.0, 2.0]]]})
    assert density.channels["difference"].shape == (1, 1, 2)
