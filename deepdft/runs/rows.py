"""The rows of an evaluation, one for each structure: shared among processes, resumable, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from deepdft.evaluation.parts import append_part, begin_part, compute, read_part
from deepdft.evaluation.ranks import Ranks
from deepdft.runs.progress import progress_bar

__all__ = ["collect", "remove_parts"]

PART = "{}.{}.part"
"""Part file of a kind of rows and a process; an interrupted evaluation resumes from these files."""
SYMBOLS = {"eps_mae": "ε_mae", "eps_mad": "ε_mad", "saved": "iterations saved"}


class Row(Protocol):
    """A dataclass with the results of a structure."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def index(self) -> int:
        """Index of the structure in the data."""

    @property
    def n_points(self) -> int:
        """Number of grid points."""


R = TypeVar("R", bound=Row)


def collect(
    kind: type[R],
    row: Callable[[int], R],
    indices: Sequence[int],
    *,
    measure: str,
    identity: Mapping[str, Any],
    process_group: Ranks,
    output: Path,
    run: Callable[[Sequence[int]], Iterable[R]] | None = None,
) -> tuple[list[R], int]:
    """Rows of all structures in the order of `indices`, and the number of grid points processed by this call.

    Args:
        kind: dataclass of a row.
        row: computes the row of a structure.
        indices: which structures.
        measure: field of a row whose mean the progress bar shows; it also names the part files.
        identity: two evaluations with the same identity have the same rows for the same structure.
        process_group: this process among all.
        output: folder of the part files.
        run: computes the rows of several structures elsewhere, in any order; None computes them one by one here.
    """
    identity = {
        **identity,
        "fields": [field.name for field in fields(kind)],
    }  # another version may have had other fields
    parts = sorted(output.glob(PART.format(measure, "*")))
    done = {found.index: found for part in parts for found in read_part(part, identity, kind)}
    done = process_group.from_first({index: done[index] for index in indices if index in done})
    todo = [index for index in indices if index not in done]
    if done and process_group.rank == 0:
        print(f"resuming: {len(done)} of {len(indices)} structures are done")
    part = output / PART.format(measure, process_group.rank)
    begin_part(part, identity)
    share = process_group.share(todo)
    with _progress(len(share), measure, quiet=process_group.rank > 0) as advance:
        found = compute(share, row, part=part, progress=advance) if run is None else _kept(run(share), part, advance)
        new = process_group.gather(list(found))
    by_index = done | {found.index: found for found in new}
    return [by_index[index] for index in indices], sum(found.n_points for found in new)


def _kept(rows: Iterable[R], part: Path, progress: Callable[[R], None]) -> Iterator[R]:
    """The same rows; each is appended to a part file as it comes."""
    for row in rows:
        append_part(part, row)
        progress(row)
        yield row


def remove_parts(output: Path) -> None:
    """Remove the part files of a finished evaluation."""
    for measure in SYMBOLS:
        for part in output.glob(PART.format(measure, "*")):
            part.unlink()


@contextmanager
def _progress(total: int, measure: str, *, quiet: bool) -> Iterator[Callable[[Any], None]]:
    """A progress bar with the mean of the measure so far."""
    values: list[float] = []
    with progress_bar("evaluating", total, unit="structures", quiet=quiet) as bar:

        def advance(row: Any) -> None:
            values.append(getattr(row, measure))
            bar(len(values), note=f"mean {SYMBOLS[measure]} {sum(values) / len(values):.3f} %")

        yield advance
