"""The table of a sweep: complete in the file, and readable on the terminal."""

import csv
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from deepdft.runs.sweep import SweepResults

KEPT = {"data.root": "/a/long/path/to/a/store", "trainer.max_steps": "4", "trainer.val_check_interval": "2"}


@pytest.fixture
def printed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Lines of the table of jobs with some overrides and errors, on a terminal of a width."""

    def of(jobs: list[tuple[dict[str, str], float | None]], width: int = 80) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        for number, (settings, error) in enumerate(jobs):
            folder = tmp_path / str(number)
            (folder / ".hydra").mkdir(parents=True)
            overrides = [f"{key}={value}" for key, value in (KEPT | settings).items()]
            OmegaConf.save(OmegaConf.create(overrides), folder / ".hydra" / "overrides.yaml")
            summary = {"val/eps_mae": error, "steps": 4, "seconds": 1.5, "checkpoint": f"{folder}/best.ckpt"}
            (folder / "summary.json").write_text(json.dumps(summary))
        config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
        SweepResults().on_multirun_end(config)
        return [line for line in capsys.readouterr().out.splitlines() if line[:1] in "┃│"]

    return of


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("┃", "│").strip("│").split("│")]


def test_what_differs_is_shown_behind_the_error(printed) -> None:
    jobs = [({"model.hidden_size": size, "seed": "0"}, error) for size, error in (("32", 7.8912), ("64", 0.12345))]
    head, *rows = map(cells, printed(jobs))
    assert head == ["val/eps_mae", "job", "model.hidden_size"]
    assert rows == [["0.1235", "1", "64"], ["7.891", "0", "32"]]


def test_the_file_keeps_all_columns(printed, tmp_path: Path) -> None:
    printed([({"seed": "0"}, 1.0), ({"seed": "1"}, 2.0)])
    with (tmp_path / "results.csv").open() as file:
        names = csv.DictReader(file).fieldnames
    assert names == ["job", *KEPT, "seed", "val/eps_mae", "steps", "seconds", "checkpoint"]


@pytest.mark.parametrize("width", [20, 40, 80, 150, 151, 155, 160, 200])
def test_many_columns_are_folded_but_not_to_nothing(printed, width: int) -> None:
    keys = ["seed", *(f"model.setting_number_{i}" for i in range(12))]
    lines = printed([(dict.fromkeys(keys, f"a_long_value_{j}"), 1.0 + j) for j in range(2)], width)
    folded = ["".join(parts) for parts in zip(*map(cells, lines), strict=True)]
    assert folded[0] == "val/eps_mae12"
    assert folded[2:] == [f"{key}a_long_value_0a_long_value_1" for key in keys]
    widths = [len(cell) - 2 for cell in lines[0].strip("┃").split("┃")]
    assert min(widths[2:]) >= 8


def test_one_job_has_its_error(printed) -> None:
    assert list(map(cells, printed([({}, None)]))) == [["val/eps_mae", "job"], ["None", "0"]]
