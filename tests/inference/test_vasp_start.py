"""CHGCARs that VASP starts from: grid, atoms, electrons, occupancies, and VASP's own layout byte for byte."""

import gzip
import re
from dataclasses import replace
from pathlib import Path

import ase
import numpy as np
import pytest

from deepdft.density import DensityGrid
from deepdft.inference.vasp_start import foreign_kind, incar_lines, read_grid, read_template
from deepdft.io import read_density, write_density

REAL = Path(__file__).parents[3] / "shared" / "data" / "vasp"
SHAPE = (6, 5, 4)


def fortran(value: float, width: int, digits: int) -> str:
    """Fortran's E format, from Python's own digits."""
    mantissa, exponent = f"{abs(value):.{digits - 1}e}".split("e")
    power = int(exponent) + 1 if value else 0
    text = f"{'-' if value < 0 else '0'}.{mantissa.replace('.', '')}E{power:+03d}"
    if width > len(text) and value < 0:
        text = "-0" + text[1:]
    return text.rjust(width)


def lines_of_five(words: list[str]) -> list[str]:
    return ["".join(words[start : start + 5]) for start in range(0, len(words), 5)]


def vasp_text(*, spin: bool, seed: int = 0) -> str:
    """A CHGCAR as VASP prints it: FeO with 8 and 3 occupancies."""
    rng = np.random.default_rng(seed)
    lines = ["FeO  computed".ljust(40), "   1.00000000000000     "]
    lines += ["     3.000000    0.000000    0.100000", "     0.000000    3.200000    0.000000"]
    lines += ["     0.000000    0.200000    3.100000", "   Fe   O ", "     1     1", "Direct"]
    lines += ["  0.010000  0.000000  0.000000", "  0.500000  0.480000  0.500000", " "]
    for block in range(1 + spin):
        values = rng.gamma(2.0, 5.0, np.prod(SHAPE)) if block == 0 else rng.normal(0, 1, np.prod(SHAPE))
        if block == 0:
            values *= 14.0 * values.size / values.sum()
        lines.append("".join(f"{n:5d}" for n in SHAPE))
        lines += lines_of_five([f" {fortran(value, 17, 11)}" for value in values])
        for atom, count in ((1, 8), (2, 3)):
            lines.append(f"augmentation occupancies{atom:4d}{count:4d}")
            lines += lines_of_five([fortran(value, 15, 7) for value in rng.normal(0, 1, count)])
        if spin and block == 0:
            lines.append("  0.300000000000E+01  0.100000000000E+00")
    return "\n".join(lines) + "\n"


@pytest.fixture(params=[False, True], ids=["total", "spin"])
def chgcar(request, tmp_path):
    path = tmp_path / "CHGCAR"
    path.write_text(vasp_text(spin=request.param))
    return path


def body(path: Path) -> bytes:
    """A file without its comment."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return data.replace(b"\r\n", b"\n").split(b"\n", 1)[1]


def prediction(calculation, factor: float = 1.0) -> DensityGrid:
    """A density with the values of the template, as if a model had predicted them exactly."""
    template = calculation.template
    channels = {name: factor * values for name, values in template.channels.items()}
    return DensityGrid(factor * template.values, template.atoms, channels=channels)


def test_the_exact_density_becomes_the_file_of_vasp_byte_for_byte(chgcar):
    calculation = read_template(chgcar)
    assert calculation.shape == SHAPE
    assert calculation.n_electrons == 14.0
    written = calculation.complete(prediction(calculation, 0.995))
    write_density(chgcar.with_name("new.CHGCAR"), written, comment="predicted")
    assert body(chgcar.with_name("new.CHGCAR")) == body(chgcar)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files of VASP are not beside the checkout")
@pytest.mark.parametrize("name", ["Li_spin", "NaCl_augmentation"])
def test_files_of_vasp_are_written_as_vasp_wrote_them(name, tmp_path):
    path = REAL / f"CHGCAR.{name}.gz"
    calculation = read_template(path)
    template = calculation.template
    exact = DensityGrid(template.values, template.atoms, channels=template.channels)
    written = replace(calculation, n_electrons=None).complete(exact)
    write_density(tmp_path / "CHGCAR", written, comment="predicted")
    found, expected = body(tmp_path / "CHGCAR").split(b"\n"), body(path).split(b"\n")
    assert len(found) == len(expected)
    different = [(a, b) for a, b in zip(found, expected, strict=True) if a.rstrip() != b.rstrip()]
    assert not different


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files of VASP are not beside the checkout")
def test_pymatgen_reads_what_is_written(tmp_path):
    outputs = pytest.importorskip("pymatgen.io.vasp.outputs")
    calculation = read_template(REAL / "CHGCAR.Li_spin.gz")
    write_density(tmp_path / "CHGCAR", calculation.complete(prediction(calculation)), comment="predicted")
    found = outputs.Chgcar.from_file(tmp_path / "CHGCAR")
    expected = outputs.Chgcar.from_file(calculation.source)
    assert found.is_spin_polarized
    assert found.structure == expected.structure
    for name in ("total", "diff"):
        np.testing.assert_allclose(found.data[name], expected.data[name], rtol=1e-8)
        np.testing.assert_equal(found.data_aug[name], expected.data_aug[name])


def test_without_a_spin_density_only_the_occupancies_of_the_total_are_taken(tmp_path):
    (tmp_path / "CHGCAR").write_text(vasp_text(spin=True))
    calculation = read_template(tmp_path / "CHGCAR")
    total = replace(prediction(calculation), channels={})
    written = calculation.complete(total)
    assert set(written.atom_arrays) == {"occupancies"}
    assert "magnetic_moments" not in written.info
    notes = calculation.notes(total, written, {})
    assert f"PAW occupancies: those of {tmp_path / 'CHGCAR'}, not predicted" in notes
    assert "  # with ISPIN = 2, MAGMOM gives the moments: the file has no spin density" in notes


def test_predicted_occupancies_are_kept(chgcar):
    calculation = read_template(chgcar)
    own = {name: 2 * rows for name, rows in calculation.template.atom_arrays.items()}
    predicted = replace(prediction(calculation), atom_arrays=own)
    written = calculation.complete(predicted)
    for name, rows in own.items():
        np.testing.assert_array_equal(written.atom_arrays[name], rows)
    assert "PAW occupancies: predicted" in calculation.notes(predicted, written, {})


def test_electrons_are_scaled_and_reported_and_a_wrong_count_is_refused(chgcar):
    calculation = read_template(chgcar)
    off = prediction(calculation, 0.99)
    written = calculation.complete(off)
    assert written.n_electrons == pytest.approx(14.0, abs=1e-9)
    assert calculation.notes(off, written, {})[0] == "scaled by 1.010101 to 14.000 electrons"
    with pytest.raises(match=r"holds 11\.20 electrons and the calculation 14: .* give n_electrons="):
        calculation.complete(prediction(calculation, 0.8))
    assert calculation.complete(prediction(calculation, 0.8), 14.0).n_electrons == pytest.approx(14.0)


def test_atoms_are_compared_one_by_one_and_take_the_order_of_the_template(chgcar):
    calculation = read_template(chgcar)
    atoms = calculation.template.atoms
    swapped = atoms[[1, 0]]
    swapped.positions[0] += atoms.cell[1]  # a lattice vector makes no difference
    assert calculation.check(swapped).get_chemical_symbols() == ["Fe", "O"]
    moved = atoms.copy()
    moved.positions[1, 2] += 0.02
    with pytest.raises(ValueError, match=r"atom 2 of the structure, O, is 0\.020 Å from the nearest there"):
        calculation.check(moved)
    with pytest.raises(ValueError, match="FeO there, FeS in the structure"):
        calculation.check(ase.Atoms("FeS", positions=atoms.positions, cell=atoms.cell, pbc=True))
    strained = atoms.copy()
    strained.set_cell(1.01 * atoms.cell.array)
    with pytest.raises(ValueError, match="the cells differ"):
        calculation.check(strained)


OUTCAR = """   NIONS =      2   number of ions
   dimension x,y,z NGXF=    24 NGYF=   28 NGZF=   30
   support grid    NGXF=    24 NGYF=   28 NGZF=   30
   NELECT =      14.0000    total number of electrons
