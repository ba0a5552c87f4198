"""Numbers in columns: the same as Python's `float` reads, or left to the reader of free text."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deepdft.io.columns import parse_columns
from deepdft.io.numbers import parse_values


def lines_of(words, per_line=5):
    return "".join("".join(words[k : k + per_line]) + "\n" for k in range(0, len(words), per_line)).encode()


def vasp_number(value):
    digits = f"{value:.10E}"
    return f" 0.{digits[0]}{digits[2:12]}E{int(digits[13:]) + 1:+03d}"


FORMS = [" {:18.11E}", " {:17.10E}", " {:12.5E}", "  {: .13E}"]


@settings(max_examples=150, deadline=None)
@example(" {:18.11E}", 6, 29208)  # reaches 1e33
@given(st.sampled_from(FORMS), st.integers(5, 43), st.integers(0, 10**6))
def test_columns_are_read_as_python_reads_them(form, n, seed):
    rng = np.random.default_rng(seed)
    magnitudes = rng.lognormal(0, 20, n).clip(max=1e29)  # larger ones are refused as damaged
    words = [form.format(x) for x in magnitudes * rng.choice([1, -1, 0], n)]
    values, end = parse_columns(lines_of(words), n)
    assert values.size == n // 5 * 5
    assert end == len(lines_of(words[: values.size]))
    np.testing.assert_allclose(values, [float(word) for word in words[: values.size]], rtol=4e-16)
    np.testing.assert_allclose(parse_values(lines_of(words), n), [float(word) for word in words], rtol=4e-16)


def test_usual_magnitudes_are_read_to_the_last_bit():
    words = [vasp_number(x) for x in np.random.default_rng(0).lognormal(0, 5, 5000)]
    np.testing.assert_array_equal(parse_columns(lines_of(words), 5000)[0], [float(word) for word in words])


def test_a_minus_sign_may_stand_in_the_place_of_the_blank():
    text = b" 0.12E+01 0.34E+01\n 0.56E-01-0.78E+00\n-0.90E+10 0.00E+00\n"
    np.testing.assert_allclose(parse_columns(text, 6)[0], [1.2, 3.4, 0.056, -0.78, -9.0e9, 0.0])


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "   \n"])
def test_line_ends(line_end):
    text = lines_of([" 1.5E+00"] * 10).decode().replace("\n", line_end).encode()
    assert parse_columns(text, 10)[0].tolist() == [1.5] * 10


@pytest.mark.parametrize("other", ["X", "-", " ", ".", "E", "\n", "+", "\x00"])
def test_any_byte_out_of_place_is_noticed(other):
    words = [vasp_number(x) for x in np.random.default_rng(1).lognormal(0, 5, 25)]
    text = lines_of(words)
    expected = parse_columns(text, 25)[0]
    for place in range(91, 2 * 91):  # in the second line
        damaged = text[:place] + other.encode() + text[place + 1 :]
        result = parse_columns(damaged, 25)
        if result is None or damaged == text:
            continue
        # a sign in the place of a sign or a blank before a number is no damage that could be seen
        assert other in "-+"
        assert text[place : place + 1] in (b" ", b"+", b"-")
        np.testing.assert_array_equal(np.delete(result[0], slice(5, 10)), np.delete(expected, slice(5, 10)))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b" 1 2 3\n 4 5 6\n",
        b" 1.5 2.5 3.5\n 4.5 5.5 6.5\n",
        b" 1.50E+00 2.5E+00 3.5E+00\n 1.50E+00 2.5E+00 3.5E+00\n",
        b" 1.5E+100 2.5E+100 3.5E+100\n 1.5E+100 2.5E+100 3.5E+100\n",
        b" 1.5D+10 2.5D+10 3.5D+10\n 1.5D+10 2.5D+10 3.5D+10\n",
        b" 1.5E+10 nan 3.5D+10\n 1.5D+10 2.5D+10 3.5D+10\n",
        b" 1.1234567890123456E+00\n" * 6,
        b" 1.5E+00 2.5E+00 3.5E+00\n",
    ],
)
def test_other_forms_are_left_alone(text):
    assert parse_columns(text, 6) is None


def test_an_absurd_exponent_in_columns_is_an_error():
    with pytest.raises(ValueError, match="value 3 is 1e\\+40"):
        parse_values(b" 1.0E+00 1.0E+00\n 1.0E+40 1.0E+00\n", 4)


@settings(max_examples=50, deadline=None)
@given(st.integers(10, 43), st.integers(0, 10**6))
def test_numbers_without_a_place_for_their_sign_are_read_in_columns_too(n, seed):
    rng = np.random.default_rng(seed)
    words = [f" {x:.5E}" for x in rng.lognormal(0, 10, n) * rng.choice([1, -1], n)]
    np.testing.assert_allclose(parse_values(lines_of(words), n), [float(word) for word in words], rtol=4e-16)
    assert parse_columns(lines_of(words).replace(b" -", b"-"), n) is not None
