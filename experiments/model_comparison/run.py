"""Compare models at equal wall-clock and at equal steps, on the same stores, one thread each.

    python experiments/model_comparison/run.py STORES PART [--minutes 8] [--work runs/model_comparison]

STORES holds the stores qm9_small, qm9_large, qm9, ec and nmc as deepdft-generate made them (README.md); PART is one of

    settings     a small sweep for SchNet and PaiNN on qm9_small, from which `models.py` takes the best
    sets         all models on all stores, at equal time; from twelve minutes or on a GPU with the settings of `long`
    equal_steps  after `sets`: the faster models again, for as many steps as the slowest had
    efficiency   after `sets`: 10, 20 and 40 of the 77 training molecules of qm9_small, as many steps as with all
    ablations    the orbital model with one thing changed, 1000 steps on qm9_small
    crystals     some of the same on nmc, 2000 steps
    long         all models on qm9_small again, meant for --minutes 60: half an hour of two cores
    bundled      the model that comes with the package: orbitals on `bundled`, four stores joined (README.md)

Steps per second of each model are measured first, so that its learning rate has decayed when the time is over. What is
done is not done again; several processes share a part, each run is made by one of them. `collect.py` makes the tables.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from models import (
    ABLATIONS,
    CRYSTAL_STEPS,
    CRYSTALS,
    LONG,
    LONG_FROM,
    MODELS,
    OF_SET,
    ORBITAL,
    SETS,
    SETTINGS,
)

PARTS = ("settings", "sets", "equal_steps", "efficiency", "ablations", "crystals", "long", "bundled")
CALIBRATION = 150  # steps
VALIDATIONS = 10
COMMON = [
    "callbacks=ema",
    "callbacks.picture=null",
    "trainer.enable_progress_bar=false",
]
DEVICES = {
    "cpu": ["trainer=cpu", "data.num_workers=0"],
    "gpu": ["trainer=gpu", "trainer.deterministic=false", "data.num_workers=8", "data.structures_per_step=32"],
}
EVALUATE_ON = {"cpu": "cpu", "gpu": "cuda"}


class Length(NamedTuple):
    """Length of a training: steps or minutes."""

    minutes: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Run:
    """One training and its evaluation on the test structures."""

    name: str
    store: Path
    overrides: Sequence[str]
    length: Length
    device: str = "cpu"

    def __call__(self, work: Path) -> None:
        """Train and evaluate, unless that has been done or another process is doing it."""
        folder = work / self.name
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not _claim(folder):
            print(f"{self.name}: done, or another process is at it", flush=True)
            return
        try:
            self._run(folder)
        except BaseException:  # Ctrl-C too: what was started is started again the next time
            shutil.rmtree(folder)
            raise

    def _run(self, folder: Path) -> None:
        rate = None if self.length.steps else self._rate(folder)
        steps = self.length.steps or max(200, round(rate * 60 * self.length.minutes))
        began, cpu = time.monotonic(), os.times()
        self._train(folder / "train", steps, max(1, steps // VALIDATIONS))
        seconds, cpu_seconds = time.monotonic() - began, os.times().children_user - cpu.children_user
        chosen = [
            f"checkpoint={folder / 'train'}",
            f"output={folder / 'test'}",
            f"device={EVALUATE_ON[self.device]}",
            "trusted=[exponents]",
        ]
        _command("evaluate", *chosen, *self._data())
        record = {
            "name": self.name,
            "store": self.store.name,
            "device": self.device,
            "overrides": list(self.overrides),
            "steps": steps,
            "seconds": round(seconds),
            "cpu_seconds": round(cpu_seconds),
            "steps_per_second_calibrated": rate,
        }
        (folder / "record.json").write_text(json.dumps(record, indent=1) + "\n")
        print(f"{self.name}: {steps} steps, {seconds:.0f} s", flush=True)

    def _data(self) -> list[str]:
        group, *more = SETS.get(self.store.name, ["qm9"])
        return [f"data={group}", f"data.root={self.store}", *more]

    def _train(self, run: Path, steps: int, every: int) -> None:
        limits = [f"trainer.max_steps={steps}", f"trainer.val_check_interval={every}"]
        mine = [part for part in self.overrides if part.startswith("data.")]
        others = [part for part in self.overrides if not part.startswith("data.")]
        where = DEVICES[self.device]
        _command("train", *others, *COMMON, *self._data(), *where, *mine, *limits, f"hydra.run.dir={run}")

    def _rate(self, folder: Path) -> float:
        """Training steps per second, without validations: the median of what a short run logs."""
        run = folder / "calibration"
        self._train(run, CALIBRATION, CALIBRATION)
        with (run / "metrics.csv").open() as file:
            rates = [row["throughput/steps_per_second"] for row in csv.DictReader(file)]
        return statistics.median(float(rate) for rate in rates if rate)


def _claim(folder: Path) -> bool:
    """Make the folder; False if another process has."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _command(name: str, *overrides: str) -> None:
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]  # for exponents.py
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-m", f"deepdft.cli.{name}", *overrides], check=True, env=environment)


