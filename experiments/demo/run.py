"""The demo: train on bundled molecules, evaluate held-out ones, predict one; print a table with the spread of DFT.

Run it as `make demo`. Further Hydra overrides go to the training:
`python experiments/demo/run.py trainer.max_steps=500`.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deepdft import bundled
from deepdft.data.datamodule import DensityDataModule
from deepdft.evaluation.errors import evaluate
from deepdft.models.superposition import Superposition

RUN = Path("runs/demo")
console = Console()


def command(name: str, *overrides: str) -> None:
    """Run one of the package's commands as a user would."""
    console.rule(f"[bold]{name} {' '.join(overrides)}")
    subprocess.run([sys.executable, "-m", f"deepdft.cli.{name.removeprefix('deepdft-')}", *overrides], check=True)


def baseline(data: DensityDataModule) -> float:
    """Mean ε_mae in % on the test molecules of a superposition of one radial function per element."""
    steps = len(data.split.train) // data.structures_per_step
    model = Superposition().fit(itertools.islice(data.train_dataloader(), steps))
    errors = [row.eps_mae for row in evaluate(model, data.store, data.split.test, pbc=data.pbc)]
    return sum(errors) / len(errors)


def main(overrides: list[str]) -> None:
    began = time.monotonic()
    if RUN.exists():
        shutil.rmtree(RUN)
    data = DensityDataModule(bundled.path("qm9_demo"), pbc=False, probes_per_structure=5000, num_workers=0)
    data.setup()
    store, split = data.store, data.split
    shown = split.test[0]

    command("deepdft-train", "experiment=demo", f"hydra.run.dir={RUN}/train", *overrides)
    command("deepdft-evaluate", f"checkpoint={RUN}/train", "data=qm9_demo", f"hydra.run.dir={RUN}/evaluate")
    command(
        *("deepdft-evaluate", "evaluation=xc_ensemble", "data=qm9_demo_xc"),
        *(f"checkpoint={RUN}/train", f"hydra.run.dir={RUN}/spread"),
    )
    store.atoms(shown).write(RUN / "molecule.xyz", plain=True)
    molecule = [f"structure={RUN}/molecule.xyz", f"output={RUN}/molecule.cube"]
    command("deepdft-predict", f"checkpoint={RUN}/train", *molecule)

    summary, spread = (json.loads((RUN / name / "summary.json").read_text()) for name in ("evaluate", "spread"))
    table = Table(title=f"Error of the density on {len(split.test)} molecules the model has not seen")
    table.add_column("prediction")
    table.add_column("ε_mae, mean", justify="right")
    table.add_row("nothing (zero everywhere)", "100.0 %")
    table.add_row("one radial function per element, fitted", f"{baseline(data):.1f} %")
    table.add_row(f"learned orbitals ({len(split.train)} molecules)", f"{summary['eps_mae']['mean']:.1f} %")
    table.add_section()
    table.add_row(
        f"DFT itself: ε_mad of {len(spread['functionals'])} functionals, {spread['n_structures']} molecules",
        f"{spread['eps_mad']['mean']:.1f} %",
    )
    table.add_row("the learned orbitals on these", f"{spread['eps_mae']['mean']:.1f} %")
    console.print(table)
    console.print(f"Learning curve   {RUN}/train/metrics.csv")
    console.print(f"Errors           {RUN}/evaluate/errors.csv, {RUN}/evaluate/histogram.png")
    console.print(f"Beside DFT       {RUN}/spread/errors.csv, {RUN}/spread/histogram.png")
    console.print(f"Density of {store.formulas[shown]}  {RUN}/molecule.cube, {RUN}/molecule.png")
    console.print(f"All in {(time.monotonic() - began) / 60:.1f} minutes.")


if __name__ == "__main__":
    main(sys.argv[1:])
