"""Tables of a report, against numbers worked out by hand."""

import pytest

from deepdft.evaluation.tables import as_markdown, comparison_tables, shares_below, worst_table


def table(tables, title):
    (found,) = [table for table in tables if table.title.startswith(title)]
    return found


def column(found, heading):
    return [row[found.columns.index(heading)] for row in found.rows]


def test_errors_are_listed_by_data_set_with_the_split_of_the_run(tmp_path, write_training, write_evaluation, read):
    write_training(tmp_path / "runs" / "a")
    write_evaluation(tmp_path / "e" / "painn", {"x": 1.0, "y": 3.0}, checkpoint=str(tmp_path / "runs/a"), model="PaiNN")
    write_evaluation(tmp_path / "e" / "schnet", {"x": 2.5, "y": 2.5}, model="SchNet")
    write_evaluation(tmp_path / "e" / "nmc", {"z": 0.1}, data={"root": "/data/nmc"}, subset="all")
    tables = comparison_tables(*read([tmp_path / "runs", tmp_path / "e"]))
    errors = table(tables, "Errors of models")
    assert column(errors, "data set") == ["nmc", "qm9, test", "qm9, test"]
    assert column(errors, "evaluation") == ["nmc", "painn", "schnet"]
    assert column(errors, "model") == ["–", "PaiNN", "SchNet"]
    assert column(errors, "train") == ["–", "5", "–"]
    assert column(errors, "validation") == ["–", "2", "–"]
    assert column(errors, "evaluated") == ["1", "2", "2"]
    assert column(errors, "mean") == ["0.100", "2.000", "2.500"]
    assert column(errors, "max") == ["0.100", "3.000", "2.500"]
    best = {(errors.rows[i][1], errors.columns[j]) for i, j in errors.best}
    assert best == {("painn", c) for c in ("mean", "median", "pooled")} | {("schnet", c) for c in ("p99", "max")}


def test_the_share_below_the_spread_is_over_structures_in_both(tmp_path, write_evaluation, read):
    write_evaluation(tmp_path / "model", {"a": 0.3, "b": 0.6, "c": 0.5, "elsewhere": 0.0}, model="PaiNN")
    write_evaluation(tmp_path / "dft", None, {"a": 0.5, "b": 0.5, "c": 0.5, "other": 9.0})
    _, evaluations = read([tmp_path / "model", tmp_path / "dft"])
    ((model, ensemble, count, share),) = shares_below(evaluations)
    assert (model.name, ensemble.name, count) == ("model", "dft", 3)
    assert share == pytest.approx(1 / 3)  # 0.3 < 0.5; 0.6 > 0.5; 0.5 = 0.5
    below = table(comparison_tables([], evaluations), "Models beside")
    assert below.rows == [["model", "PaiNN", "dft", "3", "33.3"]]
    spread = table(comparison_tables([], evaluations), "Spread of DFT")
    assert column(spread, "densities") == ["PBE, LDA"]
    assert column(spread, "mean") == ["2.625"]


def test_structures_of_the_same_name_and_another_formula_are_others(tmp_path, write_evaluation, read):
    folder = write_evaluation(tmp_path / "model", {"a": 0.3})
    (folder / "errors.csv").write_text((folder / "errors.csv").read_text().replace("H2O", "CH4"))
    write_evaluation(tmp_path / "dft", None, {"a": 0.5})
    assert shares_below(read([tmp_path / "model", tmp_path / "dft"])[1]) == []


def test_a_spread_that_was_measured_beside_several_models_is_listed_once(tmp_path, write_evaluation, read):
    spreads = {"a": 0.5, "b": 0.7}
    for name, error in (("painn", 0.4), ("schnet", 0.6)):
        write_evaluation(tmp_path / name, {"a": error, "b": error}, spreads)
    write_evaluation(tmp_path / "lda", None, spreads, reference="LDA")
    tables = comparison_tables([], read([tmp_path])[1])
    assert column(table(tables, "Spread of DFT"), "evaluation") == ["lda", "painn"]
    below = table(tables, "Models beside")
    assert [row[0] + row[2] + row[4] for row in below.rows] == [
        "painnlda100.0",
        "schnetlda50.0",
        "painnpainn100.0",
        "schnetpainn50.0",
    ]


def test_training_runs_are_listed_by_their_best_error(tmp_path, write_training, read):
    write_training(tmp_path / "late", errors=(20.0, 15.0))
    write_training(tmp_path / "good", errors=(20.0, 5.0, 8.0), finished=False)
    write_training(tmp_path / "none", errors=())
    runs = table(comparison_tables(*read([tmp_path])), "Training runs")
    assert column(runs, "run") == ["good", "late", "none"]
    assert column(runs, "best ε_mae in validation (%)") == ["5.000", "15.000", "–"]
    assert column(runs, "time") == ["not finished", "0:30:00", "0:30:00"]
    assert column(runs, "steps") == ["300", "200", "50"]
    assert column(runs, "parameters") == ["123"] * 3


def test_only_settings_that_differ_are_listed(tmp_path, write_training, read):
    for name, rate, extra in (("a", 1e-3, {}), ("b", 1e-4, {"ema": {"decay": 0.99}})):
        logger = {"save_dir": str(tmp_path / name), "same": [1, 2]}
        write_training(tmp_path / name, optimizer={"lr": rate, "betas": [0.9, 0.999]}, logger=logger, **extra)
    settings = table(comparison_tables(*read([tmp_path])), "Settings that differ")
    assert settings.columns == ["setting", "a", "b"]
    assert settings.rows == [["ema.decay", "–", "0.99"], ["optimizer.lr", "0.001", "0.0001"]]


def test_without_anything_to_compare_there_are_no_empty_tables(tmp_path, write_training, read):
    write_training(tmp_path / "only")
    assert [found.title for found in comparison_tables(*read([tmp_path]))] == ["Training runs"]


def test_worst_structures_come_with_what_is_known_of_them(tmp_path, write_evaluation, read):
    write_evaluation(tmp_path / "m", {"a": 1.0, "b": 3.0, "c": 2.0}, {"a": 0.5, "b": 0.5, "c": 0.5})
    write_evaluation(tmp_path / "s", None, {"a": 0.5, "b": 0.7})
    _, (model, spread) = read([tmp_path / "m", tmp_path / "s"])
    found = worst_table(model, 2)
    assert found.columns == ["name", "formula", "electrons", "ε_mae (%)", "ε_mad (%)"]
    assert found.rows == [["b", "H2O", "8.000", "3.000", "0.500"], ["c", "H2O", "8.000", "2.000", "0.500"]]
    assert found.title == "m: largest errors"
    assert (worst_table(spread, 1).title, worst_table(spread, 1).rows[0][0]) == ("s: widest spreads", "b")


def test_markdown_has_a_line_for_each_row_and_the_best_in_bold(tmp_path, write_evaluation, read):
    for name, error in (("a|b", 1.0), ("c", 2.0)):
        write_evaluation(tmp_path / name, {"x": error})
    errors = table(comparison_tables([], read([tmp_path])[1]), "Errors of models")
    lines = as_markdown(errors).splitlines()
    assert lines[0] == "## Errors of models: ε_mae in %"
    assert lines[2].count("|") == lines[3].count("|") == lines[5].count("|") == len(errors.columns) + 1
    assert lines[4].startswith("| qm9, test | a\\|b |")
    assert "**1.000**" in lines[4]
    assert "**" not in lines[5]
    assert (errors.is_text(0), errors.is_text(errors.columns.index("mean"))) == (True, False)
