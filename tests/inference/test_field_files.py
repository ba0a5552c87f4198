"""Files of fields, against the field written out at every grid point."""

import h5py
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.vasp import VaspChargeDensity
from ase.io.cube import read_cube

from deepdft.inference.box import make_box
from deepdft.inference.domains import Domain
from deepdft.inference.field_files import write_fields
from deepdft.inference.slabs import cut_into_slabs, grid_of_slab


def fields(points):
    """What stands in for derivatives of a density: known at every point."""
    return {"iri": points[:, 0] + 10.0, "gradient": points * [1.0, 2.0, 3.0], "laplacian": points.sum(axis=1)}


@pytest.fixture
def box():
    return make_box(molecule("H2O"), shape=(4, 5, 6))


def parts(box, largest, order="C"):
    """The fields on two halves of the grid, as of a structure in two domains, in slabs of so many points."""
    nx, ny, nz = box.shape
    halves = [Domain((0, 0, 0), (nx, 2, nz), 3), Domain((0, 2, 0), (nx, ny, nz), 3)]
    for slab in reversed(cut_into_slabs(halves, largest, order)):
        yield slab, fields(grid_of_slab(box, slab).points())


def expected(box, values):
    return values.reshape(box.shape)


def test_each_component_gets_a_cube_with_its_own_values(box, tmp_path):
    paths = write_fields(tmp_path / "x.cube", box, parts(box, 7), ["iri", "gradient"])
    assert [path.name for path in paths] == [
        "x_iri.cube",
        "x_gradient_x.cube",
        "x_gradient_y.cube",
        "x_gradient_z.cube",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    at = fields(box.points(slice(None)))
    for path, values in zip(paths, [at["iri"], *at["gradient"].T], strict=True):
        with path.open() as file:
            np.testing.assert_allclose(read_cube(file)["data"], expected(box, values), rtol=1e-5, atol=1e-5)


def test_in_a_chgcar_the_order_of_points_is_that_of_the_format(box, tmp_path):
    (path,) = write_fields(tmp_path / "CHGCAR", box, parts(box, 11, "F"), ["laplacian"])
    assert path.name == "CHGCAR_laplacian"
    values = VaspChargeDensity(str(path)).chg[0]
    np.testing.assert_allclose(
        values, expected(box, fields(box.points(slice(None)))["laplacian"]), rtol=1e-5, atol=1e-6
    )


def test_hdf5_says_name_and_unit(box, tmp_path):
    (path,) = write_fields(tmp_path / "x.h5", box, parts(box, 1000), ["iri"])
    with h5py.File(path) as file:
        attributes = dict(file["values"].attrs)
    assert (attributes["quantity"], attributes["unit"]) == ("iri", "Å^-0.7 e^-0.1")


def test_progress_is_told_after_each_slab(box, tmp_path):
    told = []

    def progress(done, total):
        told.append((done, total))

    write_fields(tmp_path / "x.cube", box, parts(box, 50), ["iri", "laplacian"], progress=progress)
    assert told == [(36, 120), (72, 120), (120, 120)]


def test_an_unknown_field_is_refused(box, tmp_path):
    with pytest.raises(ValueError, match=r"\['elf'\]: expected some of gradient, laplacian, hessian, iri, dori"):
        write_fields(tmp_path / "x.cube", box, parts(box, 50), ["iri", "elf"])
