"""Iterations and CPU time from different starting densities, on numbers that are known."""

import shutil
import sys
from pathlib import Path

import ase
import pytest

from deepdft.cli.evaluate import main
from deepdft.cli.evaluate import main as evaluate
from deepdft.dft.functionals import FUNCTIONALS
from deepdft.dft.quantum_espresso import QuantumEspresso
from deepdft.dft.start_comparison import MAX_ENERGY_DIFFERENCE, STARTS, StartRun, compare_starts
from deepdft.evaluation.starts import StructureStarts, summarise_starts
from deepdft.inference.predictor import Predictor
from deepdft.models.free_atoms import FreeAtoms

NAMES = ("default", "atoms", "model", "exact")


def run(start, count, energy=-10.0, preparation=0.0):
    """Each iteration takes a second and a tenth of the error."""
    accuracies = [10.0 ** -(9 - count + i) for i in range(count)]
    return StartRun(start, accuracies, [float(i + 1) for i in range(count)], float(count), preparation, energy)


def structure(index, counts, energies=(-10.0,) * 4):
    runs = [run(name, n, energy).as_dict() for name, n, energy in zip(NAMES, counts, energies, strict=True)]
    return StructureStarts(index, f"m{index}", "CH4", 5, 1000, 8.0, runs)


def test_iterations_and_time_until_a_threshold():
    made = run("model", 6, preparation=2.0)  # 1e-3, 1e-4, … 1e-8
    assert made.iterations(2e-6) == 4
    assert made.cpu_seconds(2e-6) == pytest.approx(2.0 + 4.0)
    assert made.iterations(1e-12) is None
    assert made.cpu_seconds(1e-12) is None


def test_savings_are_medians_over_pairs():
    rows = [structure(i, counts) for i, counts in enumerate([(10, 8, 5, 1), (8, 8, 6, 1), (10, 10, 9, 2)])]
    summary = summarise_starts(rows, [2e-8])
    assert summary["starts"]["default"]["2e-08"]["iterations"]["median"] == 10
    assert summary["saved"]["model against default"]["2e-08"]["iterations"]["median"] == pytest.approx(25.0)
    assert summary["saved"]["model against atoms"]["2e-08"]["iterations"]["median"] == pytest.approx(25.0)


def test_starts_that_end_elsewhere_do_not_count():
    rows = [structure(0, (10, 8, 5, 1)), structure(1, (10, 8, 2, 1), (-10.0, -10.0, -10.1, -10.0))]
    summary = summarise_starts(rows, [2e-8])
    assert (summary["n_structures"], summary["different_energies"]) == (1, ["m1"])
    with pytest.raises(ValueError, match="the starts of no structure end at the same energy"):
        summarise_starts(rows[1:], [2e-8])


PSEUDO = Path("/usr/share/espresso/pseudo")


@pytest.mark.skipif(not (shutil.which("pw.x") and PSEUDO.is_dir()), reason="needs Quantum ESPRESSO (make qe)")
def test_pw_needs_fewer_iterations_from_the_exact_density_and_ends_where_it_would_have():
    engine = QuantumEspresso(
        pseudopotentials={"H": "H.pbe-kjpaw.UPF"},
        pseudo_dir=str(PSEUDO),
        cutoff=15.0,
        density_cutoff=60.0,
        spacing=0.3,
        vacuum=2.0,
        kpoint_density=0.0,
        smearing=0.0,
        convergence=1e-9,
        max_iterations=40,
    )
    atoms = engine.frame(ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.9]]))
    runs = {run.start: run for run in compare_starts(atoms, FUNCTIONALS["PBE"], engine, Predictor(FreeAtoms()), STARTS)}
    assert list(runs) == list(STARTS)
    counts = {name: run.iterations(1e-7) for name, run in runs.items()}
    assert counts["exact"] < min(counts["default"], counts["atoms"])
    energies = [run.energy for run in runs.values()]
    assert max(energies) - min(energies) < MAX_ENERGY_DIFFERENCE
    assert runs["default"].preparation_seconds < runs["model"].preparation_seconds


def test_an_unknown_start_is_refused_before_anything_is_loaded_or_written(tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    arguments = ["evaluation=scf_start", "dft=qe", "checkpoint=bundled", "starts=[default,modle]", f"output={output}"]
    monkeypatch.setattr(sys, "argv", ["deepdft-evaluate", *arguments])
    with pytest.raises(SystemExit) as ended:
        evaluate()
    assert ended.value.code != 0
    assert "starts: modle: expected some of default" in capsys.readouterr().err
    assert {path.name for path in output.iterdir()} <= {".hydra"}  # settings that Hydra keeps


def test_settings_of_the_calculations_are_filled_in_as_for_generation(capsys, monkeypatch):
    arguments = ["evaluation=scf_start", "dft=qe", "dft.options={electrons: {diagonalization: ppcg}}"]
    monkeypatch.setattr(sys, "argv", ["deepdft-evaluate", *arguments, "--cfg", "job", "-p", "dft.options"])
    main()
    assert "diagonalization: ppcg" in capsys.readouterr().out
