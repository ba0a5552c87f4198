"""deepdft-generate as a user meets it: Dask's workers, what kill -9 leaves behind, and errors in one line."""

import importlib.util
import json
import os
import signal
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase import Atoms
from ase.build import molecule
from hydra.errors import ConfigCompositionException

from deepdft.clusters import slurm_cluster
from deepdft.data.store import DensityStore
from deepdft.runs.compose import compose
from tests.cli.processes import descendants, running, wait_for_the_end, wait_until

COMMAND = [sys.executable, "-m", "deepdft.cli.generate"]
REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
NAMES = ("H2O", "CH4", "HF", "NH3", "CO", "N2")


def fake(**settings: Any) -> list[str]:
    """Overrides that put an engine without DFT in GPAW's place."""
    entries = ",".join(f"{key}: {value}" for key, value in settings.items())
    return ["~dft", f"+dft={{_target_: tests.dft.fake.FakeEngine{', ' * bool(entries)}{entries}}}"]


def needs_slurm() -> None:
    needs_dask()
    # an extra, which CI installs. Not by importorskip: its import changes what Ctrl-C does in the tests that follow
    if importlib.util.find_spec("dask_jobqueue") is None:
        pytest.skip("dask-jobqueue is not installed: make gpaw")


def needs_dask() -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: make gpaw")


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments]
    environment = ENVIRONMENT | environment
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=180, check=False)


@pytest.fixture
def molecules(tmp_path: Path) -> Path:
    """Six molecules in one file."""
    path = tmp_path / "six.xyz"
    ase.io.write(path, [molecule(name) for name in NAMES])
    return path


