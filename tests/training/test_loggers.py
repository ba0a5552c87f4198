"""metrics.csv of a resumed run: existing rows are kept."""

from pathlib import Path

from deepdft.training.loggers import MetricsCSV, keep_metrics_until, read_metrics


def log(folder: Path, *rows: dict[str, float]) -> None:
    logger = MetricsCSV(folder)
    for row in rows:
        values = {key: value for key, value in row.items() if key != "step"}
        logger.log_metrics(values, step=int(row["step"]) - 1)  # Lightning counts from zero
        logger.save()


def test_a_logger_that_has_not_logged_yet_leaves_the_file_alone(tmp_path: Path) -> None:
    log(tmp_path, {"step": 1, "loss": 0.5}, {"step": 3, "error": 2.0})
    before = (tmp_path / "metrics.csv").read_text()
    log(tmp_path)
    MetricsCSV(tmp_path).experiment.save()
    assert (tmp_path / "metrics.csv").read_text() == before


def test_rows_are_added_under_their_own_columns(tmp_path: Path) -> None:
    log(tmp_path, {"step": 1, "loss": 0.5}, {"step": 3, "error": 2.0})
    log(tmp_path, {"step": 5, "loss": 0.25}, {"step": 7, "before": 1.0, "loss": 0.125})
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "before,error,loss,step",
        ",,0.5,1",
        ",2.0,,3",
        ",,0.25,5",
        "1.0,,0.125,7",
    ]


def test_rows_after_the_step_are_dropped_and_a_row_that_is_cut_too(tmp_path: Path) -> None:
    log(tmp_path, {"step": 1, "loss": 0.5}, {"step": 3, "loss": 0.25}, {"step": 5, "loss": 0.125})
    file = tmp_path / "metrics.csv"
    file.write_text(file.read_text() + "0.1")
    keep_metrics_until(file, 4)
    log(tmp_path, {"step": 4, "loss": 0.2})
    assert [(row["step"], row["loss"]) for row in read_metrics(file)] == [("1", "0.5"), ("3", "0.25"), ("4", "0.2")]
