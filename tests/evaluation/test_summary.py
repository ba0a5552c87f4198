"""The summary of an evaluation, against numbers worked out by hand."""

import numpy as np
import pytest
from rich.console import Console

from deepdft.evaluation.ensemble import StructureSpread
from deepdft.evaluation.errors import StructureErrors
from deepdft.evaluation.pictures import histogram, spread_histogram
from deepdft.evaluation.summary import (
    electron_counts_that_differ,
    share_below,
    summarise,
    summarise_spread,
    summary_table,
)


def row(name, n_points, eps, density, squared=0.0, electron_error=0.0):
    """A structure with voxels of 1 Å³."""
    absolute = eps / 100 * density
    terms = {
        "eps_mae": (absolute, density),
        "eps_mae_scaled": (absolute / 2, density),
        "mae": (absolute, n_points),
        "rmse": (squared, n_points),
        "electron_error": (electron_error, 1.0),
    }
    return StructureErrors(
        index=0, name=name, formula="H2O", n_atoms=3, n_points=n_points, n_electrons=density, terms=terms
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


def spread(name, n_points, eps, density, deviations):
    """A structure with an ensemble of two densities."""
    return StructureSpread(
        index=0,
        name=name,
        formula="H2O",
        n_atoms=3,
        n_points=n_points,
        n_electrons=density,
        electron_spread=0.0,
        deviations=deviations,
        terms=(eps / 100 * density, density),
    )


SPREADS = [
    spread("small", 100, 1.2, 8.0, {"PBE": 1.0, "LDA": 1.4}),
    spread("large", 300, 2.0, 32.0, {"PBE": 2.5, "LDA": 1.5}),
    spread("bad", 100, 0.4, 10.0, {"PBE": 0.4, "LDA": 0.4}),
]


def test_the_spread_is_summarised_like_an_error():
    summary = summarise_spread(SPREADS, reference="PBE")
    assert summary["eps_mad"] == pytest.approx(
        {
            "mean": 1.2,
            "median": 1.2,
            "p99": 1.2 + 0.98 * 0.8,
            "max": 2.0,
            "pooled": 100 * (0.012 * 8 + 0.02 * 32 + 0.004 * 10) / 50,
        }
    )
    assert (summary["functionals"], summary["reference"]) == (["PBE", "LDA"], "PBE")
    assert summary["deviation"] == pytest.approx({"PBE": 1.3, "LDA": 1.1})
    assert (summary["n_structures"], summary["n_points"], summary["widest"]) == (3, 500, "large")
    with pytest.raises(ValueError, match="no structures"):
        summarise_spread([], reference="PBE")


def test_the_share_below_the_spread_counts_structures_strictly_below():
    assert share_below(ROWS, SPREADS) == pytest.approx(1 / 3)  # 1 < 1.2; 2 = 2; 6 > 0.4
    with pytest.raises(ValueError, match="zip"):
        share_below(ROWS[:2], SPREADS)


def test_the_table_says_spread_and_error():
    summary = summarise(ROWS) | summarise_spread(SPREADS, reference="PBE") | {"share_below_spread": 1 / 3}
    console = Console(width=100, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as text:
        console.print(summary_table(summary, title="3 structures"))
        console.print(summary_table(summarise_spread(SPREADS, reference="PBE"), title="spread alone"))
    both, _, alone = text.get().partition("spread alone")
    for expected in ("ε_mad mean", "1.200", "ε_mae mean", "3.000", "LDA from the median", "33.3", "widest spread"):
        assert expected in both
    assert "ε_mad mean" in alone
    assert "ε_mae" not in alone


@pytest.mark.parametrize("errors", [None, ROWS])
def test_the_histogram_of_the_spread_is_written(tmp_path, errors):
    spread_histogram(SPREADS, errors, tmp_path / "histogram.png", title="three")
    assert (tmp_path / "histogram.png").read_bytes().startswith(b"\x89PNG")


def test_names_of_structures_are_no_markup_of_the_terminal():
    hostile = "[link=https://example.org]water[/link] [bold]"
    summary = summarise([row(hostile, 100, 1.0, 8.0)])
    console = Console(width=100, force_terminal=True)
    with console.capture() as text:
        console.print(summary_table(summary, title=hostile))
    assert text.get().count(hostile) == 2


def test_a_measure_that_only_some_structures_have_says_how_many():
    some = row("molecule", 100, 1.0, 8.0)
    some.terms["dipole_error"] = (0.3, 1.0)
    summary = summarise([some, row("crystal", 100, 2.0, 8.0)])
    assert summary["dipole_error"] == pytest.approx(
        {"mean": 0.3, "median": 0.3, "p99": 0.3, "max": 0.3, "n_structures": 1}
    )
    assert "n_structures" not in summary["eps_mae"]
    assert "hartree_error" not in summary


def test_electron_counts_that_differ_by_more_than_a_percent_are_named():
    """VASP's Na has one valence electron in one set of potentials and seven in another."""
    rows = [row("right", 100, 1.0, 8.0, electron_error=0.07), row("NaCl", 100, 80.0, 8.0, electron_error=6.0)]
    line = electron_counts_that_differ(rows)
    assert "1 of 2 structures" in line
    assert "NaCl (H2O): 14 predicted, 8 in the reference" in line
    assert electron_counts_that_differ(rows[:1]) is None
