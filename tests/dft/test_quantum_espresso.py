"""pw.x itself, on hydrogen and water, and its files without it."""

import shutil
from pathlib import Path

import ase
import h5py
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.units import Bohr

from deepdft.dft.calculation import CalculationError
from deepdft.dft.functionals import FUNCTIONALS
from deepdft.dft.qe_save import PlaneWaves, Save, element_of
from deepdft.dft.quantum_espresso import QuantumEspresso, n_valence, run_pw
from deepdft.dft.starts import set_values, start_quantum_espresso
from deepdft.inference.predictor import Predictor
from deepdft.models.free_atoms import FreeAtoms

PSEUDO = Path("/usr/share/espresso/pseudo")
PBE, PZ = FUNCTIONALS["PBE"], FUNCTIONALS["PZ"]
needs_pw = pytest.mark.skipif(
    shutil.which("pw.x") is None or not PSEUDO.is_dir(), reason="Quantum ESPRESSO is not installed: make qe"
)
PAW = {"H": "H.pbe-kjpaw.UPF", "O": "O.pbe-kjpaw.UPF"}
NORM_CONSERVING = {"H": "H.pz-vbc.UPF", "Si": "Si.pz-vbc.UPF"}


def engine(**settings) -> QuantumEspresso:
    usual = {
        "pseudopotentials": PAW,
        "pseudo_dir": str(PSEUDO),
        "cutoff": 20.0,
        "density_cutoff": 120.0,
        "spacing": 0.25,
        "vacuum": 2.0,
        "kpoint_density": 0.0,
        "smearing": 0.0,
        "convergence": 1e-7,
        "max_iterations": 60,
    }
    return QuantumEspresso(**usual | settings)


def waves(*, half: bool, channels: int = 1) -> PlaneWaves:
    """A random real density with Miller indices up to (2, 1, 3)."""
    rng = np.random.default_rng(0)
    grid = np.meshgrid(range(-2, 3), range(-1, 2), range(-3, 4), indexing="ij")
    miller = np.stack(grid, axis=-1).reshape(-1, 3)
    values = rng.normal(size=(channels, 5, 3, 7))
    spectrum = np.fft.fftn(values, axes=(1, 2, 3), norm="forward")
    coefficients = spectrum[(slice(None), *(miller % (5, 3, 7)).T)]
    if half:
        keep = [tuple(row) >= (0, 0, 0) for row in miller.tolist()]
        miller, coefficients = miller[keep], coefficients[:, keep]
    return PlaneWaves(np.eye(3), miller.astype(np.int32), coefficients, half)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_density_is_written_read_and_the_sum_of_its_plane_waves(tmp_path: Path, half: bool, channels: int) -> None:
    made = waves(half=half, channels=channels)
    made.write(tmp_path / "charge-density.dat")
    read = PlaneWaves.read(tmp_path / "charge-density.dat")
    assert read.half is half
    np.testing.assert_array_equal(read.miller, made.miller)
    np.testing.assert_array_equal(read.coefficients, made.coefficients)
    values = read.on_grid((8, 4, 9))
    point = np.array([3 / 8, 2 / 4, 7 / 9])
    terms = made.coefficients * np.exp(2j * np.pi * made.miller @ point)
    factor = np.where(made.miller.any(axis=1), 2, 1) if half else 1
    np.testing.assert_allclose(values[:, 3, 2, 7], (terms.real * factor).sum(axis=1) / Bohr**3, rtol=1e-10)
    np.testing.assert_allclose(read.like(values), made.coefficients, atol=1e-12)
    np.testing.assert_allclose(read.on_grid((4, 4, 3)), read.on_grid((8, 4, 9))[:, ::2, :, ::3], atol=1e-12)
    with pytest.raises(ValueError, match=r"a grid of \(4, 4, 3\) points is too coarse"):
        read.like(values[:, ::2, :, ::3])


