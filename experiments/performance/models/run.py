"""Training steps and predictions beside the arithmetic of the released code; medians of interleaved repeats.

    python experiments/performance/models/run.py [--store QM9_STORE] [--repeats 5] [--threads 1] [--output FOLDER]

Without a store (made by deepdft-convert), bundled molecules are measured, smaller ones than QM9's. Every repeat runs
all cases once, so that what else the machine does falls on all of them; still, let nothing else run: close browsers and
other jobs, wait until the load average is near zero, leave a laptop on its power supply. The clock is that of the wall;
with `--clock cpu` it is the time that the process ran, which another process on the same core disturbs less.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import cases
import parts
import torch
from memory import peak_above_start
from report import table

from deepdft import bundled, write_density
from deepdft.data.datamodule import DensityDataModule
from deepdft.data.store import DensityStore
from deepdft.io.compression import compress

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def medians(timed: dict[str, cases.Case], repeats: int, clock: str) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in timed}
    for case in timed.values():
        case()
    for _ in range(repeats):
        for name, case in timed.items():
            began = CLOCKS[clock]()
            case()
            times[name].append(CLOCKS[clock]() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def check(theirs: torch.Tensor, ours: torch.Tensor, name: str) -> float:
    """Largest difference as a share of the largest density."""
    error = ((theirs - ours).abs().max() / theirs.abs().max()).item()
    if error > 1e-5:
        raise SystemExit(f"{name}: the two forms differ by {error:.1e}")
    return error


def roofline(models: dict, batch, density, steps: dict, predictions: dict, clock) -> dict:
    """FLOPs counted in matrix products, and the rate they ran at as a share of a large product's."""
    peak, found = parts.matmul_peak(clock), {}
    for name, model in models.items():
        step = parts.flops(lambda model=model: model(*cases.graphs(model, batch)).sum().backward())
        points = cases.points_for(model, density)
        predict = parts.flops(cases.prediction(model, density, points))
        found[name] = {
            "GFLOP per training step": round(step / 1e9, 2),
            "share of peak, training": round(step / steps[name] / peak, 2),
            "kFLOP per point": round(predict / len(points) / 1e3, 1),
            "share of peak, prediction": round(predict / len(points) / predictions[name] / peak, 2),
        }
    return {"measured peak of a matrix product, GFLOP/s": round(peak / 1e9, 1), **found}


def main(options: argparse.Namespace, work: Path) -> None:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    store = DensityStore(options.store)
    data = DensityDataModule(store.root, pbc=False, num_workers=0)
    data.setup()
    density = cases.largest(store)
    points = cases.sample_of_planes(density)
    ours = {name: model() for name, model in cases.MODELS.items()}
    batches = cases.training_batches(store, data, 6)

    training, predicting, errors = {}, {}, {}
    for name, model in ours.items():
        training[name] = cases.train_step(model, itertools.cycle(batches))
        predicting[name] = cases.prediction(model, density, cases.points_for(model, density))
        if name in cases.FORMS:
            form, other = cases.FORMS[name], f"{name}: released form"
            training[other] = cases.train_step(model, itertools.cycle(batches), form)
            predicting[other] = cases.prediction(model, density, points, form)
            errors[name] = check(predicting[other](), predicting[name](), name)
    write_density(work / "sample.CHGCAR", density)
    content = compress((work / "sample.CHGCAR").read_bytes(), ".zz")
    loading = cases.reading(content, work, data, ours["schnet"])
    steps = medians(training | loading, options.repeats, options.clock)
    predictions = medians(predicting, options.repeats, options.clock)

    for name in predictions:  # seconds per point
        predictions[name] /= len(cases.points_for(ours[name], density) if name in ours else points)
    batch = batches[0][0]
    results = {
        "data": store.root.name,
        "molecule predicted": f"{density.atoms.get_chemical_formula()}, grid {list(density.shape)}, "
        f"{cases.N_PLANES} planes, {len(points)} points",
        "machine": f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}",
        "threads": options.threads,
        "repeats": options.repeats,
        "clock": options.clock,
        "median seconds per training step": {name: round(value, 4) for name, value in steps.items()},
        "points per second": {name: round(1 / value) for name, value in predictions.items()},
        "largest difference between the forms, of the largest density": errors,
        "times as fast as the released form": ratios(ours, steps, predictions),
        "seconds of a training step": {
            "all": parts.loading(data, options.repeats, CLOCKS[options.clock]),
            **{
                name: parts.training_parts(model, batch, options.repeats, CLOCKS[options.clock])
                for name, model in ours.items()
            },
        },
        "seconds of a prediction": {
            name: parts.prediction_parts(
                model, density, cases.points_for(model, density), options.repeats, CLOCKS[options.clock]
            )
            for name, model in ours.items()
        },
        "MB that a prediction adds": {
            f"{name}: {form}": round(peak_above_start(store.root, name, form), 1)
            for name in ours
            for form in ("ours", "released")
            if form == "ours" or name in cases.FORMS
        },
        "roofline": roofline(ours, batch, density, steps, predictions, CLOCKS[options.clock]),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (options.output / "results.md").write_text(table(results))
    print(table(results))


def ratios(models: dict, steps: dict[str, float], predictions: dict[str, float]) -> dict[str, dict[str, float]]:
    yardstick = {"schnet": "schnet_released", "orbital": "schnet_released"}
    found = {}
    for name in models:
        other = f"{yardstick.get(name, name)}: released form"
        found[name] = {
            "training step": round(steps[other] / steps[name], 2),
            "prediction": round(predictions[other] / predictions[name], 2),
        }
    loading = steps["read, sample, graph: released"] / steps["read, sample, graph"]
    return found | {"read, sample, graph": {"per step": round(loading, 1)}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=bundled.path("qm9_demo"), help="default: bundled molecules")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="default: beside this file")
    with tempfile.TemporaryDirectory() as folder:
        main(parser.parse_args(), Path(folder))
