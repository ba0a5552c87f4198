"""HDF5 densities: what belongs to a density comes back, and a file of a stranger does no harm."""

import ase
import h5py
import numpy as np
import pytest

import deepdft
from deepdft.density import DensityGrid
from deepdft.errors import DensityFormatError

VALUES = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    atoms = ase.Atoms("OH", [[0, 0, 0], [1, 0, 0]], cell=[4, 5, 6], pbc=[True, False, True])
    occupancies = np.array([[1.0, 2.0], [3.0, np.nan]])
    density = DensityGrid(
        VALUES, atoms, np.ones(3), {"difference": VALUES / 2}, {"comment": "c"}, {"occupancies": occupancies}
    )
    deepdft.write_density(tmp_path / "x.h5", density)
    return tmp_path / "x.h5"


def test_channels_and_arrays_of_the_atoms_come_back(path):
    density = deepdft.read_density(path)
    np.testing.assert_array_equal(density.values, VALUES)
    np.testing.assert_array_equal(density.channels["difference"], VALUES / 2)
    np.testing.assert_array_equal(density.atom_arrays["occupancies"], [[1, 2], [3, np.nan]])
    assert density.atoms.pbc.tolist() == [True, False, True]


def test_a_file_without_checksums_is_read(path):
    with h5py.File(path, "a") as file:
        del file["values"].attrs["crc32"]
    np.testing.assert_array_equal(deepdft.read_density(path).values, VALUES)


def replaced(file, name, array, **options):
    del file[name]
    file.create_dataset(name, data=array, **options)


DAMAGE = {
    "values changed": (
        lambda f: f["values"].write_direct(VALUES + np.float32(1e-3)),
        "values does not match its checksum",
    ),
    "positions changed": (lambda f: f["positions"].__setitem__((0, 0), 0.5), "positions does not match"),
    "channel changed": (lambda f: f["channels/difference"].__setitem__((0, 0, 0), 9), "difference does not match"),
    "NaN in values": (lambda f: replaced(f, "values", VALUES * np.nan), "values holds numbers that are not finite"),
    "huge values": (lambda f: replaced(f, "values", VALUES.astype(float) + 1e308), "larger than 1e\\+30"),
    "NaN positions": (lambda f: replaced(f, "positions", np.full((2, 3), np.nan)), "positions holds numbers"),
    "NaN cell": (lambda f: replaced(f, "cell", np.full((3, 3), np.nan)), "cell holds numbers"),
    "no element 200": (lambda f: replaced(f, "numbers", np.array([8, 200])), "atomic numbers"),
    "no element -1": (lambda f: replaced(f, "numbers", np.array([8, -1])), "atomic numbers"),
    "fractional elements": (lambda f: replaced(f, "numbers", np.array([8.5, 1])), "atomic numbers"),
    "pbc of 4": (lambda f: replaced(f, "pbc", np.array([4, 0, 1])), "pbc is"),
    "pbc of two": (lambda f: replaced(f, "pbc", np.array([1, 0])), "pbc"),
    "too many positions": (lambda f: replaced(f, "positions", np.zeros((3, 3))), "2 atoms"),
    "text for numbers": (lambda f: replaced(f, "values", "text"), "expected numbers"),
    "two dimensions": (lambda f: replaced(f, "values", VALUES[0]), "3 dimensions"),
    "a group for a dataset": (lambda f: (f.__delitem__("values"), f.create_group("values")), "not a dataset"),
    "a dataset for a group": (lambda f: replaced(f, "channels", 1), "not a group"),
    "missing": (lambda f: f.__delitem__("cell"), "cell is missing"),
    "of other atoms": (lambda f: replaced(f, "atom_arrays/occupancies", np.zeros((3, 2))), "2 atoms"),
}


@pytest.mark.parametrize(("damage", "reported"), DAMAGE.values(), ids=DAMAGE)
def test_what_is_no_density_is_refused_by_name(path, damage, reported):
    with h5py.File(path, "a") as file:
        damage(file)
    with pytest.raises(DensityFormatError, match=rf"x\.h5: .*{reported}"):
        deepdft.read_density(path)


