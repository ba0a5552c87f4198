"""Peak memory of a prediction, in a process of its own.

python memory.py STORE MODEL ours|released
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cases
import torch

from deepdft.data.store import DensityStore


def peak_above_start(store: Path, model: str, form: str) -> float:
    """MB by which a fresh process grows in a prediction, over what it has with the model and the grid loaded."""
    command = [sys.executable, __file__, str(store), model, form]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def peak_kb() -> int:
    """Peak memory of this process on Linux since `forget_peak`; `ru_maxrss` would start at the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def forget_peak() -> None:
    """Reset the peak to the present memory."""
    Path("/proc/self/clear_refs").write_text("5")


def main(store: Path, name: str, form: str) -> None:
    torch.set_num_threads(1)
    density = cases.largest(DensityStore(store))
    model = cases.MODELS[name]()
    points = cases.points_for(model, density) if form == "ours" else cases.sample_of_planes(density)
    forget_peak()
    before = peak_kb()
    cases.prediction(model, density, points, cases.FORMS[name] if form == "released" else None)()
    print((peak_kb() - before) / 1024)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
