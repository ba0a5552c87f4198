"""Streamed files, read back by ASE and h5py."""

import ase
import h5py
import numpy as np
import pytest
from ase.calculators.vasp import VaspChargeDensity
from ase.io.cube import read_cube
from ase.units import Bohr

from deepdft.density import DensityGrid, Grid
from deepdft.io import read_density, write_density
from deepdft.io.formats import FORMATS, Field, output_format, write_field

CELL = np.array([[4.0, 0.0, 0.0], [2.5, 4.5, 0.3], [-1.0, 1.5, 5.0]])


def write(path, grid, chunks, **content):
    write_field(path, Field(grid, **content), chunks)


@pytest.fixture
def box():
    atoms = ase.Atoms("OHOH", positions=[[0.1, 0.2, 0.3], [1, 1, 1], [2, 2, 2], [1.5, 0.5, 2.5]], cell=CELL, pbc=True)
    return Grid(atoms, (3, 4, 7))


@pytest.fixture
def values(box):
    values = np.random.default_rng(0).normal(0.5, 1.0, box.shape).astype(np.float32)
    values[0, 0, 0] = 3e-120  # an exponent of three digits
    return values


def pieces(values, order, size=5):
    flat = values.ravel(order=order)
    return (flat[start : start + size] for start in range(0, flat.size, size))


@pytest.mark.parametrize("size", [1, 5, 7, 50, 1000])
def test_a_streamed_cube_is_what_ase_reads(box, values, tmp_path, size):
    path = tmp_path / "density.cube"
    write(path, box, pieces(values, "C", size))
    with path.open() as file:
        content = read_cube(file)
    np.testing.assert_allclose(content["data"] / Bohr**3, values, rtol=1e-5)
    np.testing.assert_allclose(content["atoms"].cell.array, CELL, atol=1e-8)
    np.testing.assert_allclose(content["atoms"].positions, box.atoms.positions, atol=1e-8)
    assert list(content["atoms"].numbers) == [8, 1, 8, 1]


def test_a_cube_has_the_origin_of_a_molecules_box(tmp_path):
    box = Grid(ase.Atoms("He", [[5.0, 6.0, 7.0]], cell=[8, 8, 8]), (2, 2, 2), np.array([1.0, 2.0, 3.0]))
    write(tmp_path / "he.cube", box, [np.ones(8)])
    with (tmp_path / "he.cube").open() as file:
        content = read_cube(file)
    np.testing.assert_allclose(content["origin"], [1.0, 2.0, 3.0], atol=1e-8)
    np.testing.assert_allclose(content["atoms"].positions, [[5.0, 6.0, 7.0]], atol=1e-8)


@pytest.mark.parametrize("size", [1, 5, 50, 1000])
def test_a_streamed_chgcar_is_what_ase_reads(box, values, tmp_path, size):
    path = tmp_path / "CHGCAR"
    write(path, box, pieces(values, "F", size))
    content = VaspChargeDensity(str(path))
    np.testing.assert_allclose(content.chg[0], values, rtol=1e-5)
    atoms = content.atoms[0]
    assert atoms.get_chemical_symbols() == ["O", "H", "O", "H"]
    np.testing.assert_allclose(atoms.cell.array, CELL, atol=1e-10)
    np.testing.assert_allclose(atoms.positions, box.atoms.positions, atol=1e-8)


def test_a_cube_of_a_crystal_says_that_it_repeats(box, values, tmp_path):
    write(tmp_path / "x.cube", box, pieces(values, "C"), comment="crystal")
    assert (tmp_path / "x.cube").read_text().splitlines()[0] == "crystal [deepdft pbc=TTT]"


def test_in_a_chgcar_the_atoms_move_with_the_origin(tmp_path):
    box = Grid(ase.Atoms("He", [[5.0, 6.0, 7.0]], cell=[8, 8, 8]), (2, 2, 2), np.array([1.0, 2.0, 3.0]))
    write(tmp_path / "CHGCAR", box, [np.ones(8)])
    np.testing.assert_allclose(VaspChargeDensity(str(tmp_path / "CHGCAR")).atoms[0].positions, [[4.0, 4.0, 4.0]])
    assert (tmp_path / "CHGCAR").read_text().splitlines()[0].endswith("[deepdft origin=1,2,3 pbc=FFF]")


@pytest.mark.parametrize("size", [1, 28, 30, 1000])
def test_a_streamed_hdf5_file_holds_the_field_and_the_structure(box, values, tmp_path, size):
    path = tmp_path / "density.h5"
    write(path, box, pieces(values, "C", size))
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["values"][:], values)
        assert file["values"].attrs["unit"] == "e/Å³"
        np.testing.assert_array_equal(file["numbers"][:], [8, 1, 8, 1])
        np.testing.assert_array_equal(file["cell"][:], CELL)
        np.testing.assert_array_equal(file["positions"][:], box.atoms.positions)
        assert file["pbc"][:].all()


def test_a_field_that_is_no_density_goes_into_a_cube_as_it_is(box, values, tmp_path):
    write(tmp_path / "dori.cube", box, pieces(values, "C"), name="dori", unit="1")
    with (tmp_path / "dori.cube").open() as file:
        np.testing.assert_allclose(read_cube(file)["data"], values, rtol=1e-5)


