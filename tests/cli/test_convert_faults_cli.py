"""deepdft-convert on damaged stores, full disks and file systems without locks."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepdft.data.store import Store

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}

NO_LOCKS = """
#include <errno.h>
#include <stdarg.h>
#include <fcntl.h>
#include <sys/file.h>
int flock(int fd, int operation) { errno = REASON; return -1; }
"""
"""A file system without flock, as some mounts of Lustre (38) and NFS (37) are."""


def run(*arguments: str, cwd: Path, max_bytes: int | None = None, **environment: str) -> subprocess.CompletedProcess:
    def limit() -> None:
        if max_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))

    return subprocess.run(
        [sys.executable, "-m", "deepdft.cli.convert", *arguments],
        cwd=cwd,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=limit,
    )


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Four CHGCARs of a hydrogen atom; the second is spin-polarised."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for i in range(4):
        rng = np.random.default_rng(i)
        blocks = ["\n".join(f"{value:.6E}" for value in rng.random(20**3)) for _ in range(2 if i == 1 else 1)]
        header = f"{i}\n1.0\n5 0 0\n0 5 0\n0 0 5\nH\n1\nDirect\n0.5 0.5 0.5\n\n20 20 20\n"
        (folder / f"{i}.CHGCAR").write_text(header + "\n20 20 20\n".join(blocks) + "\n")
    return folder


def test_verify_says_that_a_store_is_whole_or_names_what_is_not(tmp_path: Path, sources: Path) -> None:
    made = run("source=sources", "output=~/out", "split={validation: 1, test: 1, seed: 3}", cwd=tmp_path, HOME="home")
    home = tmp_path / "home"
    assert made.returncode == 0, made.stderr
    assert "split: 2 train, 1 validation, 1 test" in made.stdout
    assert "kept: channels total, difference (of 1 of 4)\n" in made.stdout
    store = Store(home / "out")
    split = json.loads((home / "out" / "split.json").read_text())
    assert sorted(split["train"] + split["validation"] + split["test"]) == store.names
    whole = run("verify=home/out", cwd=tmp_path)
    assert (whole.returncode, whole.stdout) == (
        0,
        "home/out: 4 structures, every structure agrees with its checksum\n",
    )
    shard = home / "out" / "shard-00000.h5"
    content = bytearray(shard.read_bytes())
    place = content.find(store.values(2).tobytes())
    content[place + 1000] ^= 64
    shard.write_bytes(content)
    damaged = run("verify=home/out", cwd=tmp_path)
    assert damaged.returncode == 1
    assert damaged.stderr == (
        "error: home/out: 2 in shard-00000.h5 is damaged; copy the store or convert the data again\n"
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_line_and_the_conversion_resumes(tmp_path: Path, sources: Path, workers: int) -> None:
    arguments = ["source=sources", "output=out", f"workers={workers}", "shard_size=200e3"]
    full = run(*arguments, cwd=tmp_path, max_bytes=60_000)
    assert full.returncode == 1
    assert full.stderr.count("\n") == 1
    assert "shard-0000" in full.stderr
    assert "not written, file too large" in full.stderr
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file() and "shard" in path.name]
    assert not [name for name in left if name.endswith(".part")]
    again = run(*arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    Store(tmp_path / "out").verify()
    assert not (tmp_path / "out" / ".conversion").exists()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler for the library that takes locks away")
@pytest.mark.parametrize("errno", [37, 38])
def test_file_systems_without_locks_are_no_obstacle(tmp_path: Path, sources: Path, errno: int) -> None:
    (tmp_path / "shim.c").write_text(NO_LOCKS.replace("REASON", str(errno)))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "shim.so", "shim.c"], cwd=tmp_path, check=True)
    made = run("source=sources", "output=out", "workers=1", cwd=tmp_path, LD_PRELOAD=str(tmp_path / "shim.so"))
    assert made.returncode == 0, made.stderr
    Store(tmp_path / "out").verify()
