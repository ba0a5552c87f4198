"""Which settings of the orbital model matter: one at a time, 1000 steps each, on small molecules.

    python experiments/orbital_settings/run.py STORE [WORK_FOLDER]

STORE is qm9_small.tar converted by deepdft-convert. Runs go one after the other; finished ones are not repeated.
Writes results.csv beside this file, the lowest error on the test molecules first.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
COMMON = [
    "experiment=qm9_small_orbital",
    "trainer.max_steps=1000",
    "trainer.val_check_interval=1000",
    "trainer.enable_progress_bar=false",
    "callbacks.picture=null",
    "data.num_workers=0",
]
CHANGES = [
    "",
    "seed=1",
    "optimizer.lr=1e-3",
    "optimizer.lr=5e-3",
    "trainer.gradient_clip_val=0.05",
    "loss=mse",
    "data.importance_fraction=0",
    "data.importance_fraction=0.8",
    "data.structures_per_step=4 data.probes_per_structure=500",
    "model.cutoff=4",
    "model.l_max=2",
    "model.l_max=4",
    "model.n_orbitals=24",
    "model.n_orbitals=96",
    "model.n_radial=8 model.largest_exponent=40",
    "model.hidden_size=32",
    "model.hidden_size=128",
    "model.n_interactions=2",
    "model.n_interactions=4",
    "model.residual=false",
]


def one(change: str, store: Path, run: Path) -> dict[str, object]:
    """Train and evaluate with one change; seconds are CPU time, as others may use the machine too."""
    record = run / "record.json"
    if record.is_file():
        return json.loads(record.read_text())
    began = os.times()
    data = f"data.root={store}"
    command("train", *COMMON, data, *change.split(), f"hydra.run.dir={run}")
    trained = os.times()
    command("evaluate", f"checkpoint={run}", "data=qm9_demo", data, f"output={run / 'evaluation'}")
    validation = json.loads((run / "summary.json").read_text())
    test = json.loads((run / "evaluation" / "summary.json").read_text())
    row = {
        "change": change or "none",
        "test": round(test["eps_mae"]["mean"], 3),
        "test_max": round(test["eps_mae"]["max"], 3),
        "validation": round(validation["val/eps_mae"], 3),
        "parameters": json.loads((run / "run.json").read_text())["n_parameters"],
        "cpu_seconds": round(trained.children_user - began.children_user),
    }
    record.write_text(json.dumps(row))
    return row


def command(name: str, *overrides: str) -> None:
    subprocess.run([sys.executable, "-m", f"deepdft.cli.{name}", *overrides], check=True)


def main(store: Path, work: Path) -> None:
    rows = []
    for number, change in enumerate(CHANGES):
        began = time.monotonic()
        rows.append(one(change, store, work / f"{number:02d}"))
        print(rows[-1], f"{time.monotonic() - began:.0f} s", flush=True)
        with (HERE / "results.csv").open("w", newline="") as lines:
            writer = csv.DictWriter(lines, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(sorted(rows, key=lambda row: row["test"]))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) == 3 else "runs/orbital_settings"))
