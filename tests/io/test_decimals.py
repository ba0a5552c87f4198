"""Numbers as text: what Python's own formatting writes, one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepdft.io.decimals import format_fortran, format_values

EDGES = [0.0, -0.0, 1.0, -1.0, 0.1, 1e22, 1e23, 999999.4, 999999.6, -99999.96, 9.99999999999e98, 1e-99, -1e-99, 1e-5]


@pytest.mark.parametrize("n_decimals", [5, 11])
def test_numbers_are_written_as_python_writes_them(n_decimals):
    rng = np.random.default_rng(0)
    values = np.concatenate([EDGES, rng.lognormal(0, 40, 100_000) * rng.choice([1, -1], 100_000)])
    words = format_values(values, n_decimals, 7).replace("\n", "")
    width = n_decimals + 8
    found = [words[k : k + width] for k in range(0, len(words), width)]
    expected = [f" %{n_decimals + 7}.{n_decimals}E" % (value + 0.0) for value in values]  # -0.0 + 0.0 is 0.0
    different = [(a, b) for a, b in zip(found, expected, strict=True) if a != b]
    assert len(different) < 10  # halfway between two last digits, one or the other is as good
    for a, b in different:
        assert float(a) == pytest.approx(float(b), rel=1.01 * 10.0**-n_decimals)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(1e-90, 1e90) | st.floats(-1e90, -1e-90), min_size=1, max_size=9), st.sampled_from([1, 5, 11]))
def test_what_is_written_is_the_number_to_half_a_unit_of_the_last_digit(values, n_decimals):
    found = np.array(format_values(np.array(values), n_decimals, 4).split(), float)
    unit = 10.0 ** (np.floor(np.log10(np.abs(found))) - n_decimals)
    assert (np.abs(found - values) <= 0.51 * unit).all()


def test_numbers_too_small_for_two_digits_of_exponent_are_written_as_zero():
    assert format_values(np.array([1e-98, 1e-120, -1e-300]), 2, 3) == "  1.00E-98  0.00E+00  0.00E+00\n"


def test_single_precision_is_written_without_a_warning():
    assert format_values(np.array([0.5, -3e38], np.float32), 2, 2) == "  5.00E-01 -3.00E+38\n"


def test_lines_and_runs():
    assert format_values(np.ones(7), 1, 3) == 2 * (3 * "  1.0E+00" + "\n") + "  1.0E+00\n"
    assert format_values(np.ones(6), 1, 3) == 2 * (3 * "  1.0E+00" + "\n")
    assert format_values(np.ones(8), 1, 3, 4) == 2 * (3 * "  1.0E+00" + "\n" + "  1.0E+00\n")
    assert format_values(np.ones(0), 1, 3) == ""


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e99])
def test_what_no_density_is_cannot_be_written(value):
    with pytest.raises(ValueError, match="not finite or not below 1e"):
        format_values(np.array([1.0, value]), 5, 6)


def fortran(value: float, n_digits: int) -> str:
    """What VASP's `1X,E17.11` and the like print, from Python's own digits."""
    sign = "-" if value < 0 else "0"
    mantissa, exponent = f"{abs(value):.{n_digits - 1}E}".split("E")
    power = int(exponent) + 1 if value else 0
    return f" {sign}.{mantissa.replace('.', '')}E{power:+03d}"


def test_fortran_numbers_have_mantissas_below_one():
    rng = np.random.default_rng(1)
    values = np.concatenate([EDGES[:-4], rng.lognormal(0, 20, 20_000) * rng.choice([1, -1], 20_000)])
    words = format_fortran(values, 11, 5).replace("\n", "")
    found = [words[k : k + 18] for k in range(0, len(words), 18)]
    different = [
        pair for pair in zip(found, (fortran(value, 11) for value in values), strict=True) if pair[0] != pair[1]
    ]
    assert len(different) < 10  # halfway between two last digits, one or the other is as good
    for a, b in different:
        assert float(a) == pytest.approx(float(b), rel=1.01e-10)
    assert format_fortran(np.array([0.44143837606, -0.0027330404989, 0.0]), 11, 2) == (
        " 0.44143837606E+00 -.27330404989E-02\n 0.00000000000E+00\n"
    )
