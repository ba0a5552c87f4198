"""Blocks of numbers: exactly what was written, or an error."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deepdft.io.numbers import parse_values

VALUES = np.array([1.5, 0.25, 3e-5, 12.0, 0.0, 7.125e10, 1.0625])
FORMS = [" %18.11E", " %12.5E", " %.8e"]


def text_of(values, form=" %18.11E", per_line=5, per_run=0):
    words = [form % value for value in values]
    runs = [words[k : k + per_run] for k in range(0, len(words), per_run)] if per_run else [words]
    lines = ["".join(run[k : k + per_line]) for run in runs for k in range(0, len(run), per_line)]
    return "".join(line + "\n" for line in lines).encode()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("per_line", "per_run"), [(5, 0), (10, 0), (1, 0), (6, 7), (3, 7)])
def test_written_numbers_are_read_back(form, per_line, per_run):
    values = np.tile(VALUES, 4) * [-1] * 28
    text = text_of(values, form, per_line, per_run)
    n_runs = 4 if per_run else 0
    np.testing.assert_allclose(parse_values(text, 28, n_runs), values, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b" 0.12345678901-100 0.5E+00", [0.12345678901e-100, 0.5]),  # Fortran drops the letter
        (b" 0.12345678901-100-0.50000000000E+00", [0.12345678901e-100, -0.5]),
        (b" 0.123D+01 0.456D-01 0.789d+00", [1.23, 0.0456, 0.789]),
        (b" 0.123E+01-0.456E+01-0.789E-02", [1.23, -4.56, -0.00789]),  # a minus sign begins a number
        (b" 0.123E+01-.456E+01", [1.23, -4.56]),
        (b" 1.5E-101-0.4E+01", [1.5e-101, -4.0]),
        (b"1 2 3", [1, 2, 3]),
        (b" 1.5\r\n 2.5\r\n", [1.5, 2.5]),
    ],
)
def test_what_fortran_writes_oddly_is_repaired_where_one_reading_is_possible(text, expected):
    np.testing.assert_allclose(parse_values(text, len(expected)), expected, rtol=1e-14)


@pytest.mark.parametrize(
    "text",
    [
        b"0.123E+010.456E+01",  # 10 or 1010.456?
        b"1.0 ***** 3.0",
        b"1.0 2.0E 3.0",
        b"1.0 abc 3.0",
        b"1.0 0x10 3.0",
        b"1.0 1_0 3.0",
        b"1.0,2.0,3.0",
        b"1.0 2.0-3.0",
        b"1.0 2.0+03 3.0",
        b"1.0 2.0 3.0\x00\x00",
        b"1.0 2.0 \xff",
    ],
)
def test_what_is_no_number_is_named(text):
    with pytest.raises(ValueError, match="is not a number"):
        parse_values(text, 3)


@pytest.mark.parametrize("text", [b"1.0 nan 3.0", b"1.0 inf 3.0", b"1.0 -inf 3.0", b"1.0 1e400 3.0", b"1.0 1e99 3.0"])
def test_what_is_not_finite_or_absurd_is_named(text):
    with pytest.raises(ValueError, match="value 2 is"):
        parse_values(text, 3)


@pytest.mark.parametrize(("n", "what"), [(6, "fewer"), (4, "more")])
def test_the_count_must_be_exact(n, what):
    with pytest.raises(ValueError, match=f"expected {n} values, found 5, {what}"):
        parse_values(b"1 2 3 4 5", n)


def test_blank_text_holds_no_numbers():  # numpy.fromstring("  ") is [-1.]
    with pytest.raises(ValueError, match="expected 1 values, found 0"):
        parse_values(b" \n ", 1)


def test_a_last_number_that_was_cut_is_an_error():
    text = text_of(VALUES)
    for cut in (text[:-2], text[:-3], text[:-5], text[:-10]):
        with pytest.raises(ValueError, match=r"differs in form|not a number|no exponent"):
            parse_values(cut, 7)


def test_numbers_of_any_form_are_accepted_where_many_forms_are():
    free = " ".join(f"{x:g}" for x in np.random.default_rng(0).random(500) * 10.0 ** -np.arange(500)[::-1].clip(0, 9))
    assert parse_values(free.encode() + b"\n0.5 1.25 3", 503)[-1] == 3.0


def test_general_format_of_chg_files_is_accepted():
    values = np.random.default_rng(1).lognormal(0, 5, 2000)
    text = text_of(values, " %#11.5G", 10)
    np.testing.assert_allclose(parse_values(text, 2000), values, rtol=1e-4)


@pytest.mark.parametrize("n", [195, 197])  # of which the last line is full, and is not
@pytest.mark.parametrize("form", FORMS)
def test_a_digit_lost_or_added_among_numbers_of_both_signs_is_an_error(form, n):
    values = np.random.default_rng(0).lognormal(0, 2, n) * np.where(np.arange(n) % 4 == 3, -1, 1)
    text = text_of(values, form)
    assert parse_values(text, n).size == n
    digits = [match.start() for match in re.finditer(rb"\d(?=\d*[.Ee])", text)]  # of mantissas
    for place in digits[::5]:
        for damaged in (text[:place] + text[place + 1 :], text[:place] + b"5" + text[place:]):
            with pytest.raises(ValueError, match="differs in form"):
                parse_values(damaged, n)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_one_character_lost_or_added_gives_an_error_or_the_same_numbers(data):
    form = data.draw(st.sampled_from(FORMS))
    per_line, per_run = data.draw(st.sampled_from([(5, 0), (10, 0), (6, 8)]))
    n_runs = 5 if per_run else 0
    values = np.random.default_rng(data.draw(st.integers(0, 9))).lognormal(0, 8, 40)
    text = text_of(values, form, per_line, per_run)
    place = data.draw(st.integers(0, len(text) - 1))
    # signs and digits in places where they make another whole number of the same form cannot be noticed in any text
    added = data.draw(st.sampled_from(["", *"0123456789 .\n\tEeD*xN,\x00"]))
    damaged = text[:place] + added.encode() + text[place + (not added) :]
    exponent = text.rfind(b" ", 0, place) < text.upper().rfind(b"E", 0, place)
    assume(not (exponent and added and added in "123456789"))  # E+04 → E+104
    expected = parse_values(text, 40, n_runs)
    try:
        found = parse_values(damaged, 40, n_runs)
    except ValueError:
        return
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 39), st.binary(max_size=25), st.integers(0, 25))
def test_damage_of_any_kind_never_shifts_the_numbers_around_it(index, noise, lost):
    values = np.arange(1.0, 41.0)
    text = text_of(values)
    place = text.find(f"{values[index]:.11E}".encode())
    damaged = text[:place] + noise + text[place + lost :]
    try:
        found = parse_values(damaged, 40)
    except ValueError:
        return
    touched = [index, min(index + 1, 39), max(index - 1, 0)]  # 25 characters reach into the next number
    np.testing.assert_array_equal(np.delete(found, touched), np.delete(values, touched))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40 * 19 + 8))
def test_truncated_text_gives_an_error_or_the_same_numbers(end):
    values = np.random.default_rng(3).lognormal(0, 8, 40)
    text = text_of(values)
    try:
        found = parse_values(text[:end], 40)
    except ValueError:
        return
    np.testing.assert_array_equal(found, parse_values(text, 40))
