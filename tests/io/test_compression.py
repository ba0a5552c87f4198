"""Compressed data: by suffix, by first bytes, damaged, truncated."""

import pytest

from deepdft.errors import DensityFormatError
from deepdft.io.compression import SUFFIXES, compress, decompress, split_compression

TEXT = b"0.12345678901E+02 " * 500


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("named", [True, False])
def test_compressed_text_comes_back(suffix, named):
    data = compress(TEXT, suffix)
    assert len(data) < len(TEXT) / 5
    assert decompress(data, f"CHGCAR{suffix}" if named else "CHGCAR") == TEXT


def test_plain_text_is_left_alone():
    assert decompress(TEXT, "CHGCAR") == compress(TEXT, "") == TEXT


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data[: len(data) // 2] + b"\xff\x00" + data[len(data) // 2 + 2 :],
        lambda data: data + b"more",
        lambda _: b"",
        lambda _: TEXT,
    ],
    ids=["last byte", "truncated", "changed", "trailing", "empty", "not compressed"],
)
def test_damaged_data_are_named(suffix, damage):
    with pytest.raises(DensityFormatError, match=rf"^a\.tar: CHGCAR\{suffix}: not a whole \w+.* file"):
        decompress(damage(compress(TEXT, suffix)), f"a.tar: CHGCAR{suffix}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.b/CHGCAR.zz", ("a.b/CHGCAR", ".zz")), ("x.cube.GZ", ("x.cube", ".gz")), ("x.cube", ("x.cube", ""))],
)
def test_names_are_split(name, expected):
    assert split_compression(name) == expected
