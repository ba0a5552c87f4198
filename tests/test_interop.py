"""Densities as objects of pymatgen and xarray, and as ASE's properties."""

import json
import subprocess
import sys

import ase
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError

import deepdft
from deepdft.density import DensityGrid
from deepdft.errors import DensityFormatError


def density(*, spin: bool = True) -> DensityGrid:
    rng = np.random.default_rng(0)
    atoms = ase.Atoms(
        "NiO", scaled_positions=[[0, 0, 0], [0.6, 0.5, 1.2]], cell=[[3, 0, 0], [1, 4, 0], [0, 1, 5]], pbc=True
    )
    shape = (4, 5, 6)
    occupancies = np.array([[0.5, -0.25, 1.5], [2.0, 3.0, np.nan]])
    return DensityGrid(
        rng.uniform(0, 1, shape),
        atoms,
        channels={"difference": rng.normal(size=shape)} if spin else {},
        atom_arrays={"occupancies": occupancies} | ({"occupancies_difference": occupancies / 2} if spin else {}),
    )


def assert_same(found: DensityGrid, expected: DensityGrid) -> None:
    assert found.channel_names == expected.channel_names
    for name in expected.channel_names:
        np.testing.assert_allclose(found.channel(name), expected.channel(name), rtol=1e-9, atol=1e-12)
    assert found.atom_arrays.keys() == expected.atom_arrays.keys()
    for name, rows in expected.atom_arrays.items():
        np.testing.assert_allclose(found.atom_arrays[name], rows)
    np.testing.assert_allclose(found.atoms.positions, expected.atoms.positions, atol=1e-9)
    np.testing.assert_allclose(found.atoms.cell.array, expected.atoms.cell.array)
    assert found.atoms.get_chemical_formula() == expected.atoms.get_chemical_formula()


@pytest.mark.parametrize("spin", [False, True])
def test_pymatgen_and_back(spin: bool) -> None:
    pytest.importorskip("pymatgen.io.vasp")
    expected = density(spin=spin)
    chgcar = expected.to_pymatgen()
    assert chgcar.data["total"].mean() == pytest.approx(expected.n_electrons)  # as VASP has it
    assert_same(DensityGrid.from_pymatgen(chgcar), expected)


def test_pymatgen_reads_the_same_file(tmp_path) -> None:
    pytest.importorskip("pymatgen.io.vasp")
    from pymatgen.io.vasp import Chgcar

    deepdft.write_density(tmp_path / "CHGCAR", density())
    assert_same(
        DensityGrid.from_pymatgen(Chgcar.from_file(str(tmp_path / "CHGCAR"))), deepdft.read_density(tmp_path / "CHGCAR")
    )


def test_occupancies_as_lines_of_text_are_read_too() -> None:
    pytest.importorskip("pymatgen.io.vasp")
    chgcar = density().to_pymatgen()
    lines = [
        "augmentation occupancies   1   3\n",
        "  0.5 -0.25 1.5\n",
        "augmentation occupancies   2   2\n",
        " 2.0 3.0\n",
    ]
    chgcar.data_aug = {"total": lines, "diff": lines[:2]}  # as older versions, the second damaged
    with pytest.warns(deepdft.errors.InputWarning, match="not those of all atoms"):
        found = DensityGrid.from_pymatgen(chgcar)
    np.testing.assert_allclose(found.atom_arrays["occupancies"], density().atom_arrays["occupancies"])
    assert "occupancies_difference" not in found.atom_arrays


def test_what_a_chgcar_cannot_hold_is_refused() -> None:
    pytest.importorskip("pymatgen.io.vasp")
    one = density()
    with pytest.raises(ValueError, match="begins at"):
        DensityGrid(one.values, one.atoms, np.ones(3)).to_pymatgen()
    with pytest.raises(ValueError, match="got iri"):
        DensityGrid(one.values, one.atoms, channels={"iri": one.values}).to_pymatgen()


