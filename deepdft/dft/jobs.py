"""Structures → a density store: many calculations, each on its own, and resumable.

A worker writes the densities of a structure and then its account (`0000000.npy`, `0000000.json` in
`.conversion/results/`); when all structures of a shard are there, the shard is packed and the densities removed.
A run that is killed at any time goes on from these; only structures that were being calculated begin anew.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepdft.data.records import WORK_FOLDER, Rejected, read_record
from deepdft.data.store import Store
from deepdft.data.unfinished import finish, finished_store, unfinished
from deepdft.data.writer import ShardWriter
from deepdft.density import DensityGrid
from deepdft.dft.plan import Entry, GenerationPlan, Settings
from deepdft.files import write_text

__all__ = ["ACCOUNTS", "Here", "Progress", "Task", "Workers", "generate"]

ACCOUNTS = "calculations.jsonl"
"""In a generated store: a line of JSON for each structure, with energy, iterations, seconds, versions, or the error."""


@dataclass(frozen=True, eq=False)
class Task:
    """One structure with everything a worker needs; calling it does the work, or finds it done."""

    position: int
    entry: Entry
    settings: Settings
    results: Path

    def __call__(self) -> dict[str, Any]:
        """Calculate all densities, write them and the account.

        Returns:
            The account; where the structure failed it has an "error".
        """
        if (known := read_account(self.results, self.position)) is not None:
            return known
        begun = time.perf_counter()
        account: dict[str, Any] = {
            "name": self.entry.name,
            "source": self.entry.source,
            "formula": self.entry.atoms.get_chemical_formula(),
            "begun": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "host": platform.node(),
            "versions": self.settings.engine.versions(),
        }
        try:
            account |= {"calculations": self._calculate()}
        except Exception as error:  # whatever goes wrong with a structure, the others are calculated
            account |= {"error": _reason(error)}
        account |= {"seconds": round(time.perf_counter() - begun, 2)}
        return write_account(self.results, self.position, account)

    def _calculate(self) -> dict[str, Any]:
        engine, functionals = self.settings.engine, self.settings.functionals
        framed = engine.frame(self.entry.atoms)
        values = np.empty((len(functionals), *engine.shape(framed)), dtype=np.float32)
        calculations: dict[str, Any] = {}
        for index, functional in enumerate(functionals):
            calculation = engine.calculate(framed, functional)
            calculation.check()
            values[index] = calculation.density.values
            calculations[functional.label] = calculation.account()
        _write_densities(_densities(self.results, self.position), values)
        return calculations


def _lost(task: Task, error: Exception) -> dict[str, Any]:
    """The account of a structure whose worker did not live to write one."""
    entry = task.entry
    account = {"name": entry.name, "source": entry.source, "error": _reason(error)}
    return write_account(task.results, task.position, account)


def _reason(error: Exception) -> str:
    """What an error says in one line, with its type where that is not ours."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")


def _densities(results: Path, position: int) -> Path:
    return results / f"{position:07d}.npy"


def _write_densities(path: Path, values: np.ndarray) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        np.save(file, values)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def write_account(results: Path, position: int, account: dict[str, Any]) -> dict[str, Any]:
    """Note that a structure is done; returns the account."""
    write_text(results / f"{position:07d}.json", json.dumps(account, ensure_ascii=False))
    return account


def read_account(results: Path, position: int) -> dict[str, Any] | None:
    """The account of a structure that is done, None of one that is not."""
    try:
        return json.loads((results / f"{position:07d}.json").read_text())
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class Progress:
    """How far a generation is."""

    done: int
    failed: int
    total: int
    cost_done: float
    """Of the structures done, in the unit of `cost_total`."""
    cost_total: float
    latest: str = ""
    """Name of the structure that was finished last; empty in the beginning."""
    error: str = ""
    """Why that one failed, if it did."""


Workers = Callable[[Sequence[Task]], Iterable[tuple[Task, dict[str, Any] | Exception]]]
"""Runs tasks; gives each with its account, or with the exception of a worker that was lost, as they end."""


class Here:
    """Runs tasks one after the other in this process."""

    def __call__(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, dict[str, Any] | Exception]]:
        """Run them in their order."""
        for task in tasks:
            yield task, task()


