"""Compilation is announced once, and only if it happens."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core import config

from deepdft.compiled import announced, compiled


def test_the_first_compilation_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))  # empty, also when the tests run again

    @compiled
    def double(number):
        return 2 * number

    reported: list[str] = []
    with announced(lambda: reported.append("compiling")):
        assert reported == []
        assert double(2) == 4
        assert reported == ["compiling"]
        assert double(2.5) == 5.0, "compiled for other numbers"
        assert reported == ["compiling"]
    with announced(lambda: reported.append("again")):
        assert double(3) == 6
    assert reported == ["compiling"]


def test_an_edited_helper_is_compiled_again(tmp_path: Path) -> None:
    """A kernel of one file uses a helper of another: Numba alone would keep the kernel with the old helper."""
    (tmp_path / "helper.py").write_text(
        "from deepdft.compiled import compiled\n\n@compiled\ndef factor(x):\n    return 2 * x\n"
    )
    (tmp_path / "kernel.py").write_text(
        "from deepdft.compiled import compiled\nfrom helper import factor\n\n"
        "@compiled\ndef scaled(x):\n    return factor(x)\n\n"
        "print(scaled(5), sum(scaled.stats.cache_hits.values()))\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}

    def run() -> str:
        found = subprocess.run(
            [sys.executable, "kernel.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return found.stdout.strip()

    assert run() == "10 0"
    assert run() == "10 1", "it is kept"
    helper = (tmp_path / "helper.py").read_text()
    (tmp_path / "helper.py").write_text(helper.replace("2 * x", "3 * x"))
    assert run() == "15 0"
