"""deepdft-convert as a user meets it: output, errors in one line, and what is left after it was killed."""

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from deepdft.data.store import Store
from tests.cli.processes import children, has_ended, running, said_of, wait_for_the_end, wait_until

COMMAND = [sys.executable, "-m", "deepdft.cli.convert"]
REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
N = 24


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar of densities that take some 50 ms each."""
    path = tmp_path_factory.mktemp("source") / "many.tar"
    n = 48
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for i in range(N):
            values = "\n".join(f"{value:.6E}" for value in rng.random(n**3) * 125.0)
            text = f"{i}\n1.0\n5 0 0\n0 5 0\n0 0 5\nH\n1\nDirect\n0.5 0.5 0.5\n\n{n} {n} {n}\n{values}\n"
            data = zlib.compress(text.encode(), 1)
            info = tarfile.TarInfo(f"{i:03d}.CHGCAR.zz")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def arguments(source: Path, output: Path, *more: str) -> list[str]:
    return [*COMMAND, f"source={source}", f"output={output}", "shard_size=1e6", "workers=2", *more]


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=300, check=False
    )


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("shard-*.h5")}


def workers_of(process: subprocess.Popen[str]) -> set[int]:
    return {child for child in children(process.pid) if "spawn_main" in said_of(child, "cmdline")}


def wait_for_a_shard(output: Path, process: subprocess.Popen[str]) -> set[int]:
    """The workers at the time when the first shard is there."""
    wait_until(lambda: list(output.glob("shard-*.h5")), process)
    return workers_of(process)


def has_python_s_handler(pid: int) -> bool:
    """Whether SIGINT would raise KeyboardInterrupt there: the interpreter runs, but has hardly imported anything."""
    caught = re.search(r"SigCgt:\s*(\w+)", said_of(pid, "status"))
    return caught is not None and bool(int(caught[1], base=16) >> (signal.SIGINT - 1) & 1)


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of an undisturbed conversion."""
    output = tmp_path_factory.mktemp("whole") / "store"
    result = run(*arguments(source, output), cwd=output.parent)
    assert result.returncode == 0, result.stderr
    assert f"{output}: {N} structures in " in result.stdout
    assert "electrons on the grid: " in result.stdout
    assert [path.name for path in output.parent.iterdir()] == ["store"]  # no log, no .hydra
    return output


