"""The folder of a store while it is being made, by a conversion or a generation.

One process at a time works there, after one plan. Each finished shard has a record in `.conversion/`, from which a
run that was killed resumes; `index.json` comes last, and `.conversion/` is removed.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepdft.data.index import INDEX, read_index, write_index
from deepdft.data.records import WORK_FOLDER, ShardRecord, all_rejected
from deepdft.data.store import Store
from deepdft.files import atomic_write, exclusive_lock, read_json, write_json

__all__ = ["finish", "finished_store", "unfinished"]

REJECTED_FILE = "rejected.csv"
PLAN_FILE = "plan.json"


def finished_store(output: Path, identity: str) -> Store | None:
    """The store of a plan if it is complete; None if there is still something to do.

    Args:
        output: folder of the store.
        identity: of the plan, the index's entry "plan".

    Raises:
        ValueError: if the output is a finished store of something else, or a folder that is no store.
    """
    if (output / INDEX).exists():
        if read_index(output / INDEX).get("plan") != identity:
            raise ValueError(
                f"{output}: already a store, of another source or with other settings, or of this source before it "
                "was changed; give another output, or remove it"
            )
        shutil.rmtree(output / WORK_FOLDER, ignore_errors=True)  # left if a run was killed at its very end
        return Store(output)
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output}: is a file; output is a folder")
    if output.is_dir() and any(output.iterdir()) and not (output / WORK_FOLDER).is_dir():
        raise ValueError(f"{output}: has other files in it; give an empty or a new folder as output")
    return None


@contextmanager
def unfinished(output: Path, plan: str, *, what: str) -> Iterator[None]:
    """Lock the folder of an unfinished store for the time of some work.

    The plan is recorded, or compared with the recorded one, and what a killed run left half-written is removed. A
    plan that fails with a ValueError before anything was made is forgotten, so that the folder is free for another.

    Args:
        output: folder of the store; made if it does not exist.
        plan: identity of the plan.
        what: a word for messages, e.g. "conversion".

    Raises:
        ValueError: if another process works there, or another plan was started in the folder.
    """
    work = output / WORK_FOLDER
    work.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(work, f"a {what}"):
        _start(output, plan, what)
        with _discard_plan_on_failure(output):
            yield


def _start(output: Path, plan: str, what: str) -> None:
    path = output / WORK_FOLDER / PLAN_FILE
    if path.exists():
        if read_json(path).get("plan") != plan:
            raise ValueError(
                f"{output}: a {what} of another source, or with other settings, was started here; repeat its command "
                "to finish it, give another output, or remove the folder"
            )
    else:
        write_json(path, {"plan": plan})
    for part in (*output.glob(".*.part"), *(output / WORK_FOLDER).rglob("*.part*")):
        part.unlink(missing_ok=True)


@contextmanager
def _discard_plan_on_failure(output: Path) -> Iterator[None]:
    try:
        yield
    except ValueError:
        plan = output / WORK_FOLDER / PLAN_FILE
        if not [path for path in output.rglob("*") if path.is_file() and path != plan and ".lock" not in path.name]:
            plan.unlink(missing_ok=True)
        raise


def finish(
    output: Path,
    records: Sequence[ShardRecord],
    *,
    labels: Sequence[str],
    compression: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Store:
    """Write rejected.csv and the index, and remove everything else; call it within `unfinished`.

    The arguments are those of `write_index`.
    """
    for shard in {path.name for path in output.glob("shard-*.h5")} - {record.file for record in records}:
        (output / shard).unlink()  # of a source that had more shards before it was corrected
    _write_rejected(output, records)
    write_index(output, records, labels=labels, compression=compression, provenance=provenance)
    shutil.rmtree(
        output / WORK_FOLDER, ignore_errors=True
    )  # removed with the lock: whoever waits for it finds a finished store
    return Store(output)


def _write_rejected(output: Path, records: Sequence[ShardRecord]) -> None:
    """List the structures that were left out in rejected.csv, if there are any."""
    rejected = all_rejected(records)
    if not rejected:
        return
    with atomic_write(output / REJECTED_FILE) as beside, beside.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["index", "name", "source", "reason"])
        table.writerows([member.index, member.name, member.source, member.reason] for member in rejected)