"""
VASPRUN = """<modeling><parameters><separator name="grids" >
 <i type="int" name="NGXF">    24</i><i type="int" name="NGYF">    28</i><i type="int" name="NGZF">    30</i>
</separator><i name="NELECT">     14.00000000</i></parameters><atominfo><atoms>       2 </atoms></atominfo></modeling>
"""


@pytest.mark.parametrize(("name", "text"), [("OUTCAR", OUTCAR), ("vasprun.xml", VASPRUN)])
def test_the_grid_of_a_calculation(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    calculation = read_grid(tmp_path / name)
    assert (calculation.shape, calculation.n_electrons) == ((24, 28, 30), 14.0)
    with pytest.raises(ValueError, match="it has 2 atoms, the structure 1"):
        calculation.check(ase.Atoms("Fe", cell=[3, 3, 3], pbc=True))
    with pytest.raises(ValueError, match="VASP's cells repeat in three directions, and FeO does not"):
        calculation.check(ase.Atoms("FeO", [[0, 0, 0], [0, 0, 2]]))
    density = DensityGrid(np.full((24, 28, 30), 0.5), ase.Atoms("FeO", [[0, 0, 0], [0, 0, 2]], cell=[3] * 3, pbc=True))
    notes = calculation.notes(density, calculation.complete(density, 14.0), {})
    assert any(note.startswith("no PAW occupancies (the model has none): VASP warns") for note in notes)
    (tmp_path / name).write_text(text.replace("NGZF", "NGZ"))
    with pytest.raises(ValueError, match="expected an OUTCAR or vasprun"):
        read_grid(tmp_path / name)


def test_a_chgcar_gives_its_grid_alone(chgcar):
    calculation = read_grid(chgcar)
    assert calculation.shape == SHAPE
    assert calculation.template is None


def test_a_template_must_be_a_chgcar(tmp_path, chgcar):
    write_density(tmp_path / "x.cube", read_density(chgcar))
    with pytest.raises(ValueError, match=r"x\.cube: expected a CHGCAR"):
        read_template(tmp_path / "x.cube")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_template(tmp_path / "none")


@pytest.mark.parametrize(("symbols", "lmaxmix"), [("SiC", None), ("FeO", 4), ("CeO", 6)])
def test_lmaxmix_is_that_of_the_elements(symbols, lmaxmix):
    atoms = ase.Atoms(symbols, [[0, 0, 0], [0, 0, 2]], cell=[4, 4, 4], pbc=True)
    lines = incar_lines(DensityGrid(np.ones((2, 2, 2)), atoms))
    assert "ICHARG = 1" in lines
    found = [re.match(r"LMAXMIX = (\d)", line) for line in lines]
    assert [int(match[1]) for match in found if match] == ([lmaxmix] if lmaxmix else [])


def test_models_of_other_densities_are_named():
    assert "learned valence densities of GPAW" in foreign_kind({"path": "free_atoms"})
    assert "densities of ABINIT" in foreign_kind({"kind": {"code": "ABINIT"}})
    assert foreign_kind({"kind": {"code": "VASP"}}) == foreign_kind({}) == ""
