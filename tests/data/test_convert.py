"""Conversion: the same bytes however it is done, and damaged members are named."""

import csv
import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lz4.frame
import numpy as np
import pytest

import deepdft.data.convert
from deepdft import bundled
from deepdft.data.convert import DamagedMembersError, run_plan
from deepdft.data.convert_plan import make_plan
from deepdft.data.electrons import implausible_electron_counts, nuclear_charge
from deepdft.data.splits import store_split
from deepdft.data.store import Store
from deepdft.data.unfinished import finished_store
from deepdft.data.writer import Compression
from deepdft.io import read_density
from deepdft.units import BOHR
from tests.cli.processes import running


def chgcar(seed: int, *, n: int = 6, values: str | None = None) -> str:
    """A CHGCAR of water in a box of 4 Å: density × volume, x fastest."""
    density = np.random.default_rng(seed).random((n, n + 1, n + 2))
    text = values or " ".join(f"{value:.6E}" for value in (density * 64.0).ravel(order="F"))
    return (
        f"structure {seed}\n1.0\n4 0 0\n0 4 0\n0 0 4\nO H\n1 2\nCartesian\n2 2 2\n2.9 2 2\n2 2.9 {seed / 10}\n\n"
        f"{n} {n + 1} {n + 2}\n{text}\n"
    )


def make_tar(path: Path, content: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_tar(
        tmp_path / "source.tar", {f"{i:06d}.CHGCAR.zz": zlib.compress(chgcar(i).encode()) for i in range(12)}
    )


SHARD = 4000.0  # bytes: two members of the source


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("shard-*.h5")}


def test_members_of_any_kind_are_converted_in_their_order(tmp_path: Path) -> None:
    texts = {f"{i}.CHGCAR": chgcar(i).encode() for i in (10, 9, 2)}
    tar = make_tar(
        tmp_path / "a.tar",
        {
            "10.CHGCAR": texts["10.CHGCAR"],
            "9.CHGCAR.gz": gzip.compress(texts["9.CHGCAR"]),
            "README": b"no density",
            "2.CHGCAR.lz4": lz4.frame.compress(texts["2.CHGCAR"]),
        },
    )
    folder = tmp_path / "more" / "3"
    folder.mkdir(parents=True)
    (folder / "CHGCAR").write_bytes(chgcar(3).encode())
    store = run_plan(make_plan([tar, tmp_path / "more"]), tmp_path / "store")
    assert store.names == ["10", "9", "2", "3/CHGCAR"]
    for i, seed in enumerate([10, 9, 2, 3]):
        path = tmp_path / "CHGCAR"
        path.write_text(chgcar(seed))
        expected = read_density(path)
        np.testing.assert_array_equal(store.values(i), expected.values.astype(np.float32))
        assert store.atoms(i) == expected.atoms
        assert store.n_electrons[i] == pytest.approx(expected.n_electrons, abs=1e-6)
    assert [entry["file"] for entry in store.index["files"]] == ["a.tar"]
    assert store.index["n_members"] == 4


def test_stores_are_joined_with_each_other_and_with_files(tmp_path: Path, source: Path) -> None:
    one = run_plan(make_plan([source]), tmp_path / "one")
    (tmp_path / "000003.CHGCAR").write_text(chgcar(40))
    plan = make_plan([tmp_path / "000003.CHGCAR", one.root], compression=Compression("bitshuffle"), shard_size=SHARD)
    both = run_plan(plan, tmp_path / "both", workers=2)
    assert both.names[:2] == ["000003/000003", "000000"]
    assert both.names[4] == "one/000003"
    assert len(both) == 13
    for i in (0, 3, 11):
        np.testing.assert_array_equal(both.values(1 + i), one.values(i))
        assert both.atoms(1 + i) == one.atoms(i)
    (entry,) = [file for file in both.index["files"] if "store" in file]
    assert entry["store"] == "one"
    assert entry["fingerprint"] == one.fingerprint


