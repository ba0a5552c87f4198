"""Splits: by name, by position in the source, or drawn; never with a structure in two parts."""

import json
from pathlib import Path

import ase
import numpy as np
import pytest
from omegaconf import OmegaConf

from deepdft.data.index import write_index
from deepdft.data.records import Rejected, read_record
from deepdft.data.splits import Split, load_split
from deepdft.data.store import Store
from deepdft.data.writer import ShardWriter
from deepdft.density import DensityGrid


def make_store(folder: Path, names: list[str], *, rejected: tuple[int, ...] = ()) -> Store:
    """A store of a source whose members were `names`; those at `rejected` positions were damaged."""
    density = DensityGrid(np.ones((2, 2, 2)), ase.Atoms("H", cell=[1, 1, 1]))
    with ShardWriter(folder, 0) as writer:
        for position, name in enumerate(names):
            if position in rejected:
                writer.reject(Rejected(position, name, "x.tar", "damaged"))
            else:
                writer.add(name, density)
    write_index(folder, [read_record(folder, 0)], labels=["PBE"], compression={"name": "none"}, provenance={})
    return Store(folder)


def split_file(folder: Path, **parts: object) -> Path:
    path = folder / "my_split.json"
    path.write_text(json.dumps(parts))
    return path


def test_positions_and_names_say_the_same(tmp_path: Path) -> None:
    store = make_store(tmp_path, list("abcdef"))
    by_position = load_split(split_file(tmp_path, train=[5, 0, 2], validation=[1], test=[3, 4]), store)
    by_name = load_split(split_file(tmp_path, train=["f", "a", "c"], validation=["b"], test=["d", "e"]), store)
    assert by_position == by_name == Split(train=[5, 0, 2], validation=[1], test=[3, 4])


def test_positions_count_members_that_were_rejected(tmp_path: Path) -> None:
    store = make_store(tmp_path, list("abcdef"), rejected=(0, 3))
    path = split_file(tmp_path, train=[0, 1, 2], validation=[3, 4], test=[5])
    split = load_split(path, store)
    assert [store.names[i] for i in split.train] == ["b", "c"]
    assert [store.names[i] for i in split.validation] == ["e"]
    assert [store.names[i] for i in split.test] == ["f"]
    assert load_split(path, store).names(store) == {"train": ["b", "c"], "validation": ["e"], "test": ["f"]}
    names = split_file(tmp_path, train=["a", "b", "c"], validation=["d", "e"], test=["f"])
    assert load_split(names, store) == split


def test_the_split_stored_with_the_data_is_the_default(tmp_path: Path) -> None:
    store = make_store(tmp_path, list("abc"))
    with pytest.raises(FileNotFoundError, match=r"no split is stored with the data; give one by data.split="):
        load_split(None, store)
    (tmp_path / "split.json").write_text(json.dumps({"train": ["c"], "validation": ["a"], "test": ["b"]}))
    assert load_split(None, store) == Split(train=[2], validation=[0], test=[1])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": [0, 1], "validation": [1]}, r"1 entries are repeated, e.g. 1 in train and validation"),
        ({"train": [0, 0]}, r"e.g. 0 in train; a structure belongs to one part, once"),
        ({"train": [0], "test": [6]}, r"index 6 is out of range; .* has 6 members, 0…5"),
        ({"train": [-1]}, "index -1 is out of range"),
        ({"train": ["a", "z"]}, r"1 names in train are not in .*, e.g. 'z'; names there are like 'a'"),
        ({"train": ["a", 1]}, "indices and names are mixed"),
        ({"train": [True]}, "train must be a list of indices"),
        ({"train": [1.0]}, "train must be a list of indices"),
        ({"train": 3}, "train must be a list of indices"),
        ({"training": [1]}, "a split has the keys train, validation and test, got training"),
    ],
)
def test_a_wrong_split_is_refused_in_one_line(tmp_path: Path, parts: dict[str, object], message: str) -> None:
    store = make_store(tmp_path, list("abcdef"))
    with pytest.raises(ValueError, match=message) as error:
        load_split(split_file(tmp_path, **parts), store)
    assert "my_split.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    store = make_store(tmp_path, list("ab"))
    with pytest.raises(FileNotFoundError, match=r"none.json: there is no such split file"):
        load_split(tmp_path / "none.json", store)
    (tmp_path / "broken.json").write_text("{'train': }")
    with pytest.raises(ValueError, match=r"broken.json: damaged, not JSON"):
        load_split(tmp_path / "broken.json", store)


def test_a_drawn_split_depends_on_names_and_seed_only(tmp_path: Path) -> None:
    names = [f"m{i:02d}" for i in range(20)]
    forwards = make_store(tmp_path / "a", names)
    backwards = make_store(tmp_path / "b", names[::-1])
    spec = OmegaConf.create({"validation": 3, "test": 5, "seed": 7})

    def drawn(store: Store, spec: dict[str, int]) -> list[set[str]]:
        split = load_split(spec, store)
        return [{store.names[i] for i in part} for part in (split.train, split.validation, split.test)]

    train, validation, test = drawn(forwards, spec)
    assert (len(train), len(validation), len(test)) == (12, 3, 5)
    assert train | validation | test == set(names)
    assert drawn(backwards, spec) == [train, validation, test]
    assert drawn(forwards, {"validation": 3, "test": 5, "seed": 8})[2] != test
    assert drawn(forwards, {"validation": 3, "test": 5, "seed": 7, "train": 4})[1:] == [validation, test]


def test_smaller_training_sets_are_part_of_larger_ones(tmp_path: Path) -> None:
    store = make_store(tmp_path, [f"m{i:02d}" for i in range(20)])
    small, large = (load_split({"train": n, "test": 5}, store) for n in (4, 9))
    assert small.test == large.test
    assert set(small.train) < set(large.train)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"validation": 3, "test": 3}, "has 6 structures; draw fewer"),
        ({"train": 5, "test": 2}, "has 6 structures; draw fewer"),
        ({"valid": 1}, r"expected \{validation: n, test: n, seed: s\}"),
        ({"test": -1}, "with whole numbers"),
        ({"test": 0.2}, "with whole numbers"),
    ],
)
def test_an_impossible_draw_is_refused(tmp_path: Path, spec: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_split(spec, make_store(tmp_path, list("abcdef")))
