"""Learning curves over seconds of runs on a GPU: curves.csv and learning.png from the metrics.csv of each run.

    python experiments/model_comparison/gpu/plot.py WORK     # what run.py … --device gpu --work WORK left

A run that was cut off counts as far as it came. Seconds come from the steps per second that it logged.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib.pyplot as plt

HERE = Path(__file__).parent
EVERY = 50  # steps between two logged rates


def curve(metrics: Path) -> list[tuple[float, int, float]]:
    """Seconds, step and ε_mae in % of each validation."""
    with metrics.open() as file:
        rows = list(csv.DictReader(file))
    seconds, found = 0.0, []
    for row in rows:
        if row["throughput/steps_per_second"]:
            seconds += EVERY / float(row["throughput/steps_per_second"])
        if row["val/eps_mae"]:
            found.append((seconds, int(row["step"]) + 1, float(row["val/eps_mae"])))
    return found


def name(metrics: Path) -> str:
    """Of a run: the store and the model."""
    part, run = metrics.parts[-4:-2]
    return run if part == "sets" else f"{part}-{run}"


def main(work: Path) -> None:
    curves = {name(file): curve(file) for file in sorted(work.glob("*/*/train/metrics.csv"))}
    with (HERE / "curves.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "seconds", "step", "validation eps_mae in %"])
        writer.writerows([run, round(s), step, round(e, 3)] for run, points in curves.items() for s, step, e in points)
    stores = sorted({run.rsplit("-", 1)[0] for run in curves})
    figure, axes = plt.subplots(1, len(stores), figsize=(5.5 * len(stores), 4), layout="constrained", squeeze=False)
    for store, axis in zip(stores, axes[0], strict=True):
        for run, points in curves.items():
            if run.rsplit("-", 1)[0] == store:
                axis.plot([s for s, _, _ in points], [e for _, _, e in points], marker="o", label=run.split("-")[-1])
        axis.set(title=store, xlabel="seconds of training", ylabel="ε_mae of validation, %", yscale="log")
        axis.legend()
        axis.grid(alpha=0.3, which="both")
    figure.savefig(HERE / "learning.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