def test_differently_defined_densities_are_not_joined(tmp_path: Path) -> None:
    ours, sharp = bundled.path("qm9_demo"), tmp_path / "sharp"
    shutil.copytree(ours, sharp)
    index = json.loads((sharp / "index.json").read_text())
    definition = index["definition"]
    (sharp / "index.json").write_text(json.dumps(index | {"definition": "not convolved"}))
    with pytest.raises(ValueError, match=r"qm9_demo and .*sharp cannot be joined, .* '.*0.1 Å.*' and 'not convolved'"):
        make_plan([ours, sharp])
    (tmp_path / "file.CHGCAR").write_text(chgcar(7))
    joined = run_plan(make_plan([ours, tmp_path / "file.CHGCAR"]), tmp_path / "joined")
    assert definition in str(joined.index["files"])
    with pytest.raises(ValueError, match="cannot be joined"):  # what was joined remembers
        make_plan([joined.root, sharp])


def test_of_an_ensemble_one_density_is_taken_by_its_label(tmp_path: Path) -> None:
    ensemble = Store(bundled.path("qm9_demo_xc"))
    with pytest.raises(ValueError, match=r"qm9_demo_xc: its densities are PBE, .*, not 'HSE'; choose one with label=…"):
        make_plan([ensemble.root], label="HSE")
    store = run_plan(make_plan([ensemble.root], label="RPBE"), tmp_path / "store")
    assert store.labels == ["RPBE"]
    np.testing.assert_array_equal(store.values(1), ensemble.values(1, label="RPBE"))
    with pytest.raises(ValueError, match=r"store: its densities are RPBE, not 'PBE'"):  # nor is it renamed
        make_plan([store.root])


def test_a_store_that_was_remade_is_another_source(tmp_path: Path) -> None:
    plans = []
    for seed in (0, 1):
        (tmp_path / "0.CHGCAR").write_text(chgcar(seed))
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
        plans.append(make_plan([run_plan(make_plan([tmp_path / "0.CHGCAR"]), tmp_path / "store").root]))
        assert plans[-1].provenance()["files"][0]["store"] == "store"
    assert plans[0].identity != plans[1].identity


def test_names_that_repeat_are_told_apart_by_their_source(tmp_path: Path) -> None:
    one = make_tar(tmp_path / "one.tar", {"0.CHGCAR": chgcar(0).encode(), "1.CHGCAR": chgcar(1).encode()})
    two = make_tar(tmp_path / "two.tar", {"0.CHGCAR": chgcar(2).encode(), "2.CHGCAR": chgcar(3).encode()})
    assert run_plan(make_plan([one, two]), tmp_path / "store").names == ["one/0", "1", "two/0", "2"]
    with pytest.raises(ValueError, match=r"2 structures .* '0' of .*one\.tar: 0\.CHGCAR and of .*one\.tar: 0\.CHGC"):
        make_plan([one, one])


def names(*sources: Path) -> list[str]:
    return [name for task in make_plan(sources).tasks for name in task.names]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / name for name in ("a/run/CHGCAR", "b/run/CHGCAR", "b/other/CHGCAR", "b/other/2/CHGCAR")]
    for i, path in enumerate(files):
        path.parent.mkdir(parents=True)
        path.write_text(chgcar(i))
    run, run_of_b, other = (path.parent for path in files[:3])
    assert names(files[0], files[2]) == ["run/CHGCAR", "other/CHGCAR"]
    assert names(run, other) == ["run/CHGCAR", "2/CHGCAR", "other/CHGCAR"]
    assert names(run, run_of_b, other) == ["a/run/CHGCAR", "b/run/CHGCAR", "2/CHGCAR", "other/CHGCAR"]
    assert names(*files[:2]) == ["a/run/CHGCAR", "b/run/CHGCAR"]
    assert names(tmp_path / "a", tmp_path / "b") == ["a/run/CHGCAR", "other/2/CHGCAR", "other/CHGCAR", "b/run/CHGCAR"]
    monkeypatch.chdir(run)
    assert names(Path(), other) == ["run/CHGCAR", "2/CHGCAR", "other/CHGCAR"]
    (tmp_path / "link").symlink_to(run)
    message = r"1 structures .* 'CHGCAR' of .*run/CHGCAR and of .*CHGCAR; give each source once"
    for again in (run, Path(), Path("../run"), files[0], tmp_path / "link", tmp_path / "link" / "CHGCAR"):
        with pytest.raises(ValueError, match=message):
            make_plan([run, again])
    store = run_plan(make_plan([run, run_of_b]), tmp_path / "store")
    assert store.names == ["a/run/CHGCAR", "b/run/CHGCAR"]
    assert store.atoms(1).positions[2, 2] == pytest.approx(0.1)


