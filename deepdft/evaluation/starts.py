"""What starting densities save: iterations and CPU time of the same structures, compared in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy.stats import bootstrap, wilcoxon

from deepdft.dft.start_comparison import MAX_ENERGY_DIFFERENCE, STARTS, StartRun
from deepdft.evaluation.parts import StructureRow, write_table
from deepdft.plotting.figure import BLUE, GREY, ORANGE, new_figure, save

__all__ = ["StructureStarts", "starts_picture", "starts_table", "summarise_starts", "write_starts"]

BASELINES = ("default", "atoms")
"""Starts that the others are compared with."""
QUANTITIES = ("iterations", "cpu_seconds")


@dataclass(frozen=True)
class StructureStarts(StructureRow):
    """The calculations of one structure."""

    runs: list[dict[str, Any]]
    """Fields of a `StartRun` for each start."""

    def by_start(self) -> dict[str, StartRun]:
        """The calculations by the name of their start."""
        return {run["start"]: StartRun(**run) for run in self.runs}

    @property
    def is_comparable(self) -> bool:
        """Whether all starts end at the same energy, to 1e-6 eV."""
        energies = [run["energy"] for run in self.runs]
        return max(energies) - min(energies) <= MAX_ENERGY_DIFFERENCE

    @property
    def saved(self) -> float:
        """Iterations to the end that the best start but the exact ones saves against the default, in %."""
        counts = {name: len(run.accuracies) for name, run in self.by_start().items() if not name.startswith("exact")}
        return 100.0 * (1.0 - min(counts.values()) / counts["default"])


def values(rows: Sequence[StructureStarts], start: str, quantity: str, threshold: float) -> NDArray[np.float64]:
    """A quantity (n,) until a threshold in Ry of the structures that count; NaN where it was not reached."""
    runs = [row.by_start()[start] for row in rows if row.is_comparable]
    found = [getattr(run, quantity)(threshold) for run in runs]
    return np.array([np.nan if value is None else value for value in found], dtype=np.float64)


def summarise_starts(rows: Sequence[StructureStarts], thresholds: Sequence[float]) -> dict[str, Any]:
    """Medians, quartiles and paired savings of all starts.

    Args:
        rows: the structures; those whose starts end at different energies are listed and left out.
        thresholds: Ry, estimated error of the energy.

    Returns:
        "starts": by start, threshold and quantity the median and quartiles; "saved": by pair of starts the same way the
        median over structures of 1 - new / old in %, its 95 % interval (bootstrap) and the p-value of Wilcoxon's
        signed-rank test.

    Raises:
        ValueError: if no structure counts.
    """
    counted = [row for row in rows if row.is_comparable]
    if not counted:
        raise ValueError("the starts of no structure end at the same energy: take a smaller dft.convergence")
    names = [name for name in STARTS if name in counted[0].by_start()]
    table: dict[str, Any] = {name: {} for name in names}
    saved: dict[str, Any] = {}
    for threshold in thresholds:
        for quantity in QUANTITIES:
            found = {name: values(counted, name, quantity, threshold) for name in names}
            for name in names:
                quartiles = np.nanpercentile(found[name], [25, 50, 75]).round(3).tolist()
                entry = {"median": quartiles[1], "quartiles": [quartiles[0], quartiles[2]]}
                table[name].setdefault(f"{threshold:g}", {})[quantity] = entry
            for old in (name for name in BASELINES if name in names):
                for new in (name for name in names if name not in ("default", old)):
                    key = f"{new} against {old}"
                    saved.setdefault(key, {}).setdefault(f"{threshold:g}", {})[quantity] = _saving(
                        found[new], found[old]
                    )
    excluded = [row.name for row in rows if not row.is_comparable]
    return {"starts": table, "saved": saved, "n_structures": len(counted), "different_energies": excluded}


def _saving(new: NDArray[np.float64], old: NDArray[np.float64]) -> dict[str, Any]:
    """Median saving in % with its uncertainty, of pairs in which both are known."""
    known = np.isfinite(new) & np.isfinite(old)
    saving = 100.0 * (1.0 - new[known] / old[known])
    result: dict[str, Any] = {"median": round(float(np.median(saving)), 2), "n": int(known.sum())}
    if len(saving) > 2 and np.ptp(saving) > 0:
        interval = bootstrap((saving,), np.median, method="percentile", random_state=0).confidence_interval
        result["interval"] = [round(float(interval.low), 2), round(float(interval.high), 2)]
        result["p"] = float(wilcoxon(new[known], old[known]).pvalue)
    return result


def starts_table(summary: dict[str, Any], title: str) -> Table:
    """The medians for the terminal."""
    table = Table(title=title)
    table.add_column("start")
    thresholds = list(next(iter(summary["starts"].values())))
    for threshold in thresholds:
        table.add_column(f"iterations to {threshold} Ry", justify="right")
        table.add_column("CPU s", justify="right")
        table.add_column("saved", justify="right")
    for name, found in summary["starts"].items():
        cells = [name]
        for threshold in thresholds:
            saving = summary["saved"].get(f"{name} against default", {}).get(threshold, {}).get("iterations")
            cells += [f"{found[threshold][quantity]['median']:g}" for quantity in QUANTITIES]
            cells.append("" if saving is None else f"{saving['median']:.0f} %")
        table.add_row(*cells)
    table.caption = f"medians of {summary['n_structures']} structures; saved: iterations against the default, in pairs"
    return table


def write_starts(path: Path, rows: Sequence[StructureStarts], thresholds: Sequence[float]) -> None:
    """A table with a line for each structure and start."""
    pairs = [(row, run) for row in rows for run in row.by_start().values()]
    columns: dict[str, list[Any]] = StructureRow.columns([row for row, _ in pairs])
    columns |= {"start": [run.start for _, run in pairs], "energy": [run.energy for _, run in pairs]}
    columns["counts"] = [row.is_comparable for row, _ in pairs]
    for threshold in thresholds:
        columns[f"iterations_{threshold:g}"] = [run.iterations(threshold) for _, run in pairs]
        columns[f"cpu_seconds_{threshold:g}"] = [_rounded(run.cpu_seconds(threshold)) for _, run in pairs]
    columns["preparation_seconds"] = [_rounded(run.preparation_seconds) for _, run in pairs]
    write_table(path, columns)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def starts_picture(rows: Sequence[StructureStarts], thresholds: Sequence[float], path: Path, *, title: str) -> None:
    """Iterations of every structure from each start, a panel for each threshold; bars are medians."""
    counted = [row for row in rows if row.is_comparable]
    names = [name for name in STARTS if name in counted[0].by_start()]
    figure = new_figure(4.2 * len(thresholds), 3.6)
    axes = np.atleast_1d(np.asarray(figure.subplots(1, len(thresholds))))
    shift = np.random.default_rng(0).uniform(-0.12, 0.12, len(counted))
    for axis, threshold in zip(axes, thresholds, strict=True):
        found = np.array([values(counted, name, "iterations", threshold) for name in names])  # (n_starts, n)
        positions = np.arange(len(names))
        for column, offset in zip(found.T, shift, strict=True):
            axis.plot(positions + offset, column, color=GREY, linewidth=0.4, alpha=0.4, zorder=1)
        for position, row in enumerate(found):
            colour = ORANGE if names[position].startswith("model") else BLUE
            axis.scatter(position + shift, row, s=12, color=colour, alpha=0.7, linewidths=0, zorder=2)
            axis.hlines(np.nanmedian(row), position - 0.3, position + 0.3, color="black", linewidth=1.6, zorder=3)
        axis.set_xticks(positions, [name.replace("_", "\n") for name in names])
        axis.set_ylim(bottom=0)
        axis.set_ylabel("self-consistency iterations")
        axis.set_title(f"to {threshold:g} Ry", fontsize=10)
    figure.suptitle(title, fontsize=10)
    save(figure, path)
