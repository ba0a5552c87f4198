"""The progress bar of all long work: how much is done, how long it has taken and will take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Advance", "progress_bar"]


class Advance(Protocol):
    """Advances a progress bar."""

    def __call__(self, done: float, total: float | None = None, note: str = "") -> None:
        """Set how much is done, out of how much (None: unchanged), with a note after the bar."""


@contextmanager
def progress_bar(doing: str, total: float | None, *, unit: str | None = None, quiet: bool = False) -> Iterator[Advance]:
    """Show a progress bar on stderr if it is a terminal; otherwise nothing.

    Args:
        doing: what is done, as "converting".
        total: how much there is to do; None where it is not known yet.
        unit: what is counted, as "structures"; None shows the percentage only.
        quiet: show nothing.
    """
    columns = (
        TextColumn(doing, markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %" if unit is None else f"{{task.completed:.0f}}/{{task.total}} {unit}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=total, note="")

        def advance(done: float, total: float | None = None, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield advance