def test_two_files_of_one_name_are_both_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("CHGCAR", "CHGCAR.gz"):
        (tmp_path / "run" / name).write_bytes(b"")
    message = r"1 structures .* 'run/CHGCAR' of /.*/run/CHGCAR and of /.*/run/CHGCAR\.gz; give each source"
    with pytest.raises(ValueError, match=message):
        make_plan([tmp_path])


def test_stores_and_tars_of_one_name_are_told_apart_by_their_folders(tmp_path: Path, source: Path) -> None:
    stores = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        stores.append(run_plan(make_plan([source]), tmp_path / name / "store").root)
    assert names(*stores)[::12] == ["a/store/000000", "b/store/000000"]
    (tmp_path / "b" / "store.tar").hardlink_to(source)
    assert names(stores[0], tmp_path / "b" / "store.tar")[::12] == ["a/store/000000", "b/store/000000"]
    message = r"12 structures .* '000000' of .*/a/store: 000000 and of .*/a/store: 000000; give each source once"
    for again in (stores[0], tmp_path / "b" / ".." / "a" / "store"):
        with pytest.raises(ValueError, match=message):
            make_plan([stores[0], again])


def test_files_that_are_left_out_are_told_apart(tmp_path: Path, source: Path) -> None:
    run = tmp_path / "runs" / "1"
    run.mkdir(parents=True)
    for name in ("CHGCAR", "CHG", "AECCAR0", "INCAR", ".hidden"):
        (run / name).write_text(chgcar(1))
    tar = make_tar(tmp_path / "a.tar", {"0.CHGCAR": chgcar(0).encode(), "README": b"text", "./x/chg": b"text"})
    plan = make_plan([tmp_path / "runs", tar])
    assert plan.tasks[0].names == ["1/CHGCAR", "0", "x/chg"]
    assert plan.left_out == {
        "derived from a CHGCAR": ["1/AECCAR0", "1/CHG"],
        "not a density": ["1/INCAR", "README"],
    }
    assert make_plan([source]).left_out == {}


def cube(n_electrons: float = 1.0, unit: float = BOHR**3) -> str:
    """A cube of hydrogen in a box of 4 Å with a constant density, whose values are divided by a wrong unit perhaps."""
    side = 2.0 / BOHR
    vectors = "".join(f"2 {x * side:.9f} {y * side:.9f} {z * side:.9f}\n" for x, y, z in np.eye(3))
    return f"a\nb\n1 0 0 0\n{vectors}1 1 1 1 1\n" + f"{n_electrons / 64.0 * unit:.8E} " * 8 + "\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_cubes_of_crystals_repeat_where_it_is_reported(tmp_path: Path, workers: int) -> None:
    (tmp_path / "0.cube").write_text(cube())
    (tmp_path / "1.CHGCAR").write_text(chgcar(1))
    files = [tmp_path / "0.cube", tmp_path / "1.CHGCAR"]
    for pbc, expected in ((None, [False, True]), (True, [True, True]), (False, [False, False])):
        store = run_plan(make_plan(files, pbc=pbc, shard_size=1.0), tmp_path / f"{pbc}", workers=workers)
        assert [store.atoms(i).pbc.tolist() for i in range(2)] == [[repeats] * 3 for repeats in expected]
    again = run_plan(make_plan([store.root], pbc=True), tmp_path / "again")  # a store that was made without
    assert again.atoms(0).pbc.all()
    assert not store.atoms(0).pbc.any()