@pytest.mark.parametrize("damage", ["cut", "mark", "spins", "empty"])
def test_damaged_densities_are_refused_by_name(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "charge-density.dat"
    waves(half=False).write(path)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-10]
    elif damage == "mark":
        data[0] = 13
    elif damage == "spins":
        data[12] = 4
    else:
        data = bytearray()
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"charge-density\.dat: (damaged|not a density)"):
        PlaneWaves.read(path)


def written_by_pw_with_hdf5(path: Path, density: PlaneWaves) -> None:
    """What `write_rhog` of Quantum ESPRESSO's Modules/io_base.f90 writes where it was built with HDF5."""
    with h5py.File(path, "w") as file:
        file.attrs["gamma_only"] = np.bytes_(".TRUE." if density.half else ".FALSE.")
        file.attrs["ngm_g"], file.attrs["nspin"] = np.int32(len(density.miller)), np.int32(len(density.coefficients))
        file["MillerIndices"] = density.miller
        for i, vector in enumerate(density.reciprocal, start=1):
            file["MillerIndices"].attrs[f"bg{i}"] = vector
        for name, row in zip(("rhotot_g", "rhodiff_g"), density.coefficients, strict=False):
            file[name] = np.stack([row.real, row.imag], axis=1).ravel()


@pytest.mark.parametrize(("half", "channels"), [(False, 1), (True, 2)])
def test_a_density_in_hdf5_is_read_and_its_coefficients_are_replaced(tmp_path: Path, half: bool, channels: int) -> None:
    path, made = tmp_path / "charge-density.hdf5", waves(half=half, channels=channels)
    written_by_pw_with_hdf5(path, made)
    read = PlaneWaves.read(path)
    assert read.half is half
    np.testing.assert_array_equal(read.reciprocal, made.reciprocal)
    np.testing.assert_array_equal(read.coefficients, made.coefficients)
    read.with_coefficients(0.5 * read.coefficients).write(path)
    with h5py.File(path) as file:
        assert file.attrs["gamma_only"] == np.bytes_(".TRUE." if half else ".FALSE.")
        np.testing.assert_array_equal(file["rhotot_g"][::2], 0.5 * made.coefficients[0].real)
        np.testing.assert_array_equal(file["rhotot_g"][1::2], 0.5 * made.coefficients[0].imag)
    other = waves(half=not half, channels=channels)
    with pytest.raises(ValueError, match=r"charge-density\.hdf5: has other plane waves"):
        other.write(path)


