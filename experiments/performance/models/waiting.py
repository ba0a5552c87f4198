"""How long a training of SchNet waits for its batches, without loader processes and with two.

    python experiments/performance/models/waiting.py --store QM9_STORE [--steps 60]

One thread; medians over steps without the first. Writes waiting.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections import deque
from pathlib import Path

import cases
import torch

from deepdft.data.datamodule import DensityDataModule


def waits(store: Path, num_workers: int, steps: int) -> dict[str, float]:
    """Seconds of a step (edges included), of waiting before it, and of its edges, searched once more."""
    torch.manual_seed(0)
    data = DensityDataModule(store, pbc=False, num_workers=num_workers)
    data.setup()
    model, current = cases.MODELS["schnet"](), deque(maxlen=1)
    step = cases.train_step(model, (current[0] for _ in itertools.count()))
    found: dict[str, list[float]] = {"waiting": [], "step": [], "edges": []}
    for began, batch in zip(iter(time.perf_counter, None), data.train_dataloader(), strict=False):
        came = time.perf_counter()
        current.append((batch, None, None))
        step()
        done = time.perf_counter()
        cases.graphs(model, batch)
        found["edges"].append(time.perf_counter() - done)
        found["waiting"].append(came - began)
        found["step"].append(done - began)
        if len(found["step"]) == steps:
            break
    medians = {name: statistics.median(values[1:]) for name, values in found.items()}
    shares = {f"{name}, share of a step": medians[name] / medians["step"] for name in ("waiting", "edges")}
    return {name: round(value, 5) for name, value in (medians | shares).items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {f"{n} workers": waits(options.store, n, options.steps) for n in (0, 2)}
    Path(__file__).with_name("waiting.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))