def test_whether_structures_repeat_is_part_of_a_plan(tmp_path: Path, source: Path) -> None:
    plans = [make_plan([source], pbc=pbc) for pbc in (None, True, False)]
    assert len({plan.identity for plan in plans}) == 3
    assert len({plan.purpose for plan in plans}) == 3
    assert len({plan.tasks[0].identity for plan in plans}) == 3
    run_plan(plans[0], tmp_path / "store")
    with pytest.raises(ValueError, match="already a store, of another source or with other settings"):
        run_plan(plans[1], tmp_path / "store")

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(plans[1], tmp_path / "started", progress=stop)
    with pytest.raises(ValueError, match=r"a conversion of another source, or .*, was started here"):
        run_plan(plans[0], tmp_path / "started")


def test_densities_with_impossible_electrons_are_found(tmp_path: Path) -> None:
    texts = [cube(), cube(0.2), cube(unit=1.0), cube(1.04), cube(1.06), cube(0.0), cube(-1.0)]
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.cube").write_text(text)
    store = run_plan(make_plan([tmp_path / f"{i}.cube" for i in range(7)]), tmp_path / "store")
    assert implausible_electron_counts(store).tolist() == [2, 4, 5, 6]
    assert store.n_electrons[2] == pytest.approx(1 / BOHR**3)


@pytest.mark.parametrize(
    ("formula", "charge"), [("H2O", 10), ("C6H6", 42), ("NiO2Li", 28 + 16 + 3), ("X2H", 1), ("", 0)]
)
def test_the_charge_of_nuclei_is_that_of_the_formula(formula: str, charge: int) -> None:
    assert nuclear_charge(formula) == charge


@pytest.mark.parametrize("compression", ["none", "bitshuffle", "zfp"])
def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path, source: Path, compression: str) -> None:
    plan = make_plan([source], shard_size=SHARD, compression=Compression(compression))
    assert len(plan.tasks) > 3
    for workers in (1, 2):
        run_plan(plan, tmp_path / str(workers), workers=workers).verify()
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert len(contents(tmp_path / "1")) == len(plan.tasks)
    assert Store(tmp_path / "1").fingerprint == Store(tmp_path / "2").fingerprint


def test_a_finished_store_has_nothing_else_in_its_folder(tmp_path: Path, source: Path) -> None:
    run_plan(make_plan([source]), tmp_path / "store", workers=2)
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["index.json", "shard-00000.h5"]


@pytest.mark.parametrize("when", [1, 5, 11])
def test_a_conversion_that_was_interrupted_continues(tmp_path: Path, source: Path, when: int) -> None:
    plan = make_plan([source], shard_size=SHARD)
    assert [len(task.members) for task in plan.tasks] == [2] * 6
    run_plan(plan, tmp_path / "whole")

    def stop(done: int) -> None:
        if done == when:
            raise KeyboardInterrupt

    output = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, output, progress=stop)
    finished = {path.name: path.stat().st_ino for path in output.glob("shard-*.h5")}
    assert len(finished) == (when - 1) // 2
    with pytest.raises(FileNotFoundError, match="an unfinished conversion"):
        Store(output)
    steps: list[int] = []
    run_plan(plan, output, progress=steps.append)
    assert {name: (output / name).stat().st_ino for name in finished} == finished
    assert steps == [2 * len(finished), *range(2 * len(finished) + 1, 13)]
    assert contents(output) == contents(tmp_path / "whole")


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path, source: Path) -> None:
    work = tmp_path / "store" / ".conversion"
    work.mkdir(parents=True)
    (work / "shard-00000.h5.4711.part").write_bytes(b"half")
    (work / "shard-00000.h5.4711.part.0").write_bytes(b"values")

    def look(done: int) -> None:
        assert not [path for path in work.iterdir() if "4711" in path.name]

    run_plan(make_plan([source]), tmp_path / "store", progress=look).verify()


