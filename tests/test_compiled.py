"""Compilation is announced once, and only where there is one."""

from pathlib import Path

import pytest
from numba.core import config

from deepdft.compiled import announced, compiled


def test_the_first_compilation_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))  # empty, also when the tests run again

    @compiled
    def double(number):
        return 2 * number

    said: list[str] = []
    with announced(lambda: said.append("compiling")):
        assert said == []
        assert double(2) == 4
        assert said == ["compiling"]
        assert double(2.5) == 5.0, "compiled for other numbers"
        assert said == ["compiling"]
    with announced(lambda: said.append("again")):
        assert double(3) == 6
    assert said == ["compiling"]