def generate(
    plan: GenerationPlan,
    output: Path,
    *,
    workers: Workers | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Store:
    """Calculate densities and make a store of them, or finish one that was begun.

    Args:
        plan: what goes into it.
        output: folder of the store; made if it does not exist.
        workers: what runs the calculations; None runs them here.
        provenance: further content of index.json.
        progress: called in the beginning and after each structure.

    Raises:
        ValueError: if the output was begun with another plan or is something else, or if all structures failed.
    """
    if (store := finished_store(output, plan.identity)) is not None:
        return store
    with unfinished(output, plan.identity, what="generation"):
        if (store := finished_store(output, plan.identity)) is not None:  # another process has just finished it
            return store
        run = _Run(plan, output, progress or (lambda status: None))
        run.calculate(workers or Here())
        return run.finish(provenance or {})


class _Run:
    """A generation in its folder: accounts of what is done, and shards packed as their structures come in."""

    def __init__(self, plan: GenerationPlan, output: Path, progress: Callable[[Progress], None]) -> None:
        self.plan = plan
        self.output = output
        self.progress = progress
        self.results = (output / WORK_FOLDER / "results").absolute()
        self.results.mkdir(exist_ok=True)
        self.accounts: dict[int, dict[str, Any]] = {}
        self.failed = 0
        self.cost = 0.0
        self.shard_of = {position: number for number, shard in enumerate(plan.shards) for position in shard}
        self.packed = {number for number in range(len(plan.shards)) if read_record(output, number) is not None}
        for position in range(len(plan.entries)):
            self._find(position)

    def _find(self, position: int) -> None:
        """Look for what an earlier run did for a structure; without an account or densities it did nothing."""
        account, densities = read_account(self.results, position), _densities(self.results, position)
        packed = self.shard_of[position] in self.packed
        if account is not None and ("error" in account or packed or densities.exists()):
            self._note(position, account)
        else:
            (self.results / f"{position:07d}.json").unlink(missing_ok=True)
        if packed:
            densities.unlink(missing_ok=True)

    def _note(self, position: int, account: dict[str, Any]) -> None:
        self.accounts[position] = account
        self.failed += "error" in account
        self.cost += self.plan.costs[position]

    def calculate(self, workers: Workers) -> None:
        """Do what is left to do, and pack shards."""
        todo = [
            Task(position, entry, self.plan.settings, self.results)
            for position, entry in enumerate(self.plan.entries)
            if position not in self.accounts
        ]
        self._report()
        for number in range(len(self.plan.shards)):
            self._pack_if_whole(number)
        for task, outcome in workers(todo):
            account = _lost(task, outcome) if isinstance(outcome, Exception) else outcome
            self._note(task.position, account)
            self._report(task.entry.name, account.get("error", ""))
            self._pack_if_whole(self.shard_of[task.position])

    def _report(self, latest: str = "", error: str = "") -> None:
        total = len(self.plan.entries)
        self.progress(Progress(len(self.accounts), self.failed, total, self.cost, sum(self.plan.costs), latest, error))

    def _pack_if_whole(self, number: int) -> None:
        """Write a shard when all its structures are done."""
        members = self.plan.shards[number]
        if number in self.packed or any(position not in self.accounts for position in members):
            return
        with ShardWriter(
            self.output, number, labels=self.plan.settings.labels, compression=self.plan.settings.compression
        ) as shard:
            for position in members:
                entry = self.plan.entries[position]
                if "error" in (account := self.accounts[position]):
                    shard.reject(Rejected(position, entry.name, entry.source, account["error"]))
                else:
                    shard.add(entry.name, self._grids(position))
        self.packed.add(number)
        for position in members:
            _densities(self.results, position).unlink(missing_ok=True)

    def _grids(self, position: int) -> dict[str, DensityGrid]:
        """The densities of a structure."""
        framed = self.plan.settings.engine.frame(self.plan.entries[position].atoms)
        values = np.load(_densities(self.results, position), mmap_mode="r")
        return {
            label: DensityGrid(array, framed) for label, array in zip(self.plan.settings.labels, values, strict=True)
        }

    def finish(self, provenance: Mapping[str, Any]) -> Store:
        """Write the accounts, rejected.csv and the index, and clear up."""
        if all("error" in account for account in self.accounts.values()):
            first = self.plan.entries[0]
            raise ValueError(
                f"{self.output}: all {len(self.accounts)} structures failed, {first.name} with: "
                f"{self.accounts[0]['error']}; mend that, remove the folder and begin again"
            )
        records = [record for number in range(len(self.plan.shards)) if (record := read_record(self.output, number))]
        lines = [json.dumps(self.accounts[position], ensure_ascii=False) for position in range(len(self.plan.entries))]
        write_text(self.output / ACCOUNTS, "\n".join(lines) + "\n")
        return finish(
            self.output,
            records,
            labels=self.plan.settings.labels,
            compression=self.plan.settings.compression.as_dict(),
            provenance={**self.plan.provenance(), **provenance},
        )