def test_a_finished_shard_that_went_missing_is_made_again(tmp_path: Path, source: Path) -> None:
    plan = make_plan([source], shard_size=SHARD)

    def stop(done: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, tmp_path / "store", progress=stop)
    (tmp_path / "store" / "shard-00001.h5").unlink()
    run_plan(plan, tmp_path / "store").verify()


def damaged_source(tmp_path: Path) -> Path:
    good = chgcar(1).encode()
    values = ["1.0"] * (6 * 7 * 8)
    return make_tar(
        tmp_path / "damaged.tar",
        {
            "0.CHGCAR": good,
            "1.CHGCAR.lz4": lz4.frame.compress(good)[:-50],
            "2.CHGCAR.zz": zlib.compress(good)[:-50],
            "3.CHGCAR": chgcar(3, values=" ".join([*values[:-1], "nan"])).encode(),
            "4.CHGCAR": chgcar(4, values=" ".join(values[:-1])).encode(),
            "5.CHGCAR": chgcar(5).encode(),
        },
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_damaged_members_stop_a_conversion_with_all_their_names(tmp_path: Path, workers: int) -> None:
    plan = make_plan([damaged_source(tmp_path)])
    with pytest.raises(DamagedMembersError, match=r"^4 damaged members: ") as error:
        run_plan(plan, tmp_path / "store", workers=workers)
    for name in ("1.CHGCAR.lz4", "2.CHGCAR.zz", "3.CHGCAR", "4.CHGCAR"):
        assert name in str(error.value)
    assert "on_error=skip" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "store" / "index.json").exists()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("shard_size", [1.0, 1e9])