def test_molecules_of_a_file_become_a_store(tmp_path: Path, molecules: Path) -> None:
    arguments = [f"structures={molecules}", "output=store", "cluster=none", "xc=[PBE,RP]", *fake()]
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": [0, 1, 2, 3], "validation": [4], "test": [5]}))
    result = run(*arguments, f"split={split}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "store: 6 structures × PBE, RPBE" in result.stdout
    assert "six-000005: done (6 of 6; 0:00:0" in result.stderr
    store = DensityStore(tmp_path / "store")
    assert store.names == [f"six-{i:06d}" for i in range(6)]
    assert store.index["command"][1:3] == [f"structures={molecules}", "output=store"]
    assert json.loads((store.root / "split.json").read_text())["test"] == ["six-000005"]
    again = run(*arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "store: complete already, 6 structures; nothing to calculate" in again.stdout
    split.write_text(json.dumps({"train": [5, 1, 2, 3], "validation": [4], "test": [0]}))
    assert "split: 4 train, 1 validation, 1 test" in run(*arguments, f"split={split}", cwd=tmp_path).stdout
    assert json.loads((store.root / "split.json").read_text())["test"] == ["six-000000"]


def test_a_functional_may_be_a_number(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "one.xyz", molecule("H2O"))
    result = run("structures=one.xyz", "output=store", "cluster=none", "xc=91", *fake(), cwd=tmp_path)
    assert "store: 1 structures × PW91" in result.stdout, result.stderr


def test_a_recipe_makes_the_structures_once(tmp_path: Path) -> None:
    arguments = ["recipe=nmc", "recipe.count=2", "output=store", "cluster=none", *fake()]
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    store = DensityStore(tmp_path / "store")
    assert store.index["recipe"]["_target_"] == "deepdft.dft.structures_layered.LayeredOxides"
    assert store.names[1].startswith("nmc-00001-")
    assert "complete already" in run(*arguments, cwd=tmp_path).stdout
    other = run(*arguments, "recipe.seed=1", cwd=tmp_path)
    assert other.returncode == 1
    assert "already a store, of another source or with other settings" in other.stderr


def test_an_unfinished_recipe_is_not_mixed_with_another(tmp_path: Path) -> None:
    arguments = ["recipe=qm9", "recipe.folder=.", "recipe.count=1", "output=store", "cluster=none", *fake()]
    (tmp_path / "dsgdb9nsd_000001.xyz").write_text("1\n\nXe 0 0 0 0\n")
    assert "all 1 structures failed, 000001 with: PBE: not converged" in run(*arguments, cwd=tmp_path).stderr
    result = run(*arguments, "recipe.seed=1", cwd=tmp_path)
    assert "a generation of another source, or with other settings, was started here" in result.stderr


def results(output: Path) -> list[Path]:
    return list((output / ".conversion" / "results").glob("*.json"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_generation_that_was_stopped_loses_only_what_was_running(
    tmp_path: Path, molecules: Path, how: signal.Signals
) -> None:
    needs_dask()
    log = tmp_path / "log"
    log.mkdir()
    output = tmp_path / "store"
    arguments = [f"structures={molecules}", f"output={output}", "workers=2", *fake(seconds=1.0, log=log)]
    with running([*COMMAND, *arguments], tmp_path, ENVIRONMENT) as process:
        wait_until(lambda: len(results(output)) >= 2, process)
        workers = descendants(process.pid)
        assert len(workers) >= 2
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as the terminal does
        else:
            process.kill()
        _, errors = process.communicate(timeout=60)
        if how == signal.SIGINT:
            assert process.returncode == 130
            last = errors.splitlines()[-1]
            assert last == "interrupted; to continue: the same command; structures that are done are kept"
            assert "Traceback" not in errors
        wait_for_the_end(workers)
    kept = {path.name for path in results(output)}
    assert 2 <= len(kept) < 6
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"{len(kept)} of 6 structures are there" in result.stderr
    DensityStore(output).verify()
    started = Counter(path.name.split("-")[0] for path in log.iterdir())
    twice = [name for name, count in started.items() if count > 1]
    assert len(twice) <= 2, "only what two workers were calculating is calculated again"


def test_a_structure_that_kills_its_worker_does_not_stop_the_others(tmp_path: Path) -> None:
    needs_dask()
    ase.io.write(tmp_path / "three.xyz", [molecule("H2O"), Atoms("Rn"), molecule("CH4")])
    result = run("structures=three.xyz", "output=store", "workers=2", *fake(), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1 structures failed; see store/rejected.csv" in result.stdout
    store = DensityStore(tmp_path / "store")
    assert store.names == ["three-000000", "three-000002"]
    assert "its worker was killed three times" in store.index["rejected"][0]["reason"]


def test_the_slurm_cluster_leaves_ctrl_c_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_slurm()
    for name in [name for name in sys.modules if name.partition(".")[0] == "dask_jobqueue"]:
        monkeypatch.delitem(sys.modules, name)
    before = signal.getsignal(signal.SIGINT)
    try:
        assert slurm_cluster().__name__ == "SLURMCluster"
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, before)


def test_slurm_jobs_are_submitted_and_work(tmp_path: Path, molecules: Path) -> None:
    """A script in the place of sbatch that runs the job at once: the rest is dask-jobqueue's own."""
    needs_dask()
    needs_slurm()
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, script in {
        "sbatch": f"cp $1 {tmp_path}/job.sh; setsid bash {tmp_path}/job.sh > {tmp_path}/job.log 2>&1 < /dev/null &\n"
        "echo Submitted batch job 1",
        "scancel": "exit 0",
    }.items():
        (tools / name).write_text(f"#!/bin/bash\n{script}\n")
        (tools / name).chmod(stat.S_IRWXU)
    result = run(
        f"structures={molecules}",
        "output=store",
        "cluster=slurm",
        "workers=1",
        "cluster.queue=cpu",
        "cluster.prologue=['export DEEPDFT_TEST=1']",
        *fake(),
        cwd=tmp_path,
        PATH=f"{tools}:{os.environ['PATH']}",
        HOME=str(tmp_path),
    )
    assert result.returncode == 0, result.stderr
    assert len(DensityStore(tmp_path / "store")) == 6
    job = (tmp_path / "job.sh").read_text()
    for line in ("#SBATCH -p cpu", "#SBATCH -t 24:00:00", "export OMP_NUM_THREADS=1", "export DEEPDFT_TEST=1"):
        assert line in job.splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["output=o"], "error: give either structures=… (files, folders, SMILES) or recipe=…"),
        (["structures=no.xyz", "output=o", *fake()], "error: structure=no.xyz: no such file"),
        (["structures=six.xyz", "output=o", "xc=B3LYP"], "error: xc=B3LYP: expected all, or some of PBE (PE), "),
        (["structures=six.xyz", "output=o", "xc=null"], "error: xc=null: expected a list, as xc=[PBE]"),
        (["structures=ion.xyz", "output=o", *fake()], "error: structures: 1 of 1 have a charge that would be ignored"),
        (["structures=six.xyz", "output=.", *fake()], "error: .: has other files in it"),
        (["structures=six.xyz", "output=o", "dft.spacing=0.4"], "error: dft.smoothing=0.1 Å is too sharp"),
        (["structures=six.xyz", "output=o", "cluster=slurm", *fake()], "error: cluster=slurm needs workers=N"),
        (["structures=six.xyz", "output=o", "workers=0", *fake()], "error: workers=0: expected at least 1"),
        (["structures=six.xyz", *fake()], "error: output=… is required"),
        (["structures=six.xyz", "output=o", "dft.vacum=3"], "error: "),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, molecules: Path, arguments: list[str], message: str) -> None:
    ase.io.write(tmp_path / "ion.xyz", Atoms("OH", [[0, 0, 0], [0.96, 0, 0]], info={"charge": -1}))
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(message), result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "overrides",
    [
        *(["dft=gpaw_molecule", f"cluster={name}"] for name in ("local", "slurm", "none", "here")),
        *(["dft=gpaw_periodic", f"recipe={name}"] for name in ("qm9", "ethylene_carbonate", "nmc")),
    ],
    ids=str,
)
def test_every_option_names_what_exists(overrides: list[str]) -> None:
    from hydra import compose, initialize_config_dir
    from hydra.utils import get_object
    from omegaconf import OmegaConf

    from deepdft.runs.compose import config_directory

    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        composed = OmegaConf.to_container(compose("generate", overrides=overrides), resolve=False)
    for group in ("dft", "cluster", "recipe"):
        if group in composed:
            assert callable(get_object(composed[group]["_target_"]))


@pytest.mark.parametrize("given", ["dft.hubbard_u={Ni: 6.2, Mn: 3.9}", "dft.hubbard_u.Ni=6.2", "dft.setups={Ni: '10'}"])
def test_mappings_that_are_empty_by_default_can_be_filled(given: str) -> None:
    dft = compose("generate", [given, "output=x"]).dft
    assert dft.hubbard_u.get("Ni", 6.2) == 6.2
    assert (dft.hubbard_u or dft.setups).keys() >= {"Ni"}
    with pytest.raises(ConfigCompositionException):
        compose("generate", ["dft.hubbard={Ni: 6.2}", "output=x"])