def test_json_of_the_materials_project(tmp_path) -> None:
    """What `Chgcar.as_dict` writes, made here by hand, plain and within a task document."""
    expected = density()
    box = abs(np.linalg.det(expected.atoms.cell.array))

    def array(values):
        return {"@module": "numpy", "@class": "array", "dtype": "float64", "data": np.asarray(values).tolist()}

    sites = [
        {"species": [{"element": symbol, "occu": 1}], "abc": abc.tolist(), "label": symbol}
        for symbol, abc in zip(expected.atoms.symbols, expected.atoms.get_scaled_positions(wrap=False), strict=True)
    ]
    sets = {str(i): array(row[~np.isnan(row)]) for i, row in enumerate(expected.atom_arrays["occupancies"], 1)}
    halves = {str(i): array(row[~np.isnan(row)] / 2) for i, row in enumerate(expected.atom_arrays["occupancies"], 1)}
    content = {
        "@module": "pymatgen.io.vasp.outputs",
        "@class": "Chgcar",
        "poscar": {"structure": {"lattice": {"matrix": expected.atoms.cell.array.tolist()}, "sites": sites}},
        "data": {"total": array(expected.values * box), "diff": array(expected.channel("difference") * box)},
        "data_aug": {"total": sets, "diff": halves},
    }
    for name, whole in {"mp-1234.json": content, "other.json": {"task_id": "mp-1", "data": content}}.items():
        (tmp_path / name).write_text(json.dumps(whole))
        assert_same(deepdft.read_density(tmp_path / name), expected)
    for damage in ({"data": {}}, {"poscar": {}}, {"@class": "Locpot"}):
        (tmp_path / "mp-2.json").write_text(json.dumps(content | damage))
        with pytest.raises(DensityFormatError, match=r"mp-2.json: not a Chgcar"):
            deepdft.read_density(tmp_path / "mp-2.json")


def test_json_as_pymatgen_writes_it(tmp_path) -> None:
    pytest.importorskip("pymatgen.io.vasp")
    (tmp_path / "mp-1.json").write_text(density().to_pymatgen().to_json())
    assert_same(deepdft.read_density(tmp_path / "mp-1.json"), density())


def test_xarray() -> None:
    pytest.importorskip("xarray")
    one = density()
    data = one.to_xarray()
    assert data.total.dims == ("a", "b", "c")
    assert data.total.attrs["units"] == "e/Å³"
    np.testing.assert_array_equal(data.difference.values, one.channel("difference"))
    point = data.isel(a=1, b=2, c=3)
    expected = one.points().reshape(*one.shape, 3)[1, 2, 3]
    np.testing.assert_allclose([point.x, point.y, point.z], expected)
    assert float(data.total.sum()) * one.voxel_volume == pytest.approx(one.n_electrons)


@pytest.mark.parametrize(("library", "method"), [("pymatgen", "to_pymatgen"), ("xarray", "to_xarray")])
def test_a_missing_library_names_its_extra(library: str, method: str) -> None:
    code = (
        f"import sys; sys.modules['{library}'] = None; sys.modules['pymatgen.core'] = None\n"
        "import ase, numpy, deepdft\n"
        f"deepdft.DensityGrid(numpy.ones((2, 2, 2)), ase.Atoms('H', cell=[1, 1, 1])).{method}()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'deepdft-lightning[{library}]'" in result.stderr


def test_ase_has_dipole_moments_and_charges() -> None:
    from deepdft.ase import DensityCalculator

    atoms = molecule("H2O")
    atoms.calc = DensityCalculator(spacing=0.25, device="cpu")
    moment, charges = atoms.get_dipole_moment(), atoms.get_charges()
    assert charges[0] < 0 < min(charges[1:])  # O, H, H
    assert moment @ (atoms.positions[1:].mean(axis=0) - atoms.positions[0]) > 0  # from O to H
    assert atoms.calc.get_density().n_electrons == pytest.approx(8, abs=0.1)
    before = atoms.calc.get_density(atoms)
    assert atoms.calc.get_density(atoms) is before
    atoms.rotate(90, "x")
    np.testing.assert_allclose(np.linalg.norm(atoms.get_dipole_moment()), np.linalg.norm(moment), rtol=0.05)
    assert atoms.calc.get_density() is not before
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_potential_energy()
