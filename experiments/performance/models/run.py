"""Training steps and predictions beside the arithmetic of the released code; medians of interleaved repeats.

    python experiments/performance/models/run.py [--store QM9_STORE] [--repeats 5]

Without a store (made by deepdft-convert), bundled molecules are measured, smaller ones than QM9's. Every repeat runs
all cases once, so that what else the machine does falls on all of them; still, let nothing else run. Results go beside
this file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import released_form
import torch

from deepdft import bundled, write_density
from deepdft.data.datamodule import DensityDataModule
from deepdft.data.store import DensityStore
from deepdft.density import DensityGrid
from deepdft.graph.batch import Batch
from deepdft.graph.neighbors import atom_graph, probe_graph
from deepdft.io.compression import compress
from deepdft.models.base import DensityModel
from deepdft.models.orbital import Orbital
from deepdft.models.painn import PaiNN
from deepdft.models.query import EncodedStructure
from deepdft.models.schnet import SchNet
from deepdft.models.schnet_released import SchNetReleased

HERE = Path(__file__).parent
N_POINTS = 20_000  # of a full grid that is predicted, from its middle half
Case = Callable[[], object]


def train_step(model: DensityModel, batches: itertools.cycle, form: Callable | None = None) -> Case:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)

    def step() -> None:
        batch, padded, targets = next(batches)
        if form is None:
            predicted, targets = model(*graphs(model, batch)), batch.targets
        else:
            predicted = form(model, padded)
        loss = (predicted - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def graphs(model: DensityModel, batch: Batch) -> tuple:
    atoms = atom_graph(batch.structures, model.cutoff)
    return atoms, probe_graph(batch.structures, batch.probe_positions, batch.probe_structure, model.cutoff)


def training_batches(store: DensityStore, data: DensityDataModule, count: int) -> list[tuple]:
    """The same structures in our form and in the released one (its own random points)."""
    found = []
    for number, batch in enumerate(itertools.islice(data.train_dataloader(), count)):
        pairs = [data.split.train[(2 * number + k) % len(data.split.train)] for k in (0, 1)]
        samples = [released_form.sample(d.atoms, d.values, 1000, 4.0) for d in map(store.density, pairs)]
        found.append((batch, released_form.collate([s[0] for s in samples]), torch.stack([s[1] for s in samples])))
    return found


def prediction(model: DensityModel, density: DensityGrid, form: Callable | None = None) -> Case:
    middle = len(density.values.ravel()) // 2
    points = density.points(slice(middle - N_POINTS // 2, middle + N_POINTS // 2))

    @torch.no_grad()
    def predict() -> torch.Tensor:
        if form is None:
            return torch.from_numpy(EncodedStructure(model, density.atoms, pbc=False).density(points))
        parts = []  # atoms are encoded for each of its slices here; the released script does it once
        for start in range(0, N_POINTS, 5000):
            graph = released_form.graph(density.atoms, points[start : start + 5000], model.cutoff)
            parts.append(form(model, released_form.collate([graph]))[0])
        return torch.cat(parts)

    return predict


def reading(content: bytes, folder: Path, data: DensityDataModule, model: DensityModel) -> dict[str, Case]:
    stream = iter(data.train_dataloader())

    def theirs() -> None:
        samples = []
        for _ in range(2):
            atoms, density = released_form.read_sample(content, str(folder / "CHGCAR"))
            samples.append(released_form.sample(atoms, density, 1000, 4.0)[0])
        released_form.collate(samples)

    return {"read, sample, graph: released": theirs, "read, sample, graph": lambda: graphs(model, next(stream))}


def medians(cases: dict[str, Case], repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in cases}
    for case in cases.values():
        case()
    for _ in range(repeats):
        for name, case in cases.items():
            began = time.perf_counter()
            case()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def check(theirs: torch.Tensor, ours: torch.Tensor, name: str) -> float:
    """Largest difference as a share of the largest density."""
    error = ((theirs - ours).abs().max() / theirs.abs().max()).item()
    if error > 1e-5:
        raise SystemExit(f"{name}: the two forms differ by {error:.1e}")
    return error


def main(store: DensityStore, repeats: int, work: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = DensityDataModule(store.root, pbc=False, num_workers=0)
    data.setup()
    density = max(map(store.density, data.split.train[:12]), key=lambda density: len(density.atoms))
    ours = {"schnet": SchNet(), "schnet_released": SchNetReleased(), "painn": PaiNN(), "orbital": Orbital()}
    forms = {"schnet_released": released_form.schnet, "painn": released_form.painn}
    batches = training_batches(store, data, 6)

    training, predicting, errors = {}, {}, {}
    for name, model in ours.items():
        training[name] = train_step(model, itertools.cycle(batches))
        predicting[name] = prediction(model, density)
        if name in forms:
            training[f"{name}: released form"] = train_step(model, itertools.cycle(batches), forms[name])
            predicting[f"{name}: released form"] = prediction(model, density, forms[name])
            errors[name] = check(predicting[f"{name}: released form"](), predicting[name](), name)
    write_density(work / "sample.CHGCAR", density)
    content = compress((work / "sample.CHGCAR").read_bytes(), ".zz")
    steps = medians(training | reading(content, work, data, ours["schnet"]), repeats)
    predictions = medians(predicting, repeats)

    yardstick = {"schnet": "schnet_released", "orbital": "schnet_released"}
    ratios = {}
    for name in ours:
        other = f"{yardstick.get(name, name)}: released form"
        ratios[name] = {
            "training step": round(steps[other] / steps[name], 2),
            "prediction": round(predictions[other] / predictions[name], 2),
        }
    ratios["read, sample, graph"] = {
        "per step": round(steps["read, sample, graph: released"] / steps["read, sample, graph"], 1)
    }
    results = {
        "data": store.root.name,
        "molecule predicted": f"{density.atoms.get_chemical_formula()}, grid {list(density.shape)}",
        "machine": f"{platform.machine()}, one thread, Python {platform.python_version()}, torch {torch.__version__}",
        "repeats": repeats,
        "median seconds per training step": {name: round(value, 4) for name, value in steps.items()},
        "points per second": {name: round(N_POINTS / value) for name, value in predictions.items()},
        "largest difference between the forms, of the largest density": errors,
        "times as fast as the released form": ratios,
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (HERE / "results.md").write_text(table(results))
    print(table(results))


def table(results: dict) -> str:
    rows = ["| | training step, s | prediction, points/s | × released, training | × released, prediction |"]
    rows.append("|---|---|---|---|---|")
    steps, points = results["median seconds per training step"], results["points per second"]
    for name in points:
        ratio = results["times as fast as the released form"].get(name, {})
        cells = [steps[name], points[name], ratio.get("training step", ""), ratio.get("prediction", "")]
        rows.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    loading = ("read, sample, graph: released", "read, sample, graph")
    rows.extend(f"| {name} | {steps[name]} | | | |" for name in loading)
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=bundled.path("qm9_demo"), help="default: bundled molecules")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        main(DensityStore(options.store), options.repeats, Path(folder))