@pytest.mark.parametrize("name", ["x.cube", "CHGCAR", "x.h5"])
@pytest.mark.parametrize("n_values", [83, 85, 200])
def test_too_few_or_too_many_values_leave_no_file(box, tmp_path, name, n_values):
    with pytest.raises(ValueError, match="84 points"):
        write(tmp_path / name, box, pieces(np.zeros(n_values), "C", 5))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.cube", "CHGCAR", "x.h5"])
def test_a_file_that_stood_there_survives_a_failure(box, tmp_path, name):
    (tmp_path / name).write_text("before")

    def failing():
        yield np.zeros(40)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        write(tmp_path / name, box, failing())
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "before"


@pytest.mark.parametrize(
    ("name", "expected", "order"),
    [
        ("a/x.cube", "cube", "C"),
        ("CHGCAR", "chgcar", "F"),
        ("CHGCAR_001", "chgcar", "F"),
        ("x.CHGCAR", "chgcar", "F"),
        ("x.h5", "h5", "C"),
    ],
)
def test_the_name_chooses_the_format(name, expected, order):
    assert output_format(name).name == expected
    assert output_format(name).order == order


@pytest.mark.parametrize("name", ["x.xyz", "density", "x.npy", "vaspout.h5"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=r"x\.cube, x\.h5, CHGCAR"):
        output_format(name)


def test_memory_does_not_grow_with_the_grid(tmp_path):
    import tracemalloc

    box = Grid(ase.Atoms("He", cell=np.eye(3) * 5.0), (60, 60, 60))
    tracemalloc.start()
    write(tmp_path / "x.cube", box, (np.ones(600, dtype=np.float32) for _ in range(360)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < box.n_points * 4  # less than the grid in float32; its text is 14 times that


@pytest.mark.parametrize("name", ["CHGCAR", "x.h5"])
def test_what_is_streamed_is_what_deepdft_reads(tmp_path, name):
    atoms = ase.Atoms("HOH", [[5, 6, 7], [5.5, 6, 7.5], [6, 6, 7]], cell=[8, 8, 8])
    box = Grid(atoms, (3, 4, 7), np.array([1.0, 2.0, 3.0]))
    values = np.random.default_rng(1).random(box.shape).astype(np.float32)
    write(tmp_path / name, box, pieces(values, output_format(name).order), comment="three atoms")
    density = read_density(tmp_path / name)
    np.testing.assert_allclose(density.values, values, rtol=1e-6)
    np.testing.assert_allclose(density.origin, box.origin, atol=1e-12)
    np.testing.assert_allclose(density.atoms.positions, box.atoms.positions, atol=1e-12)
    np.testing.assert_array_equal(density.atoms.numbers, [1, 8, 1])
    np.testing.assert_array_equal(density.atoms.pbc, False)
    assert density.info["comment"] == "three atoms"


@pytest.mark.parametrize("one", [one for one in FORMATS if one.is_written], ids=lambda one: one.name)
@pytest.mark.parametrize("size", [1, 7, 40, 1000])
def test_several_channels_are_streamed_as_write_density_writes_them(tmp_path, box, one, size):
    rng = np.random.default_rng(3)
    density = DensityGrid(rng.random(box.shape), box.atoms, channels={"difference": rng.normal(size=box.shape)})
    name = f"x{one.suffixes[0]}"
    write_density(tmp_path / f"whole_{name}", density, comment="two channels")
    stacked = density.stacked()
    points = (stacked if one.order == "C" else stacked.transpose(2, 1, 0, 3)).reshape(-1, 2)
    chunks = (points[start : start + size] for start in range(0, len(points), size))
    content = {"channels": density.channel_names, "comment": "two channels", "dtypes": (np.dtype(np.float64),) * 2}
    write(tmp_path / f"streamed_{name}", box, chunks, **content)
    whole, streamed = (read_density(tmp_path / f"{way}_{name}") for way in ("whole", "streamed"))
    assert streamed.channel_names == ("total", "difference")
    np.testing.assert_array_equal(streamed.stacked(), whole.stacked())
    np.testing.assert_allclose(streamed.stacked(), stacked, rtol=1e-5)
    if one.name != "h5":
        assert (tmp_path / f"streamed_{name}").read_bytes() == (tmp_path / f"whole_{name}").read_bytes()


@pytest.mark.parametrize("name", ["CHGCAR", "x.cube", "x.h5"])
def test_the_comment_of_a_file_is_read_without_its_values(tmp_path, name):
    density = DensityGrid(np.ones((2, 2, 2)), ase.Atoms("He", cell=np.eye(3)))
    write_density(tmp_path / name, density, comment="predicted by a model")
    assert "predicted by a model" in output_format(name).comment_of(tmp_path / name)
    (tmp_path / name).write_bytes(b"something else\n")
    assert "predicted" not in output_format(name).comment_of(tmp_path / name)


def test_further_channels_wait_beside_the_file_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "full"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "full"))
    grid = Grid(ase.Atoms("He", cell=np.eye(3)), (2, 2, 2))
    write_field(tmp_path / "CHGCAR", Field(grid, ("total", "difference")), [np.full((8, 2), 2.0)])
    assert [path.name for path in tmp_path.iterdir()] == ["CHGCAR"]
    np.testing.assert_allclose(read_density(tmp_path / "CHGCAR").channels["difference"], 2.0)