def fewer(store: Path, count: int, work: Path) -> str:
    """A split file with only the first `count` training structures of a store's own split."""
    split = json.loads((store / "split.json").read_text())
    path = work / f"split_{count}.json"
    work.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(split | {"train": split["train"][:count]}))
    return str(path.resolve())


def runs(part: str, stores: Path, minutes: float, work: Path, device: str) -> list[Run]:
    small = stores / "qm9_small"
    on_small = {
        "settings": (SETTINGS, Length(minutes=minutes)),
        "ablations": (ABLATIONS, Length(steps=1000)),
        "long": (LONG, Length(minutes=minutes)),
    }
    if part in on_small:
        variants, length = on_small[part]
        return [Run(f"{part}/{key}", small, value, length) for key, value in variants.items()]
    if part == "crystals":
        length = Length(steps=CRYSTAL_STEPS)
        return [Run(f"crystals/{key}", stores / "nmc", value, length) for key, value in CRYSTALS.items()]
    if part == "bundled":
        return [Run("bundled/orbital", stores / "bundled", ORBITAL, Length(minutes=minutes))]
    if part == "efficiency":
        files = {model: work / f"sets/qm9_small-{model}" / "record.json" for model in MODELS}
        records = {model: json.loads(file.read_text()) for model, file in files.items() if file.is_file()}
        return [
            Run(
                f"efficiency/{model}-{count}",
                small,
                [*record["overrides"], f"data.split={fewer(small, count, work)}"],
                Length(steps=record["steps"]),
            )
            for model, record in records.items()
            for count in (10, 20, 40)
        ]
    found, models = [], LONG if minutes >= LONG_FROM or device == "gpu" else MODELS
    for name in SETS:
        if (stores / name / "index.json").is_file():
            found += [
                Run(f"sets/{name}-{key}", stores / name, value, Length(minutes=minutes))
                for key, value in (models | OF_SET.get(name, {})).items()
            ]
    return found


def equal_steps(stores: Path, work: Path) -> list[Run]:
    """Repeat the faster models of a store, where all models have run, for as many steps as the slowest had."""
    found = []
    for name in SETS:
        files = {key: work / f"sets/{name}-{key}" / "record.json" for key in MODELS}
        if not all(file.is_file() for file in files.values()):
            continue
        records = {key: json.loads(file.read_text()) for key, file in files.items()}
        fewest = min(record["steps"] for record in records.values())
        found += [
            Run(f"equal_steps/{name}-{key}", stores / name, record["overrides"], Length(steps=fewest))
            for key, record in records.items()
            if record["steps"] > fewest
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", type=Path)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--minutes", type=float, default=8.0, help="of training for each run")
    parser.add_argument("--work", type=Path, help="default: runs/model_comparison, or runs/model_comparison_gpu")
    parser.add_argument("--only", default="", help="runs whose names contain this")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="gpu: 32 structures a step instead of 2")
    options = parser.parse_args()
    stores = options.stores.resolve()
    options.work = options.work or Path("runs") / ("model_comparison" + ("_gpu" if options.device == "gpu" else ""))
    if options.part == "equal_steps":
        todo = equal_steps(stores, options.work)
    else:
        todo = runs(options.part, stores, options.minutes, options.work, options.device)
    for run in todo:
        if options.only in run.name:
            replace(run, device=options.device)(options.work)


if __name__ == "__main__":
    main()