class TestFilesOfStrangers:
    @pytest.fixture
    def secret(self, tmp_path):
        other = tmp_path / "secret.bin"
        other.write_bytes(b"a password of the reader's machine".ljust(4096))
        return other

    def refused(self, path):
        with pytest.raises(DensityFormatError, match=r"x\.h5: not a whole HDF5 file with a density: values is"):
            deepdft.read_density(path)

    def test_raw_bytes_of_another_file_are_not_read(self, path, secret):
        with h5py.File(path, "a") as file:
            del file["values"]
            file.create_dataset("values", (4, 5, 6), np.uint8, external=[(str(secret), 0, 120)])
        self.refused(path)

    def test_a_link_to_another_file_is_not_followed(self, path, tmp_path):
        other = tmp_path / "other.h5"
        other.write_bytes(path.read_bytes())
        with h5py.File(path, "a") as file:
            del file["values"]
            file["values"] = h5py.ExternalLink(str(other), "/values")
        self.refused(path)

    def test_a_link_within_the_file_is_not_followed(self, path):
        with h5py.File(path, "a") as file:
            file.move("values", "hidden")
            file["values"] = h5py.SoftLink("/hidden")
        self.refused(path)

    def test_a_virtual_dataset_is_not_read(self, path, tmp_path):
        other = tmp_path / "other.h5"
        other.write_bytes(path.read_bytes())
        with h5py.File(path, "a") as file:
            del file["values"]
            layout = h5py.VirtualLayout((4, 5, 6), np.float32)
            layout[...] = h5py.VirtualSource(str(other), "values", (4, 5, 6))
            file.create_virtual_dataset("values", layout)
        self.refused(path)

    def test_a_group_of_channels_elsewhere_is_not_read(self, path, tmp_path):
        other = tmp_path / "other.h5"
        other.write_bytes(path.read_bytes())
        with h5py.File(path, "a") as file:
            del file["channels"]
            file["channels"] = h5py.ExternalLink(str(other), "/channels")
        with pytest.raises(DensityFormatError, match="channels is missing or a link"):
            deepdft.read_density(path)

    def test_a_sparse_giant_is_refused_before_memory_is_taken(self, path):
        with h5py.File(path, "a") as file:
            del file["values"]
            file.create_dataset("values", (1 << 12, 1 << 12, 1 << 12), np.float32, chunks=(64, 64, 64))
        with pytest.raises(DensityFormatError, match="262144 MiB, more than a file of this size holds"):
            deepdft.read_density(path)


@pytest.mark.parametrize("size", [0, 2**64 - 8])
def test_a_heap_in_which_the_library_would_go_round_in_circles_is_refused(path, size):
    """An object of no size, or one whose size overflows when it is rounded up, is followed by itself."""
    data = bytearray(path.read_bytes())
    first = data.index(b"GCOL") + 16
    assert data[first : first + 2] == b"\x01\x00"  # the index of the first object
    if size == 0:
        data[first : first + 2] = b"\x00\x00"  # free space, whose size counts its header
    data[first + 8 : first + 16] = size.to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(DensityFormatError, match=rf"x\.h5: .*damaged: an object of {size} bytes"):
        deepdft.read_density(path)


def test_texts_that_fill_several_heaps_are_read(path):
    texts = {f"text {i}": "x" * (i * 97) for i in range(60)}
    with h5py.File(path, "a") as file:
        file.attrs.update(texts)
    assert path.read_bytes().count(b"GCOL") > 1
    assert deepdft.read_density(path).info.items() >= texts.items()


@pytest.mark.parametrize("name", ["channels/difference", "atom_arrays/occupancies"])
def test_a_dataset_whose_name_is_damaged_is_missed(path, name):
    with h5py.File(path, "a") as file:
        file.move(name, f"{name}x")
    with pytest.raises(DensityFormatError, match=rf"x\.h5: .*damaged: {name} is in its list of contents"):
        deepdft.read_density(path)


def test_a_file_without_a_list_of_contents_is_read(path):
    """Versions before did not write one."""
    with h5py.File(path, "a") as file:
        del file.attrs["contents"]
    assert deepdft.read_density(path).channel_names == ("total", "difference")


def test_texts_that_have_become_something_else_are_left_out(path):
    """The library of HDF5 crashed on a text whose type had become a sequence."""
    data = path.read_bytes()
    text_of_any_length = b"\x19\x01\x01\x00\x10\x00\x00\x00"
    assert text_of_any_length in data
    path.write_bytes(data.replace(text_of_any_length, b"\x19\x00\x01\x00\x10\x00\x00\x00"))
    assert deepdft.read_density(path).info == {}