def test_killed_in_the_middle_and_resumed_it_gives_the_same_bytes(source: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "store"
    with running(arguments(source, output), tmp_path, ENVIRONMENT) as process:
        workers = wait_for_a_shard(output, process)
        assert [has_ended(worker) for worker in workers] == [False, False]
        process.kill()
        wait_for_the_end(workers)
    finished = {path.name: path.stat().st_ino for path in output.glob("shard-*.h5")}
    assert 0 < len(finished) < len(contents(whole))
    assert not (output / "index.json").exists()
    result = run(*arguments(source, output), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert {name: (output / name).stat().st_ino for name in finished} == finished
    assert contents(output) == contents(whole)
    assert Store(output).fingerprint == Store(whole).fingerprint
    assert sorted(path.name for path in output.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_a_killed_worker_ends_the_command_with_a_remedy(source: Path, tmp_path: Path) -> None:
    with running(arguments(source, tmp_path / "store"), tmp_path, ENVIRONMENT) as process:
        workers = wait_for_a_shard(tmp_path / "store", process)
        os.kill(min(workers), signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        assert errors.startswith("error: a worker was killed, perhaps for lack of memory")
        assert "fewer workers" in errors
        assert errors.count("\n") == 1
        wait_for_the_end(workers)


def test_ctrl_c_says_how_to_continue(source: Path, tmp_path: Path) -> None:
    with running(arguments(source, tmp_path / "store"), tmp_path, ENVIRONMENT) as process:
        workers = wait_for_a_shard(tmp_path / "store", process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 130
        assert errors == "interrupted; to continue: the same command; finished shards are kept\n"
        wait_for_the_end(workers)


def test_ctrl_c_while_workers_are_starting_ends_as_quietly(source: Path, tmp_path: Path) -> None:
    with running(arguments(source, tmp_path / "store"), tmp_path, ENVIRONMENT) as process:
        wait_until(lambda: any(has_python_s_handler(worker) for worker in workers_of(process)), process)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (
        130,
        "interrupted; to continue: the same command; finished shards are kept\n",
    )


def test_a_finished_store_is_reported_to_be_complete(source: Path, whole: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": [0, 2], "validation": [1], "test": [3]}))
    result = run(*arguments(source, whole, f"split={split}"), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"complete already, {N} structures; nothing to convert" in result.stdout
    assert "split: 2 train, 1 validation, 1 test" in result.stdout
    assert json.loads((whole / "split.json").read_text())["train"] == ["000", "002"]
    (whole / "split.json").unlink()
    result = run(*arguments(source, whole, "label=RPBE"), cwd=tmp_path)
    assert result.returncode == 1
    assert "already a store, of another source or with other settings" in result.stderr


def test_relative_paths_and_lists_are_read_from_where_the_user_stands(tmp_path: Path) -> None:
    cell = "1.0\n2 0 0\n0 2 0\n0 0 2\nH\n1\nDirect\n0 0 0\n\n1 1 2\n3.0 5.0\n"
    for name in ("a", "b"):
        (tmp_path / f"{name}.CHGCAR").write_text(f"{name}\n{cell}")
    result = run(*COMMAND, "source=[b.CHGCAR,a.CHGCAR]", "output=out/store", "workers=1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    store = Store(tmp_path / "out" / "store")
    assert store.names == ["b", "a"]
    assert store.n_electrons.tolist() == [4.0, 4.0]
    assert store.index["sources"] == ["b.CHGCAR", "a.CHGCAR"]
    assert "source=[b.CHGCAR,a.CHGCAR]" in store.index["command"]


CELL = "1.0\n2 0 0\n0 2 0\n0 0 2\nH\n1\nDirect\n0 0 0\n\n1 1 2\n"


def test_runs_of_vasp_are_one_density_each_and_what_is_left_out_is_reported(tmp_path: Path) -> None:
    for run_name in ("1", "2"):
        (tmp_path / "runs" / run_name).mkdir(parents=True)
        for name in ("CHGCAR", "AECCAR0", "AECCAR1", "CHG", "INCAR", ".hidden"):
            (tmp_path / "runs" / run_name / name).write_text(f"{name}\n{CELL}1.0 1.0\n")
    (tmp_path / "runs" / "1" / "\udcff").write_text("a name in another encoding")
    result = run(*COMMAND, "source=runs", "output=out", "workers=1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert Store(tmp_path / "out").names == ["1/CHGCAR", "2/CHGCAR"]
    others = r"3 not a density (1/INCAR, '1/\udcff', 2/INCAR)"
    reported = f"left out of the source: 6 derived from a CHGCAR (1/AECCAR0, 1/AECCAR1, 1/CHG, …); {others}\n"
    assert reported in result.stdout
    assert result.stderr == ""


def test_densities_that_cannot_be_are_reported_once_and_stored(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.CHGCAR").write_text(f"{i}\n{CELL}{i}.0 {i}.0\n")
    result = run(*COMMAND, "source=[0.CHGCAR,1.CHGCAR,2.CHGCAR,3.CHGCAR,4.CHGCAR]", "output=out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith(
        "warning: 4 of 5 densities have no electrons, or more than 1.05 × the sum of atomic numbers: "
        "0 (0.00 of 1), 2 (2.00 of 1), 3 (3.00 of 1), …; they are in the store"
    )
    assert result.stderr.count("\n") == 1
    assert "left out" not in result.stdout
    assert Store(tmp_path / "out").names == list("01234")


def test_whether_structures_repeat_can_be_reported(tmp_path: Path) -> None:
    (tmp_path / "x.CHGCAR").write_text(f"x\n{CELL}1.0 1.0\n")
    for pbc, expected in (("null", True), ("true", True), ("false", False)):
        result = run(*COMMAND, "source=x.CHGCAR", f"output=out-{pbc}", f"pbc={pbc}", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert Store(tmp_path / f"out-{pbc}").atoms(0).pbc.tolist() == [expected] * 3
    result = run(*COMMAND, "source=x.CHGCAR", "output=out-false", cwd=tmp_path)
    assert "out-false: already a store, of another source or with other settings" in result.stderr


def test_a_zip_is_refused_in_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x.CHGCAR", f"x\n{CELL}1.0 1.0\n")
    result = run(*COMMAND, "source=x.zip", "output=out", cwd=tmp_path)
    remedy = "unpack it, or pack its files as an uncompressed tar"
    assert (result.returncode, result.stderr) == (1, f"error: x.zip: zip archives are not read; {remedy}\n")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "source=… is required"),
        (["source=x.tar"], "output=… is required"),
        (["source=x.tar", "output=out"], "x.tar: there is no such file"),
        (["source=x.tar", "output=out", "compresion=zfp"], "no option 'compresion': did you mean compression?"),
        (["source=x.tar", "output=out", "+spilt=s.json"], "no option 'spilt': did you mean split?"),
        (["source=x.tar", "output=out", "+colour=red"], "no option 'colour': --help explains them"),
        (["source=x.tar", "output=out", "compression=zip"], "compression=zip: expected one of none, bitshuffle, zfp"),
        (["source=x.tar", "output=out", "on_error=ignore"], "on_error=ignore: expected stop or skip"),
        (["source=x.tar", "output=out", "pbc=yes"], "pbc=yes: expected true (repeats), false (a molecule) or null"),
        (["source=x.tar", "output=out", "pbc=1"], "pbc=1: expected true"),
        (["source=x.tar", "output=out", "pbc=[true,true,false]"], "pbc=[True, True, False]: expected true"),
        (["source=x.tar", "output=out", "split=s.json"], "s.json: there is no such split file"),
        (["source=[x.tar", "output=out"], "no viable alternative at input"),
    ],
)
def test_mistakes_are_one_line_without_a_traceback(tmp_path: Path, overrides: list[str], message: str) -> None:
    result = run(*COMMAND, *overrides, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_tracebacks_can_be_asked_for(tmp_path: Path) -> None:
    for variable in ("DEEPDFT_DEBUG", "HYDRA_FULL_ERROR"):
        result = run(*COMMAND, "source=x.tar", "output=out", cwd=tmp_path, **{variable: "1"})
        assert result.returncode == 1
        assert "Traceback" in result.stderr
        assert "x.tar: there is no such file" in result.stderr


def test_help_explains_every_option(tmp_path: Path) -> None:
    result = run(*COMMAND, "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    config = (REPOSITORY / "conf" / "convert.yaml").read_text().split("hydra:")[0]
    options = [line.partition(":")[0] for line in config.splitlines() if line[:1].isalpha() and "defaults" not in line]
    assert "source" in options
    assert "shard_size" in options
    for option in options:
        assert f"\n  {option} " in result.stdout, f"{option} is not explained"
    assert "deepdft-convert source=" in result.stdout
