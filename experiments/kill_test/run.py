"""Kill a short training at random moments, resume it each time, and compare it with an undisturbed one.

`make kill-test`, or `python experiments/kill_test/run.py --runs 100 --seed 1`. Each run is started and resumed with one
and the same command (resume=auto) until it is finished; its weights and its log must equal the undisturbed ones bit for
bit. Printed are the signals, the steps that a resume had to do again, and what differed.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import torch

SETTINGS = [
    "data=qm9_demo",
    "trainer=cpu",
    "model=schnet",
    "model.hidden_size=8",
    "model.n_interactions=2",
    "trainer.max_steps=300",
    "trainer.val_check_interval=60",
    "trainer.log_every_n_steps=20",
    "trainer.enable_progress_bar=false",
    "data.probes_per_structure=100",
    "data.validation_probes=500",
    "data.num_workers=1",
    "callbacks=ema",
    "callbacks.picture=null",
    "resume=auto",
]
SIGNALS = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
LOGGED = ("train/loss", "val/eps_mae", "val/rmse", "lr-Adam")


def start(folder: Path) -> subprocess.Popen[str]:
    """The command, in a process group of its own."""
    command = [sys.executable, "-m", "deepdft.cli.train", *SETTINGS, f"run_dir={folder}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)


def steps_logged(folder: Path) -> int:
    """The last step in the log."""
    with (folder / "metrics.csv").open() as file:
        return max((int(row["step"]) for row in csv.DictReader(file) if (row["step"] or "").isdecimal()), default=0)


def result(folder: Path) -> tuple[dict[str, torch.Tensor], list[list[str]]]:
    """The weights, raw and averaged, and the log without timings."""
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    parts = ("state_dict", "current_model_state")
    weights = {f"{part}.{name}": value for part in parts for name, value in content[part].items()}
    with (folder / "metrics.csv").open() as file:
        rows = [[row["step"], *(row.get(column) or "" for column in LOGGED)] for row in csv.DictReader(file)]
    return weights, sorted(row for row in rows if any(row[1:]))


def disturbed(folder: Path, seconds: float, draw: random.Random, count: Counter[str]) -> None:
    """Start a run, kill it, and start it again until it is finished."""
    while True:
        process = start(folder)
        which, to_group = draw.choice(SIGNALS), draw.random() < 0.5
        wait = draw.uniform(0.0, seconds) if draw.random() < 0.8 else None
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            (os.killpg if to_group else os.kill)(process.pid, which)
            count[f"{which.name}{' to the group' if to_group else ''}"] += 1
        output = process.communicate(timeout=600)[0]
        if (
            process.returncode not in (0, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)
            or "Traceback" in output
        ):
            sys.exit(f"{folder}: ended with status {process.returncode} and\n{output}")
        if process.returncode == 0:
            return
        if (folder / "metrics.csv").is_file():
            last = folder / "checkpoints" / "last.ckpt"
            kept = torch.load(last, weights_only=True)["global_step"] if last.is_file() else 0
            count[f"steps of the log done again after {which.name}"] += max(0, steps_logged(folder) - kept)


def main() -> None:
    """Print the table; the exit status is 1 if a run differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/kill_test"))
    options = parser.parse_args()
    folder = options.folder / time.strftime("%Y-%m-%d_%H-%M-%S")
    began = time.monotonic()
    whole = start(folder / "whole")
    if whole.wait(600):
        sys.exit(whole.communicate()[0])
    seconds = time.monotonic() - began
    weights, log = result(folder / "whole")

    draw, count, different = random.Random(options.seed), Counter[str](), 0
    for number in range(options.runs):
        disturbed(folder / str(number), 1.2 * seconds, draw, count)
        weights_now, log_now = result(folder / str(number))
        same_weights = all(torch.equal(weights[name], weights_now[name]) for name in weights)
        if not (same_weights and log == log_now):
            different += 1
            print(f"{folder / str(number)}: {'log' if same_weights else 'weights'} differ from {folder / 'whole'}")
    for what, how_often in sorted(count.items()):
        print(f"{how_often:5d}  {what}")
    print(f"{options.runs} runs of {seconds:.0f} s, seed {options.seed}: {different} differ")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
