"""The folder of a store while it is being made: one process at a time, one plan, and what was left out."""

from __future__ import annotations

import csv
import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deepdft.data.index import INDEX, WORK_FOLDER, ShardRecord, read_index, write_text

__all__ = ["alone", "begin", "discard_plan_on_failure", "is_complete", "write_rejected"]

REJECTED_FILE = "rejected.csv"


def is_complete(output: Path, identity: str) -> bool:
    """Whether the output is already the store of a plan.

    Args:
        output: folder of the store.
        identity: of the plan, the index's entry "plan".

    Raises:
        ValueError: if the output is a finished store of something else, or a folder that is no store.
    """
    if (output / INDEX).exists():
        if read_index(output / INDEX).get("plan") == identity:
            return True
        raise ValueError(
            f"{output}: already a store, of another source or with other settings, or of this source before it was "
            "changed; give another output, or remove it"
        )
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output}: is a file; output is a folder")
    if output.is_dir() and any(output.iterdir()) and not (output / WORK_FOLDER).is_dir():
        raise ValueError(f"{output}: has other files in it; give an empty or a new folder as output")
    return False


@contextmanager
def alone(output: Path, command: str) -> Iterator[None]:
    """Two processes that make one store would spoil each other; the lock ends with the process.

    Raises:
        ValueError: if another process has the lock.
    """
    (output / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
    with (output / WORK_FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{output}: another {command} is working on it; wait for it to end") from None
        yield


def begin(output: Path, identity: str, *, what: str) -> None:
    """Note the plan, or compare it with the one that was begun; remove what a killed run left half-written.

    Args:
        output: folder of the store.
        identity: of the plan.
        what: the plan is of, for the message: a conversion, …

    Raises:
        ValueError: if another plan was begun in the folder.
    """
    path = output / WORK_FOLDER / "plan.json"
    if path.exists():
        if json.loads(path.read_text())["plan"] != identity:
            raise ValueError(
                f"{output}: a {what} of another source, or with other settings, was begun here; repeat its command "
                "to finish it, give another output, or remove the folder"
            )
    else:
        write_text(path, json.dumps({"plan": identity}))
    for part in (output / WORK_FOLDER).rglob("*.part*"):
        part.unlink()


@contextmanager
def discard_plan_on_failure(output: Path) -> Iterator[None]:
    """What fails before it has made anything leaves no plan behind, so that the folder is free for another."""
    try:
        yield
    except ValueError:
        made = [path for path in output.rglob("*") if path.is_file() and path.name not in ("plan.json", "lock")]
        if not made:
            shutil.rmtree(output / WORK_FOLDER)
        raise


def write_rejected(output: Path, records: Sequence[ShardRecord]) -> None:
    """List the structures that were left out in rejected.csv, if there are any."""
    rejected = [member for record in records for member in record.rejected]
    if not rejected:
        return
    with (output / REJECTED_FILE).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["position", "name", "source", "reason"])
        table.writerows([member.position, member.name, member.source, member.reason] for member in rejected)
