"""Generations: whatever goes wrong with a structure is recorded, and an interrupted run loses only what was running."""

import csv
import errno
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import molecule

import deepdft.dft.generate
from deepdft.data.store import Store
from deepdft.data.writer import Compression
from deepdft.dft.calculation import CalculationError
from deepdft.dft.functionals import FUNCTIONALS, functionals
from deepdft.dft.generate import InProcess, Progress, Task, generate
from deepdft.dft.generate_plan import Member, Plan, Settings, digest
from deepdft.errors import InputWarning, RenamedWarning
from tests.dft.fake import FakeEngine

NAMES = ("H2O", "CH4", "HF", "NH3", "CO", "N2")


def members(names: Sequence[str] = NAMES) -> list[Member]:
    made = {name: ase.Atoms(name) if len(name) == 2 and name[1].islower() else molecule(name) for name in names}
    return [Member(name, f"{name}.xyz", atoms) for name, atoms in made.items()]


def plan(
    names: Sequence[str] = NAMES,
    *,
    xc: str | Sequence[str] = "PBE",
    engine: FakeEngine | None = None,
    per_shard: float = 2,
) -> Plan:
    chosen = functionals(xc)
    size = 4.0 * len(chosen) * 18 * 20 * 22 * per_shard
    made = members(names)
    return Plan(Settings(chosen, engine or FakeEngine(), shard_size=size), made, digest(made))


def records(store: Path) -> list[dict]:
    return [json.loads(line) for line in (store / "calculations.jsonl").read_text().splitlines()]


def test_all_structures_are_there_with_their_densities(tmp_path: Path) -> None:
    engine = FakeEngine()
    store = generate(plan(), tmp_path / "store", provenance={"command": ["me"]})
    assert store.names == list(NAMES)
    for i, member in enumerate(members()):
        framed = engine.frame(member.atoms)
        expected = engine.calculate(framed, FUNCTIONALS["PBE"]).density
        np.testing.assert_array_equal(store.values(i), expected.values)
        np.testing.assert_array_equal(store.density(i).atom_arrays["occupancies"], framed.positions)
        assert store.atoms(i) == framed
    store.verify()
    assert len(store.index["shards"]) > 1
    assert sorted(path.name for path in store.root.iterdir() if path.suffix != ".h5") == [
        "calculations.jsonl",
        "index.json",
    ]


def test_the_index_and_the_accounts_tell_how_it_was_made(tmp_path: Path) -> None:
    store = generate(plan(xc=["PBE", "91"]), tmp_path / "store", provenance={"command": ["me"]})
    assert store.index["definition"] == "Gaussians"
    assert store.index["parameters"] == {"seconds": 0.0}
    assert store.index["command"] == ["me"]
    assert store.index["functionals"]["PW91"] == {"tag": "91", "kernel": "GGA_X_PW91+GGA_C_PW91", "paw": "PBE"}
    first = records(store.root)[0]
    assert first["name"] == "H2O"
    assert first["source"] == "H2O.xyz"
    assert first["versions"] == {"fake": "1"}
    assert set(first["calculations"]) == {"PBE", "PW91"}
    pbe = first["calculations"]["PBE"]
    assert (pbe["energy"], pbe["iterations"], pbe["n_valence"]) == (-1.5, 7, 10.0)
    assert pbe["electrons"] == pytest.approx(10.0, rel=1e-3)


def test_several_functionals_share_a_grid_and_keep_their_order(tmp_path: Path) -> None:
    store = generate(plan(["H2O"], xc="all"), tmp_path / "store")
    assert store.labels == list(FUNCTIONALS)
    peaks = {label: float(store.values(0, label).max()) for label in store.labels}
    assert peaks["CA"] == peaks["PZ"] > peaks["PBE"] > peaks["PW91"] > peaks["revPBE"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("Xe", "PBE: not converged after 7 steps"),
        ("Kr", "RuntimeError: a bug in two lines"),
        ("He", "helium has no box"),
        ("Ar", "18.000 electrons on the grid, expected 18.1; take a finer grid or more smoothing"),
    ],
)
def test_a_structure_that_fails_does_not_stop_the_others(tmp_path: Path, bad: str, reason: str) -> None:
    store = generate(plan(["H2O", bad, "CH4"]), tmp_path / "store")
    assert store.names == ["H2O", "CH4"]
    with (store.root / "rejected.csv").open() as file:
        assert list(csv.DictReader(file)) == [
            {"index": "1", "name": bad, "source": f"{bad}.xyz", "reason": reason},
        ]
    assert [member["name"] for member in store.index["rejected"]] == [bad]
    assert records(store.root)[1]["error"] == reason


def test_where_all_fail_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"all 2 structures failed, Xe with: PBE: not converged"):
        generate(plan(["Xe", "Kr"]), tmp_path / "store")
    with pytest.raises(FileNotFoundError):
        Store(tmp_path / "store")


