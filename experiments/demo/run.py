"""The demo: train on the bundled molecules, evaluate the held-out ones, predict one; then a short table.

Run it as `make demo`; further Hydra overrides go to the training: `python experiments/demo/run.py trainer.max_steps=500`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deepdft import bundled
from deepdft.data.splits import load_split
from deepdft.data.store import DensityStore
from deepdft.evaluation.errors import density_errors
from deepdft.models.superposition import fit_superposition

RUN = Path("runs/demo")
console = Console()


def command(name: str, *overrides: str) -> None:
    """Run one of the package's commands as a user would."""
    console.rule(f"[bold]{name} {' '.join(overrides)}")
    subprocess.run([sys.executable, "-m", f"deepdft.cli.{name.removeprefix('deepdft-')}", *overrides], check=True)


def baseline(store: DensityStore, train: list[int], test: list[int]) -> float:
    """ε_mae in % on the test molecules of a superposition of one radial function per element."""
    model = fit_superposition(store, train, pbc=False)
    errors = [density_errors(model, store, i, pbc=False).eps_mae for i in test]
    return sum(errors) / len(errors)


def main(overrides: list[str]) -> None:
    began = time.monotonic()
    if RUN.exists():
        shutil.rmtree(RUN)
    store = DensityStore(bundled.path("qm9_demo"))
    split = load_split(None, store)
    name = store.names[split.test[0]]

    command("deepdft-train", "experiment=demo", f"hydra.run.dir={RUN}/train", *overrides)
    command("deepdft-evaluate", f"checkpoint={RUN}/train", "data=qm9_demo", f"hydra.run.dir={RUN}/evaluate")
    store.atoms(split.test[0]).write(RUN / "molecule.xyz", plain=True)
    command("deepdft-predict", f"checkpoint={RUN}/train", f"structure={RUN}/molecule.xyz", f"output={RUN}/molecule.cube")

    summary = json.loads((RUN / "evaluate/summary.json").read_text())
    table = Table(title=f"Error of the density on {len(split.test)} molecules the model has not seen")
    table.add_column("prediction")
    table.add_column("ε_mae, mean", justify="right")
    table.add_row("nothing (zero everywhere)", "100.0 %")
    table.add_row("one radial function per element, fitted", f"{baseline(store, split.train, split.test):.1f} %")
    table.add_row(f"message passing network ({len(split.train)} molecules)", f"{summary['eps_mae']['mean']:.1f} %")
    console.print(table)
    console.print(f"Learning curve   {RUN}/train/metrics.csv")
    console.print(f"Errors           {RUN}/evaluate/errors.csv, {RUN}/evaluate/histogram.png")
    console.print(f"Density of {name}  {RUN}/molecule.cube, {RUN}/molecule.png")
    console.print(f"All in {(time.monotonic() - began) / 60:.1f} minutes.")


if __name__ == "__main__":
    main(sys.argv[1:])
