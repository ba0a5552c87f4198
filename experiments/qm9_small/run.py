"""Train SchNet on 77 small QM9 molecules, evaluate 10 held-out ones, draw the learning curve.

    python experiments/qm9_small/run.py SOURCE.tar SPLIT.json [WORK_FOLDER]

Converts the source if that has not been done, trains (an interrupted run is resumed), evaluates, and writes the results
beside this file.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

from deepdft.plotting import learning_curves, save

HERE = Path(__file__).parent
TRAINING = [
    "experiment=demo_schnet",
    "data.split=null",
    "trainer.max_steps=20000",
    "trainer.max_time=null",
    "trainer.val_check_interval=1000",
]


def command(name: str, *overrides: str) -> None:
    subprocess.run([sys.executable, "-m", f"deepdft.cli.{name}", *overrides], check=True)


def validation_errors(run: Path) -> tuple[list[int], list[float]]:
    with (run / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/eps_mae"]]
    return [int(row["step"]) + 1 for row in rows], [float(row["val/eps_mae"]) for row in rows]


def main(source: str, split: str, work: Path) -> None:
    store, run, evaluation = work / "store", work / "train", work / "evaluate"
    command("convert", f"source={source}", f"split={split}", f"output={store}")
    if (run / "config.yaml").is_file():
        command("train", f"resume={run}")
    else:
        command("train", *TRAINING, f"data.root={store}", f"hydra.run.dir={run}")
    command("evaluate", f"checkpoint={run}", f"data.root={store}", f"output={evaluation}")

    for name in ("errors.csv", "summary.json", "histogram.png", "worst.png"):
        shutil.copy(evaluation / name, HERE / name)
    training = json.loads((run / "summary.json").read_text()) | {"overrides": TRAINING}
    (HERE / "training.json").write_text(json.dumps(training, indent=2) + "\n")
    steps, errors = validation_errors(run)
    save(learning_curves({"SchNet, 10 validation molecules": (steps, errors)}), HERE / "learning_curve.png")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3] if len(sys.argv) == 4 else "runs/qm9_small"))
