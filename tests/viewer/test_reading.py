"""The process that reads: errors come back, and what takes too long or too much memory is ended."""

import time

import numpy as np
import pytest

from deepdft.viewer.limits import Limits
from deepdft.viewer.reading import Reader
from deepdft.viewer.sources import Source

pytest.importorskip("rdkit", reason="needs the extra `view`")


def sleep(seconds, limits):
    time.sleep(seconds)


def fill(n_bytes, limits):
    return Source(str(np.ones(n_bytes, dtype=np.uint8).sum()), None)


def fail(text, limits):
    raise ValueError(text)


@pytest.fixture(scope="module")
def reader():
    made = Reader(Limits(max_reading_seconds=20, max_reading_bytes=2**30))
    yield made
    made.close()


def test_what_is_read_and_what_is_wrong_come_back(reader):
    assert reader.text("CCO").atoms.get_chemical_formula() == "C2H6O"
    assert len(reader.upload("x.xyz", b"1\n\nO 0 0 0\n").atoms) == 1
    with pytest.raises(ValueError, match=r"x\.xyz: it cannot be read"):
        reader.upload("x.xyz", b"nonsense")
    with pytest.raises(ValueError, match="once"):
        reader._read(fail, "once")


def test_too_much_memory_is_told_and_the_next_is_read(reader):
    with pytest.raises(ValueError, match="memory"):
        reader._read(fill, 2**31)
    assert reader.text("O").atoms.get_chemical_formula() == "H2O"


def test_what_takes_too_long_is_ended_and_the_next_is_read():
    reader = Reader(Limits(max_reading_seconds=0.2))
    try:
        with pytest.raises(ValueError, match=r"longer than 0\.2 s"):
            reader._read(sleep, 1000)
        assert reader._process is None
        reader.limits = Limits()
        assert reader.text("O").atoms.get_chemical_formula() == "H2O"
    finally:
        reader.close()
