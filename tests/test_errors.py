"""Doubtful input is reported as one line on stderr."""

import warnings

import pytest

from deepdft.errors import InputWarning, warnings_as_lines


def test_input_warnings_become_one_line_each_and_the_same_text_once(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings_as_lines():
        for text in ("two atoms\n  at one place", "no cell", "no cell"):
            warnings.warn(text, InputWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: two atoms at one place\nwarning: no cell\n"


def test_other_warnings_are_left_as_they_are() -> None:
    with pytest.warns(RuntimeWarning, match="overflow"), warnings_as_lines():
        warnings.warn("overflow", RuntimeWarning, stacklevel=1)
    with pytest.warns(InputWarning, match="after the command"):
        warnings.warn("after the command", InputWarning, stacklevel=1)