@pytest.mark.parametrize("when", [0, 1, 2, 3, 5])
def test_an_interrupted_generation_continues(tmp_path: Path, when: int) -> None:
    output, log = tmp_path / "store", tmp_path / "log"
    log.mkdir()
    engine = FakeEngine(log=str(log))

    def stop(status: Progress) -> None:
        if status.done == when:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(plan(engine=engine), output, progress=stop)
    assert len(list(log.iterdir())) == when
    statuses: list[Progress] = []
    store = generate(plan(engine=engine), output, progress=statuses.append)
    assert len(list(log.iterdir())) == len(NAMES), "what was done is not calculated again"
    assert [status.done for status in statuses] == list(range(when, len(NAMES) + 1))
    assert store.names == list(NAMES)
    assert store.fingerprint == generate(plan(), tmp_path / "whole").fingerprint
    store.verify()


def test_failures_are_not_tried_again_when_a_generation_continues(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    engine = FakeEngine(log=str(log))

    def stop(status: Progress) -> None:
        if status.done == 2:
            raise KeyboardInterrupt

    names = ["Xe", "H2O", "CH4"]
    with pytest.raises(KeyboardInterrupt):
        generate(plan(names, engine=engine), tmp_path / "store", progress=stop)
    assert generate(plan(names, engine=engine), tmp_path / "store").names == ["H2O", "CH4"]
    assert len(list(log.glob("Xe*"))) == 1


def test_densities_without_an_account_are_made_again(tmp_path: Path) -> None:
    """A worker was killed between the two, or the record's densities went missing."""
    output = tmp_path / "store"

    def stop(status: Progress) -> None:
        if status.done == 1:
            raise KeyboardInterrupt

    for damage in ("json", "npy"):
        with pytest.raises(KeyboardInterrupt):
            generate(plan(), output, progress=stop)
        (path,) = (output / ".conversion" / "results").glob(f"*.{damage}")
        path.unlink()
    assert generate(plan(), output).fingerprint == generate(plan(), tmp_path / "whole").fingerprint


def test_the_progress_counts_failures_and_work(tmp_path: Path) -> None:
    statuses: list[Progress] = []
    generate(plan(["H2O", "Xe", "CH4"]), tmp_path / "store", progress=statuses.append)
    assert [(s.done, s.failed, s.latest) for s in statuses] == [(0, 0, ""), (1, 0, "H2O"), (2, 1, "Xe"), (3, 1, "CH4")]
    assert statuses[2].error == "PBE: not converged after 7 steps"
    assert statuses[-1].cost_done == statuses[-1].cost_total
    assert statuses[0].cost_done == 0.0


def test_a_finished_store_is_left_alone_and_another_plan_refused(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    output = tmp_path / "store"
    generate(plan(engine=FakeEngine(log=str(log))), output)
    generate(plan(engine=FakeEngine(log=str(log))), output)
    assert len(list(log.iterdir())) == len(NAMES)
    for other in (plan(["H2O"]), plan(xc="RPBE"), plan(engine=FakeEngine(seconds=0.01))):
        with pytest.raises(ValueError, match="already a store, of another source or with other settings"):
            generate(other, output)


def test_a_store_that_another_process_has_just_finished_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished = deepdft.dft.generate.unfinished

    made: dict[str, int] = {}

    @contextmanager
    def late(output: Path, identity: str, *, what: str) -> Iterator[None]:
        monkeypatch.setattr(deepdft.dft.generate, "unfinished", unfinished)
        generate(plan(), output)
        made.update((path.name, path.stat().st_mtime_ns) for path in output.glob("*.h5"))
        with unfinished(output, identity, what=what):
            yield

    monkeypatch.setattr(deepdft.dft.generate, "unfinished", late)
    generate(plan(), tmp_path / "store").verify()
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*.h5")} == made != {}


def test_a_lost_worker_is_a_failed_structure(tmp_path: Path) -> None:
    def lose_the_second(tasks: Sequence[Task]):
        for task, outcome in InProcess()(tasks):
            lost = task.member.name == "CH4"
            yield task, ChildProcessError("its worker was killed") if lost else outcome

    store = generate(plan(["H2O", "CH4", "HF"]), tmp_path / "store", workers=lose_the_second)
    assert store.names == ["H2O", "HF"]
    assert store.index["rejected"][0]["reason"] == "ChildProcessError: its worker was killed"


def test_densities_can_be_compressed(tmp_path: Path) -> None:
    made = members(["H2O"])
    settings = Settings(functionals("PBE"), FakeEngine(), Compression("bitshuffle"))
    store = generate(Plan(settings, made, digest(made)), tmp_path / "store")
    assert store.index["compression"] == {"name": "bitshuffle"}
    assert store.n_electrons[0] == pytest.approx(10.0, rel=1e-3)


def test_names_must_be_unique() -> None:
    made = [*members(["H2O", "CH4"]), *members(["H2O"])]
    with pytest.raises(ValueError, match=r"1 names come several times, e\.g\. 'H2O'"):
        Plan(Settings(functionals("PBE"), FakeEngine()), made, digest(made))


def test_charges_that_would_be_ignored_are_refused() -> None:
    ammonium = molecule("NH3")
    ammonium.set_initial_charges([1.0, 0.0, 0.0, 0.0])
    made = [*members(["H2O"]), Member("ion", "ions.smi, line 3: [NH3+]", ammonium), Member("other", "x", ammonium)]
    message = r"2 of 3 have a charge .*, e\.g\. 'ion' \(ions\.smi, line 3: \[NH3\+\]\) the charge \+1; expected neutral"
    for charge in (0.0, -1.0):
        with pytest.raises(ValueError, match=message):
            Plan(Settings(functionals("PBE"), FakeEngine(charge=charge)), made, digest(made))
    Plan(Settings(functionals("PBE"), FakeEngine(charge=1.0)), made, digest(made))


def test_shards_follow_the_size_of_the_densities() -> None:
    assert [len(shard) for shard in plan(["H2O", "CH4", "HF", "NH3"], per_shard=2).shards] == [2, 2]
    assert [len(shard) for shard in plan(["H2O", "CH4"], per_shard=0.1).shards] == [1, 1]
    assert [len(shard) for shard in plan(["He", "H2O", "Ar"], per_shard=9).shards] == [3]


def test_spin_becomes_a_channel_of_the_store(tmp_path: Path) -> None:
    engine = FakeEngine(channels=("total", "difference"))
    store = generate(plan(["H2O", "CH4"], xc=["PBE", "CA"], engine=engine), tmp_path / "store")
    for label in ("PBE", "CA"):
        density = store.density(1, label)
        assert density.channel_names == ("total", "difference")
        np.testing.assert_array_equal(density.channel("difference"), np.float32(0.25) * density.values)
    store.verify()


def test_a_spin_density_that_is_not_the_magnetic_moment_is_refused(tmp_path: Path) -> None:
    engine = FakeEngine(channels=("total", "difference"))
    framed = engine.frame(molecule("H2O"))
    made = engine.calculate(framed, FUNCTIONALS["PBE"])
    right = replace(made, details={"magnetic_moment": 2.5})  # a quarter of ten electrons
    right.check()
    with pytest.raises(CalculationError, match=r"spin density integrates to 2\.500 μ_B, the calculation has -2\.500"):
        replace(right, details={"magnetic_moment": -2.5}).check()


def test_the_kind_of_the_densities_is_recorded(tmp_path: Path) -> None:
    store = generate(plan(["H2O", "CH4"]), tmp_path / "store")
    assert store.kind.code == "fake"
    assert store.kind.pseudopotentials == {symbol: f"{symbol} of no set" for symbol in "CHO"}


def test_a_full_disk_stops_the_generation_and_fails_no_structure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A structure whose results cannot be written is calculated again when there is space."""
    output = tmp_path / "store"
    save = np.save

    def full(file, values) -> None:
        if sum(1 for _ in (output / ".conversion" / "results").glob("*.json")) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(file, values)

    with monkeypatch.context() as patch:
        patch.setattr("numpy.save", full)
        with pytest.raises(OSError, match=r"0000002\.npy: not written, no space left on device"):
            generate(plan(), output)
    assert not list(output.rglob("*.part"))
    store = generate(plan(), output)
    assert store.names == list(NAMES)
    assert store.fingerprint == generate(plan(), tmp_path / "whole").fingerprint


def test_the_former_name_of_the_cluster_still_works() -> None:
    with pytest.warns(RenamedWarning, match="cluster=here is now cluster=none"):
        assert isinstance(deepdft.dft.generate.deprecated_here(), InProcess)


def test_what_structures_have_and_calculations_do_not_use_is_reported(tmp_path: Path) -> None:
    iron = molecule("H2O")
    iron.set_initial_magnetic_moments([1.0, 0.0, 0.0])
    box = molecule("CH4", cell=[9.0, 9.0, 9.0], pbc=True)
    made = [*members(["HF"]), Member("magnet", "x", iron), Member("liquid", "y", box)]
    with pytest.warns(InputWarning) as caught:
        generate(Plan(Settings(functionals("PBE"), FakeEngine()), made, digest(made)), tmp_path / "store")
    assert [str(warning.message) for warning in caught] == [
        "structures: 1 of 3 have magnetic moments, which are not used without dft.spin=true (e.g. 'magnet')",
        "structures: 1 of 3 repeat, but are calculated as molecules in boxes of their own; crystals need "
        "dft=gpaw_periodic (e.g. 'liquid')",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spins = Settings(functionals("PBE"), FakeEngine(channels=("total", "difference")))
        generate(Plan(spins, made[:2], digest(made[:2])), tmp_path / "spins")
