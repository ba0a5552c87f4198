"""Amounts of memory, written and measured."""

import pytest

from deepdft.memory import available_memory, parse_memory, resident_memory


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4GB", 4 * 10**9), ("500 mb", 5 * 10**8), ("1GiB", 2**30), (2e9, 2 * 10**9), ("1.5G", 15 * 10**8), (300, 300)],
)
def test_amounts_of_memory_are_read(text, expected):
    assert parse_memory(text) == expected


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "4 apples", "1e999e", "nan"])
def test_other_amounts_are_refused(text):
    with pytest.raises(ValueError, match="expected an amount such as 4GB"):
        parse_memory(text)


def test_memory_is_seen():
    assert 10**7 < resident_memory() < 10**12
    assert available_memory() > 10**7
