"""Rows on disk: an interrupted evaluation resumes from its parts, and only from its own."""

import csv
import json
from dataclasses import dataclass

import pytest

from deepdft.evaluation.parts import append_part, begin_part, compute, read_part, write_table


@dataclass(frozen=True)
class Row:
    position: int
    value: float


def test_rows_are_computed_in_order_told_and_written(tmp_path):
    told, part, key = [], tmp_path / "errors.0.part", {}
    begin_part(part, key)
    rows = list(compute([3, 1], lambda position: Row(position, position / 7), part=part, progress=told.append))
    assert rows == told == read_part(part, key, Row) == [Row(3, 3 / 7), Row(1, 1 / 7)]


def test_rows_that_are_done_survive_an_interruption(tmp_path):
    part, key = tmp_path / "errors.0.part", {"checkpoint": "abc"}
    begin_part(part, key)

    def row(position):
        if position == 2:
            raise KeyboardInterrupt
        return Row(position, 0.1 + position)

    with pytest.raises(KeyboardInterrupt):
        list(compute(range(4), row, part=part, progress=lambda row: None))
    assert read_part(part, key, Row) == [Row(0, 0.1), Row(1, 1.1)]


def test_half_a_line_is_dropped_and_written_again(tmp_path):
    part, key = tmp_path / "errors.0.part", {"checkpoint": "abc", "subset": "test"}
    begin_part(part, key)
    append_part(part, Row(0, 1 / 3))
    with part.open("a") as file:
        file.write('{"position": 1, "va')  # killed here
    assert read_part(part, key, Row) == [Row(0, 1 / 3)]
    begin_part(part, key)
    append_part(part, Row(1, 2 / 3))
    assert read_part(part, key, Row) == [Row(0, 1 / 3), Row(1, 2 / 3)]


def test_the_part_of_another_evaluation_does_not_count(tmp_path):
    part = tmp_path / "errors.0.part"
    begin_part(part, {"checkpoint": "abc"})
    append_part(part, Row(0, 1.0))
    assert len(read_part(part, {"checkpoint": "abc"}, Row)) == 1
    assert read_part(part, {"checkpoint": "xyz"}, Row) == []
    assert read_part(tmp_path / "none.part", {"checkpoint": "abc"}, Row) == []
    begin_part(part, {"checkpoint": "xyz"})
    assert part.read_text().splitlines() == [json.dumps({"checkpoint": "xyz"})]


def test_a_table_keeps_commas_and_all_digits(tmp_path):
    write_table(tmp_path / "t.csv", {"name": ["a, b"], "value": [1 / 3]})
    with (tmp_path / "t.csv").open(newline="") as file:
        assert [(row["name"], float(row["value"])) for row in csv.DictReader(file)] == [("a, b", 1 / 3)]
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