@pytest.mark.parametrize("damage", ["empty", "spins", "short"])
def test_damaged_densities_in_hdf5_are_refused_by_name(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "charge-density.hdf5"
    written_by_pw_with_hdf5(path, waves(half=False))
    if damage == "empty":
        path.write_bytes(b"")
    else:
        with h5py.File(path, "a") as file:
            if damage == "spins":
                file.attrs["nspin"] = 4
            else:
                file.attrs["ngm_g"] = 3
    with pytest.raises(ValueError, match=r"charge-density\.hdf5: not a density of pw\.x"):
        PlaneWaves.read(path)


@pytest.mark.parametrize(("species", "element"), [("Fe1", "Fe"), ("fe_up", "Fe"), ("H1", "H"), ("C", "C"), ("Ox", "O")])
def test_species_are_elements(species: str, element: str) -> None:
    assert element_of(species) == element


def test_settings_of_an_input_are_replaced_wherever_they_stand() -> None:
    text = "&control\n calculation='relax', outdir = \"x/y\" ! a comment\n/\n&ELECTRONS startingpot='atomic'\n/\n"
    changed = set_values(text, {"outdir": ".", "startingpot": "file", "electron_maxstep": 0})
    assert changed.count("outdir") == changed.count("startingpot") == 1
    assert "outdir = '.'" in changed
    assert "calculation='relax'" in changed
    assert "electron_maxstep = 0" in changed
    with pytest.raises(ValueError, match="no namelist &ELECTRONS"):
        set_values("&control\n/\n", {"startingpot": "file"})


def test_what_cannot_be_calculated_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected 4 × dft\.cutoff or more"):
        engine(density_cutoff=60.0)
    with pytest.raises(CalculationError, match="no pseudopotential of S"):
        engine().frame(molecule("SH2"))
    with pytest.raises(CalculationError, match=r"periodic in 0 directions.*expected three: give dft\.vacuum"):
        engine(vacuum=None).frame(molecule("H2O"))
    with pytest.raises(CalculationError, match="has no functional BEEF"):
        engine().input(engine().frame(molecule("H2O")), FUNCTIONALS["BEEF"])
    charged = molecule("OH")
    charged.info["charge"] = -1
    with pytest.raises(CalculationError, match="has the charge -1, which would be ignored"):
        engine().frame(charged)
    with pytest.raises(ModuleNotFoundError, match="run `make qe`"):
        engine(command="no-such-program").check()


@needs_pw
@pytest.mark.parametrize(("name", "electrons"), [("O.pbe-kjpaw.UPF", 6), ("Si.pz-vbc.UPF", 4), ("C.UPF", 4)])
def test_valence_electrons_of_pseudopotentials(name: str, electrons: int) -> None:
    assert n_valence(PSEUDO / name) == electrons


@needs_pw
def test_pw_x_finds_its_own_density_again(tmp_path: Path) -> None:
    """Its density, taken to a grid and back and written by us, is self-consistent at once."""
    made = engine()
    framed = made.frame(molecule("H2O"))
    text = made.input(framed, PBE)
    (tmp_path / "scf.in").write_text(text)
    run_pw(tmp_path / "scf.in")
    save = Save(tmp_path / "pwscf.save")
    first, energy = save.iterations, save.energy
    assert save.atoms().get_chemical_formula() == "H2O"
    np.testing.assert_allclose(save.atoms().positions, framed.positions, atol=1e-6)
    density = save.density()
    assert density.half
    values = density.on_grid(save.shape)
    assert values.sum() * framed.get_volume() / values[0].size == pytest.approx(8.0, abs=1e-6)
    save.write_density(density.with_coefficients(density.like(values)))
    (tmp_path / "scf.in").write_text(set_values(text, {"startingpot": "file"}))
    run_pw(tmp_path / "scf.in")
    again = Save(tmp_path / "pwscf.save")
    assert again.iterations <= 3 < first
    assert again.energy == pytest.approx(energy, abs=1e-6)


@needs_pw
def test_the_density_of_a_molecule_has_its_electrons_and_kind() -> None:
    made = engine()
    calculation = made.calculate(made.frame(molecule("H2O")), PBE)
    calculation.check()
    assert calculation.n_valence == 8
    kind = made.kind(["H", "O"], [PBE])
    assert kind.code == "Quantum ESPRESSO"
    assert kind.pseudopotentials["O"].startswith("O.pbe-kjpaw.UPF ")


@needs_pw
def test_spin_of_the_hydrogen_atom() -> None:
    made = engine(spin=True, pseudopotentials=NORM_CONSERVING, density_cutoff=80.0, smearing=0.02)
    calculation = made.calculate(made.frame(ase.Atoms("H", magmoms=[1.0])), PZ)
    calculation.check()
    assert calculation.details["magnetic_moment"] == pytest.approx(1.0, abs=1e-3)
    density = calculation.density
    np.testing.assert_allclose(density.channel("difference"), density.values, atol=2e-3 * density.values.max())


@needs_pw
def test_without_convergence_there_is_a_reason() -> None:
    made = engine(max_iterations=2)
    with pytest.raises(CalculationError, match="PBE: not converged after 2 steps"):
        made.calculate(made.frame(molecule("H2O")), PBE)


def started(folder: Path, text: str) -> tuple[Save, Save]:
    """The outcome of a calculation as it is, and from free atoms as a model would predict them."""
    (folder / "own").mkdir()
    for name in ("scf.in", "own/scf.in"):
        (folder / name).write_text(text)
    run_pw(folder / "own" / "scf.in")
    start = start_quantum_espresso(folder / "scf.in", Predictor(FreeAtoms()), folder / "start")
    assert "startingpot = 'file'" in start.changed
    run_pw(start.input)
    return Save(folder / "own" / "pwscf.save"), Save(folder / "start" / "pwscf.save")


@needs_pw
def test_a_start_from_free_atoms_is_the_start_from_pw_x_own_atoms(tmp_path: Path) -> None:
    """PAW: the difference to free atoms vanishes, so what is written is the superposition of pw.x."""
    made = engine()
    own, start = started(tmp_path, made.input(made.frame(molecule("H2O")), PBE))
    assert start.is_converged
    assert start.energy == pytest.approx(own.energy, abs=1e-6)
    assert start.iterations <= own.iterations
    with pytest.raises(ValueError, match=r"it has a scf\.in already, which would be overwritten"):
        start_quantum_espresso(tmp_path / "scf.in", Predictor(FreeAtoms()), tmp_path / "start")


@needs_pw
def test_a_crystal_with_k_points_starts_in_norm_conserving_pseudopotentials(tmp_path: Path) -> None:
    settings = {"pseudopotentials": NORM_CONSERVING, "density_cutoff": 80.0, "vacuum": None, "kpoint_density": 2.0}
    made = engine(**settings)
    own, start = started(tmp_path, made.input(made.frame(bulk("Si")), PZ))
    assert own.is_norm_conserving
    assert not own.density().half
    assert start.energy == pytest.approx(own.energy, abs=1e-6)


@needs_pw
def test_an_input_that_pw_x_refuses_is_refused_in_its_words(tmp_path: Path) -> None:
    text = engine().input(engine().frame(molecule("H2O")), PBE)
    (tmp_path / "scf.in").write_text(text.replace("ecutwfc", "ecutwave"))
    with pytest.raises(CalculationError, match=r"pw\.x failed: Error in routine"):
        start_quantum_espresso(tmp_path / "scf.in", Predictor(FreeAtoms()), tmp_path / "start")


@needs_pw
def test_oxygen_with_spin_starts_in_ultrasoft_pseudopotentials(tmp_path: Path) -> None:
    """The triplet that pw.x's own atoms start with is kept, and found."""
    settings = {"pseudopotentials": {"O": "O.pbe-rrkjus.UPF"}, "spin": True, "smearing": 0.05}
    made = engine(**settings)
    framed = made.frame(ase.Atoms("O2", [[0, 0, 0], [0, 0, 1.22]], magmoms=[1.0, 1.0]))
    own, start = started(tmp_path, made.input(framed, PBE))
    assert start.magnetic_moment == pytest.approx(2.0, abs=1e-3)
    assert start.energy == pytest.approx(own.energy, abs=1e-6)
    electrons, moment = start.density().on_grid(start.shape).mean(axis=(1, 2, 3)) * framed.get_volume()
    assert (electrons, moment) == (pytest.approx(12.0, abs=1e-5), pytest.approx(2.0, abs=1e-3))


@needs_pw
def test_a_density_of_the_same_pseudopotentials_is_written_as_it_is(tmp_path: Path) -> None:
    made = engine()
    (tmp_path / "scf.in").write_text(made.input(made.frame(molecule("H2O")), PBE))
    predictor = Predictor(FreeAtoms(), info={"kind": made.kind(["H", "O"], [PBE]).as_dict()})
    start = start_quantum_espresso(tmp_path / "scf.in", predictor, tmp_path / "start")
    assert "written as predicted" in start.how
    save = Save(tmp_path / "start" / "pwscf.save")
    predicted = predictor.predict(save.atoms(), shape=save.shape)
    expected = np.asarray(predicted.values, dtype=np.float64)[None] * start.scaled_by
    density = save.density()
    np.testing.assert_allclose(density.coefficients, density.like(expected), atol=1e-9)
    other = {"kind": made.kind(["H", "O"], [PBE]).as_dict() | {"pseudopotentials": {"H": "another", "O": "another"}}}
    start = start_quantum_espresso(tmp_path / "scf.in", Predictor(FreeAtoms(), info=other), tmp_path / "second")
    assert "free atoms" in start.how