def test_damaged_members_can_be_left_out_and_are_listed(tmp_path: Path, workers: int, shard_size: float) -> None:
    plan = make_plan([damaged_source(tmp_path)], shard_size=shard_size)
    with pytest.raises(DamagedMembersError):
        run_plan(plan, tmp_path / "store", workers=workers)
    store = run_plan(plan, tmp_path / "store", workers=workers, skip_damaged=True)
    assert store.names == ["0", "5"]
    store.verify()
    with (tmp_path / "store" / "rejected.csv").open() as file:
        rejected = list(csv.DictReader(file))
    assert [(row["index"], row["name"]) for row in rejected] == [("1", "1"), ("2", "2"), ("3", "3"), ("4", "4")]
    assert all(row["source"].endswith("damaged.tar") for row in rejected)
    assert "336" in rejected[3]["reason"]  # values expected
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": [0, 1], "test": [5]}))
    assert store_split(store, split) == {"train": ["0"], "validation": [], "test": ["5"]}
    assert json.loads((tmp_path / "store" / "split.json").read_text())["test"] == ["5"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_left_out_like_a_damaged_one(tmp_path: Path) -> None:
    folder = densities(tmp_path / "source", [1, 2])
    (folder / "0.CHGCAR").chmod(0)
    store = run_plan(make_plan([folder]), tmp_path / "store", skip_damaged=True)
    assert store.names == ["1"]
    assert "Permission denied" in store.index["rejected"][0]["reason"]


def test_foreign_files_in_a_folder_do_not_end_a_conversion(tmp_path: Path) -> None:
    folder = densities(tmp_path / "source", [1, 2])
    (folder / "a.cube").write_bytes(b"\x89PNG\r\n")
    (folder / "b.CHGCAR").write_bytes(b"")
    (folder / "c.CHGCAR.gz").write_bytes(b"no gzip")
    store = run_plan(make_plan([folder]), tmp_path / "store", skip_damaged=True)
    assert store.names == ["0", "1"]
    assert [member["name"] for member in store.index["rejected"]] == ["a", "b", "c"]
    assert all(member["reason"].startswith(str(folder)) for member in store.index["rejected"])


def test_a_source_of_damaged_members_only_makes_no_store(tmp_path: Path) -> None:
    source = make_tar(tmp_path / "a.tar", {"0.CHGCAR": b"nothing"})
    with pytest.raises(ValueError, match="there is no structure to make a store of"):
        run_plan(make_plan([source]), tmp_path / "store", skip_damaged=True)


def test_a_conversion_that_made_nothing_leaves_its_folder_free(tmp_path: Path, source: Path) -> None:
    damaged = make_tar(tmp_path / "a.tar", {"0.CHGCAR": b"nothing"})
    with pytest.raises(DamagedMembersError):
        run_plan(make_plan([damaged]), tmp_path / "store")
    run_plan(make_plan([source]), tmp_path / "store").verify()


def test_a_finished_store_is_left_alone(tmp_path: Path, source: Path) -> None:
    plan = make_plan([source])
    assert finished_store(tmp_path / "store", plan.identity) is None
    run_plan(plan, tmp_path / "store")
    assert finished_store(tmp_path / "store", plan.identity) is not None
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store").iterdir()}
    run_plan(make_plan([source]), tmp_path / "store")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store").iterdir()} == before
    with pytest.raises(ValueError, match="already a store, of another source or with other settings"):
        run_plan(make_plan([source], label="RPBE"), tmp_path / "store")


def test_a_store_that_another_process_has_just_finished_is_left_alone(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, unfinished = make_plan([source]), deepdft.data.convert.unfinished

    made: dict[str, int] = {}

    @contextmanager
    def late(output: Path, purpose: str, *, what: str) -> Iterator[None]:
        monkeypatch.setattr(deepdft.data.convert, "unfinished", unfinished)
        run_plan(plan, output)
        made.update((path.name, path.stat().st_mtime_ns) for path in output.glob("*.h5"))
        with unfinished(output, purpose, what=what):
            yield

    monkeypatch.setattr(deepdft.data.convert, "unfinished", late)
    run_plan(plan, tmp_path / "store").verify()
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*.h5")} == made != {}
    assert [path.name for path in (tmp_path / "store").iterdir() if path.name.startswith(".")] == []


def test_an_output_started_otherwise_is_refused(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "store"

    def stop(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(make_plan([source]), output, progress=stop)
    other = make_tar(tmp_path / "other.tar", {"0.CHGCAR": chgcar(0).encode()})
    for plan in (make_plan([source], compression=Compression("zfp")), make_plan([other])):
        with pytest.raises(ValueError, match=r"a conversion of another source, or .*, was started here"):
            run_plan(plan, output)
    run_plan(make_plan([source]), output).verify()


def test_two_conversions_into_one_folder_are_refused(tmp_path: Path, source: Path) -> None:
    def second(done: int) -> None:
        with pytest.raises(ValueError, match=r"a conversion is under way there, by .*wait for it"):
            run_plan(make_plan([source]), tmp_path / "store")

    run_plan(make_plan([source]), tmp_path / "store", progress=second).verify()


def test_a_folder_with_other_things_is_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(ValueError, match="has other files in it"):
        run_plan(make_plan([source]), tmp_path)
    with pytest.raises(ValueError, match="is a file; output is a folder"):
        run_plan(make_plan([source]), source)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shard_size": 0}, "shard_size=0: expected a number of bytes"),
        ({"label": "a/b"}, r"labels \['a/b'\]: expected different names"),
    ],
)
def test_wrong_settings_are_refused(source: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan([source], **settings)
    with pytest.raises(ValueError, match="compression=gzip: expected one of none, bitshuffle, zfp"):
        Compression("gzip")
    with pytest.raises(ValueError, match=r"zfp_accuracy=0: a density error"):
        Compression("zfp", 0)


def test_zfp_keeps_its_accuracy_on_a_grid_of_several_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepdft.data.writer.MAX_CHUNK", 200)
    path = tmp_path / "CHGCAR"
    path.write_text(chgcar(0, n=10))
    for accuracy in (1e-2, 1e-6):
        plan = make_plan([path], compression=Compression("zfp", accuracy))
        store = run_plan(plan, tmp_path / f"{accuracy}")
        error = np.abs(store.values(0) - read_density(path).values).max()
        assert accuracy / 100 < error < accuracy
        assert store.index["compression"] == {"name": "zfp", "accuracy": accuracy}


def densities(folder: Path, seeds: list[int]) -> Path:
    """Files 0.CHGCAR, 1.CHGCAR, … of the same size, whatever the seeds."""
    folder.mkdir(exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"{number}.CHGCAR").write_text(chgcar(seed))
    return folder


def test_other_densities_of_the_same_names_and_sizes_are_another_source(tmp_path: Path) -> None:
    source = densities(tmp_path / "source", [1, 2])
    run_plan(make_plan([source]), tmp_path / "store")
    before = contents(tmp_path / "store")
    densities(source, [1, 3])
    with pytest.raises(ValueError, match="or of this source before it was changed; give another output"):
        run_plan(make_plan([source]), tmp_path / "store")
    assert contents(tmp_path / "store") == before


def test_a_conversion_continues_when_its_source_was_corrected(tmp_path: Path) -> None:
    source = densities(tmp_path / "source", [1, 2, 3, 4])
    damaged = source / "2.CHGCAR"
    damaged.write_text(chgcar(3)[:300])  # of another size
    with pytest.raises(DamagedMembersError, match=r"correct the source, .* \(finished shards are kept\)"):
        run_plan(make_plan([source], shard_size=1.0), tmp_path / "store")
    kept = tmp_path / "store" / "shard-00001.h5"
    made = kept.stat().st_mtime_ns
    damaged.write_text(chgcar(3))
    (source / "0.CHGCAR").write_text(chgcar(5))  # as long as before
    run_plan(make_plan([source], shard_size=1.0), tmp_path / "store").verify()
    assert kept.stat().st_mtime_ns == made
    run_plan(make_plan([densities(tmp_path / "other", [5, 2, 3, 4])], shard_size=1.0), tmp_path / "whole")
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_shards_that_a_mended_source_does_not_need_are_removed(tmp_path: Path) -> None:
    source = densities(tmp_path / "source", [1, 2, 3])
    damaged = source / "0.CHGCAR"
    size = damaged.stat().st_size
    damaged.write_text(chgcar(1) + "x" * 2 * size)  # so that it has a shard of its own
    damaged_plan = make_plan([source], shard_size=3.0 * size)
    assert len(damaged_plan.tasks) == 2
    with pytest.raises(DamagedMembersError):
        run_plan(damaged_plan, tmp_path / "store", workers=2)
    damaged.write_text(chgcar(1))
    store = run_plan(make_plan([source], shard_size=3.0 * size), tmp_path / "store")
    assert store.names == ["0", "1", "2"]
    assert list(contents(tmp_path / "store")) == ["shard-00000.h5"]


CTRL_C_IN_A_BAD_MOMENT = """
import concurrent.futures._base as futures
import signal
import sys
from pathlib import Path

from deepdft.data.convert import run_plan
from deepdft.data.convert_plan import make_plan


def enter(self):
    for i, future in enumerate(self.futures):
        future._condition.acquire()
        if i == 0:
            signal.raise_signal(signal.SIGINT)  # the others' locks are taken after it, and this one is ours


if __name__ == "__main__":
    futures._AcquireFutures.__enter__ = enter
    try:
        run_plan(make_plan([sys.argv[1]], shard_size=4000.0), Path(sys.argv[2]), workers=2)
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_ctrl_c_while_locks_of_futures_are_taken_does_not_wait_for_ever(tmp_path: Path, source: Path) -> None:
    (tmp_path / "script.py").write_text(CTRL_C_IN_A_BAD_MOMENT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with running([sys.executable, "script.py", str(source), "store"], tmp_path, environment) as process:
        printed, errors = process.communicate(timeout=120)
    assert (process.returncode, printed, errors) == (0, "interrupted\n", "")
    plan = make_plan([source], shard_size=SHARD)
    run_plan(plan, tmp_path / "store").verify()
