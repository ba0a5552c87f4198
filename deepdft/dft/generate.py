"""Structures → a density store: many calculations, each on its own, and resumable.

A worker writes the densities of a structure and then its record (`0000000.npy`, `0000000.json` in
`.conversion/results/`); when all structures of a shard are there, the shard is packed and the densities removed.
A run that is killed at any time resumes from these; only structures that were being calculated start again.
"""

from __future__ import annotations

import datetime
import errno
import json
import platform
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepdft.clusters import InProcess, Workers
from deepdft.data.records import WORK_FOLDER, Rejected, read_record
from deepdft.data.store import Store
from deepdft.data.unfinished import finish, finished_store, unfinished
from deepdft.data.writer import ShardWriter
from deepdft.density import DensityGrid
from deepdft.dft.generate_plan import Member, Plan, Settings
from deepdft.dft.generate_results import Results
from deepdft.errors import RenamedWarning
from deepdft.files import write_text

__all__ = ["CALCULATION_LOG", "InProcess", "Progress", "Task", "generate"]

CALCULATION_LOG = "calculations.jsonl"
"""Log of a generated store, a JSON line per structure: energy, iterations, seconds and versions, or the error."""


@dataclass(frozen=True, eq=False)
class Task:
    """One structure with everything that a worker needs; calling it does the work, or finds it done."""

    index: int
    member: Member
    settings: Settings
    results: Results

    def __call__(self) -> dict[str, Any]:
        """Calculate all densities, write them and the record.

        Returns:
            The record; where the structure failed it has an "error".

        Raises:
            OSError: if the results cannot be written, for instance to a full disk; the structure has not failed then.
        """
        if (known := self.results.record(self.index)) is not None:
            return known
        started = time.perf_counter()
        record: dict[str, Any] = {
            "name": self.member.name,
            "source": self.member.source,
            "formula": self.member.atoms.get_chemical_formula(),
            "begun": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "host": platform.node(),
            "versions": self.settings.engine.versions(),
        }
        try:
            values, arrays, calculations = self._calculate()
        except Exception as error:  # whatever goes wrong with one structure, the others are calculated
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # would go wrong with every structure
            record |= {"error": _reason(error)}
        else:
            self.results.write(self.index, values, arrays)
            record |= {"calculations": calculations}
        record |= {"seconds": round(time.perf_counter() - started, 2)}
        return self.results.write_record(self.index, record)

    def _calculate(self) -> tuple[NDArray[np.float32], dict[str, NDArray[np.floating]], dict[str, Any]]:
        """Calculate with every functional.

        Returns:
            Densities (functionals, channels, nx, ny, nz) in e/Å³; numbers of the atoms by FUNCTIONAL/NAME, as
            `DensityGrid.atom_arrays`; and the records of the calculations by functional.
        """
        engine, functionals = self.settings.engine, self.settings.functionals
        framed = engine.frame(self.member.atoms)
        values = np.empty((len(functionals), len(engine.channels), *engine.shape(framed)), dtype=np.float32)
        arrays: dict[str, NDArray[np.floating]] = {}
        calculations: dict[str, Any] = {}
        for index, functional in enumerate(functionals):
            calculation = engine.calculate(framed, functional)
            calculation.check()
            for row, channel in enumerate(engine.channels):
                values[index, row] = calculation.density.channel(channel)
            arrays |= {f"{functional.label}/{name}": rows for name, rows in calculation.density.atom_arrays.items()}
            calculations[functional.label] = calculation.record()
        return values, arrays, calculations


def _lost(task: Task, error: Exception) -> dict[str, Any]:
    """The record of a structure whose worker died before it could write one."""
    member = task.member
    record = {"name": member.name, "source": member.source, "error": _reason(error)}
    return task.results.write_record(task.index, record)


