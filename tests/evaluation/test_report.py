"""The summary of an evaluation, against numbers worked out by hand."""

import numpy as np
import pytest
from rich.console import Console

from deepdft.evaluation.errors import StructureErrors
from deepdft.evaluation.report import histogram, summarise, summary_table


def row(name, n_points, eps, density, squared=0.0, electron_error=0.0):
    """A structure with voxels of 1 Å³."""
    absolute = eps / 100 * density
    return StructureErrors(
        position=0,
        name=name,
        formula="H2O",
        n_atoms=3,
        n_points=n_points,
        n_electrons=density,
        eps_mae=eps,
        mae=absolute / n_points,
        rmse=float(np.sqrt(squared / n_points)),
        electron_error=electron_error,
        absolute_error=absolute,
        absolute_density=density,
    )


ROWS = [
    row("small", 100, 1.0, 8.0, squared=4.0, electron_error=0.1),
    row("large", 300, 2.0, 32.0, squared=12.0, electron_error=-0.3),
    row("bad", 100, 6.0, 10.0, squared=4.0, electron_error=0.2),
]


def test_mean_median_and_largest_error_are_over_structures():
    eps = summarise(ROWS)["eps_mae"]
    assert eps["mean"] == pytest.approx(3.0)
    assert eps["median"] == pytest.approx(2.0)
    assert eps["max"] == pytest.approx(6.0)
    assert eps["p99"] == pytest.approx(2.0 + 0.98 * 4.0)  # 99 % of the way from the first to the third


def test_the_pooled_error_weighs_structures_by_their_electrons():
    assert summarise(ROWS)["eps_mae"]["pooled"] == pytest.approx(100 * (0.08 + 0.64 + 0.6) / 50.0)


def test_mae_and_rmse_are_over_all_points():
    summary = summarise(ROWS)
    assert summary["mae"] == pytest.approx((0.08 + 0.64 + 0.6) / 500)
    assert summary["rmse"] == pytest.approx(np.sqrt(20.0 / 500))
    assert (summary["n_structures"], summary["n_points"]) == (3, 500)


def test_electron_errors_keep_their_sign_in_the_mean():
    electrons = summarise(ROWS)["electron_error"]
    assert electrons["mean"] == pytest.approx(0.0)
    assert electrons["mean_absolute"] == pytest.approx(0.2)
    assert electrons["max_absolute"] == pytest.approx(0.3)


def test_the_worst_structure_is_named():
    assert summarise(ROWS)["worst"] == "bad"


def test_nothing_cannot_be_summarised():
    with pytest.raises(ValueError, match="no structures"):
        summarise([])


def test_the_table_says_the_figures():
    console = Console(width=100, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as text:
        console.print(summary_table(summarise(ROWS), title="3 structures"))
    for expected in ("3 structures", "ε_mae mean", "3.000", "ε_mae pooled", "2.640", "worst", "bad"):
        assert expected in text.get()


def test_the_histogram_is_written(tmp_path):
    histogram(ROWS, tmp_path / "histogram.png")
    assert (tmp_path / "histogram.png").read_bytes().startswith(b"\x89PNG")
