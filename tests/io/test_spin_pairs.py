"""Densities in two files, one for each spin."""

import ase
import numpy as np
import pytest

import deepdft
from deepdft.data.convert import DamagedMembersError, convert
from deepdft.density import DensityGrid
from deepdft.io.spin_pairs import pairs_by_name

ATOMS = ase.Atoms("OH", [[1.0, 1.0, 1.0], [1.0, 1.0, 1.9]], cell=[3.0, 3.2, 3.4])
UP, DOWN = 0.2 * np.random.default_rng(0).random((2, 6, 7, 8))


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("x_up.cube", "x_down.cube", "x.cube"),
        ("a/x.spin_up.cube", "a/x.spin_down.cube", "a/x.cube"),
        ("up.cube", "down.cube", "density.cube"),
        ("rho-alpha.cube.gz", "rho-beta.cube.gz", "rho.cube.gz"),
        ("1-dn-x.cube", None, None),
        ("supper.cube", "sdowner.cube", None),
        ("a/x_up.cube", "b/x_down.cube", None),
        ("w-ELECTRON_DENSITY-1_0.cube", "w-SPIN_DENSITY-1_0.cube", "w-ELECTRON_DENSITY-1_0.cube"),
    ],
)
def test_pairs_are_found_by_their_names(first, second, together):
    names = [name for name in (second, first, "other.cube") if name]
    assert pairs_by_name(names) == ({} if together is None else {first: (second, together)})


def write(folder, **densities):
    folder.mkdir(exist_ok=True)
    for name, values in densities.items():
        deepdft.write_density(folder / f"{name}.cube", DensityGrid(values, ATOMS))


def test_up_and_down_become_one_structure_with_its_spin_density(tmp_path):
    write(tmp_path / "files", x_up=UP, x_down=DOWN, x=UP + DOWN, y=UP)
    store = convert(tmp_path / "files", tmp_path / "store")
    assert store.names == ["x", "y"]  # the sum beside the two is left out
    assert store.channels_of(0) == ("total", "difference")
    assert store.channels_of(1) == ("total",)
    np.testing.assert_allclose(store.values(0), UP + DOWN, rtol=1e-5)
    np.testing.assert_allclose(store.values(0, channel="difference"), UP - DOWN, atol=1e-5)


def test_the_total_and_the_spin_density_of_cp2k(tmp_path):
    write(tmp_path / "files", **{"w-ELECTRON_DENSITY-1_0": UP, "w-SPIN_DENSITY-1_0": DOWN})
    store = convert(tmp_path / "files", tmp_path / "store")
    np.testing.assert_allclose(store.values(0), UP, rtol=1e-5)
    np.testing.assert_allclose(store.values(0, channel="difference"), DOWN, rtol=1e-5)


def test_a_change_of_the_second_file_is_noticed(tmp_path):
    write(tmp_path / "files", x_up=UP, x_down=DOWN)
    (tmp_path / "files/x_down.cube").write_text("damaged")
    with pytest.raises(DamagedMembersError, match="x_down"):
        convert(tmp_path / "files", tmp_path / "store")
    write(tmp_path / "files", x_down=DOWN)
    store = convert(tmp_path / "files", tmp_path / "store")
    np.testing.assert_allclose(store.values(0, channel="difference"), UP - DOWN, atol=1e-5)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    write(tmp_path / "files", x_up=UP, x_down=DOWN[:5])
    with pytest.raises(DamagedMembersError, match=r"x_up\.cube and .*x_down\.cube: the two spins are of different"):
        convert(tmp_path / "files", tmp_path / "store")