def _reason(error: Exception) -> str:
    """The message of an error in one line, with its type if it is not one of ours."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")


@dataclass(frozen=True)
class Progress:
    """The progress of a generation."""

    done: int
    failed: int
    total: int
    cost_done: float
    """Cost of the structures done, in the unit of `cost_total`."""
    cost_total: float
    latest: str = ""
    """Name of the structure that was finished last; empty at the start."""
    error: str = ""
    """Reason why that structure failed; empty if it did not."""


def deprecated_here() -> InProcess:
    """The former name `cluster=here` of `cluster=none`."""
    text = "cluster=here is now cluster=none; the old name will be removed in the next version"
    warnings.warn(text, RenamedWarning, stacklevel=2)
    return InProcess()


def generate(
    plan: Plan,
    output: Path,
    *,
    workers: Workers | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Store:
    """Calculate densities and make a store of them, or finish an interrupted one.

    Args:
        plan: what goes into it.
        output: folder of the store; made if it does not exist.
        workers: what runs the calculations; None runs them here.
        provenance: further content of index.json.
        progress: called at the start and after each structure.

    Raises:
        ValueError: if the output was started with another plan, or is something else, or if all structures failed.
    """
    if (store := finished_store(output, plan.identity)) is not None:
        return store
    with unfinished(output, plan.identity, what="generation"):
        if (store := finished_store(output, plan.identity)) is not None:  # another process has just finished it
            return store
        plan.warn_of_unused()
        run = _Run(plan, output, progress or (lambda status: None))
        run.calculate(workers or InProcess())
        return run.finish(provenance or {})


class _Run:
    """A generation in its folder: records of finished structures, and shards that are packed as structures come in."""

    def __init__(self, plan: Plan, output: Path, progress: Callable[[Progress], None]) -> None:
        self.plan = plan
        self.output = output
        self.progress = progress
        self.results = Results((output / WORK_FOLDER / "results").absolute())
        self.results.folder.mkdir(exist_ok=True)
        self.records: dict[int, dict[str, Any]] = {}
        self.failed = 0
        self.cost = 0.0
        self.shard_of = {index: number for number, shard in enumerate(plan.shards) for index in shard}
        self.packed = {number for number in range(len(plan.shards)) if read_record(output, number) is not None}
        for index in range(len(plan.members)):
            self._find(index)

    def _find(self, index: int) -> None:
        """Find the results of an earlier run for a structure; a record without densities does not count."""
        record = self.results.record(index)
        packed = self.shard_of[index] in self.packed
        if record is not None and ("error" in record or packed or self.results.has_densities(index)):
            self._note(index, record)
        else:
            self.results.forget(index)
        if packed:
            self.results.discard(index)

    def _note(self, index: int, record: dict[str, Any]) -> None:
        self.records[index] = record
        self.failed += "error" in record
        self.cost += self.plan.costs[index]

    def calculate(self, workers: Workers) -> None:
        """Calculate the structures that are left, and pack shards."""
        todo = [
            Task(index, member, self.plan.settings, self.results)
            for index, member in enumerate(self.plan.members)
            if index not in self.records
        ]
        self._report()
        for number in range(len(self.plan.shards)):
            self._pack_if_whole(number)
        for task, outcome in workers(todo):
            record = _lost(task, outcome) if isinstance(outcome, Exception) else outcome
            self._note(task.index, record)
            self._report(task.member.name, record.get("error", ""))
            self._pack_if_whole(self.shard_of[task.index])

    def _report(self, latest: str = "", error: str = "") -> None:
        total = len(self.plan.members)
        self.progress(Progress(len(self.records), self.failed, total, self.cost, sum(self.plan.costs), latest, error))

    def _pack_if_whole(self, number: int) -> None:
        """Write a shard when all its structures are done."""
        members = self.plan.shards[number]
        if number in self.packed or any(index not in self.records for index in members):
            return
        with ShardWriter(
            self.output, number, labels=self.plan.settings.labels, compression=self.plan.settings.compression
        ) as shard:
            for index in members:
                member = self.plan.members[index]
                if "error" in (record := self.records[index]):
                    shard.reject(Rejected(index, member.name, member.source, record["error"]))
                else:
                    shard.add(member.name, self._grids(index))
        self.packed.add(number)
        for index in members:
            self.results.discard(index)

    def _grids(self, index: int) -> dict[str, DensityGrid]:
        """The densities of a structure."""
        framed = self.plan.settings.engine.frame(self.plan.members[index].atoms)
        engine, labels = self.plan.settings.engine, self.plan.settings.labels
        values = self.results.values(index)
        values = values.reshape(len(labels), len(engine.channels), *engine.shape(framed))  # older ones lack channels
        return {
            label: DensityGrid(
                total,
                framed,
                channels=dict(zip(engine.channels[1:], others, strict=True)),
                atom_arrays=self.results.atom_arrays(index, label),
            )
            for label, (total, *others) in zip(labels, values, strict=True)
        }

    def finish(self, provenance: Mapping[str, Any]) -> Store:
        """Write the records, rejected.csv and the index, and clear up."""
        if all("error" in record for record in self.records.values()):
            first = self.plan.members[0]
            raise ValueError(
                f"{self.output}: all {len(self.records)} structures failed, {first.name} with: "
                f"{self.records[0]['error']}; correct that, remove the folder and start again"
            )
        records = [record for number in range(len(self.plan.shards)) if (record := read_record(self.output, number))]
        lines = [json.dumps(self.records[index], ensure_ascii=False) for index in range(len(self.plan.members))]
        write_text(self.output / CALCULATION_LOG, "\n".join(lines) + "\n")
        return finish(
            self.output,
            records,
            labels=self.plan.settings.labels,
            compression=self.plan.settings.compression.as_dict(),
            provenance={**self.plan.provenance(), **provenance},
        )
