"""Training steps and predictions on a GPU beside the arithmetic of the released code, and what they need.

    python experiments/performance/gpu/run.py [--store QM9_STORE] [--repeats 7] [--output FOLDER]

Every time is the median of steps of which each ends with a synchronisation; the structures are on the GPU, edges are
searched there with the clock running (the released form's are searched before, on the CPU).
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from ase.build import make_supercell

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import cases
import parts
import released_form

from deepdft import bundled
from deepdft.checkpoint import load_checkpoint
from deepdft.data.datamodule import DensityDataModule
from deepdft.data.store import DensityStore
from deepdft.density import DensityGrid
from deepdft.graph.batch import Batch, Structures
from deepdft.inference.box import make_box
from deepdft.inference.encoded import EncodedStructure
from deepdft.models.base import DensityModel

SIZES = (2, 8, 32, 64)  # structures of 1000 probes in a step
PRECISIONS = ("32-true", "32-true, TF32 products", "bf16-mixed")
PLANES_AT_A_TIME = 5000  # points, as the released script has them


def clock() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def median(work: Callable[[], object], repeats: int) -> float:
    for _ in range(2):  # more than on the CPU: kernels are loaded, some are compiled
        work()
    return parts.median_seconds(work, repeats, clock)


def batches(root: Path, size: int, count: int) -> list[Batch]:
    data = DensityDataModule(root, pbc=False, num_workers=0, structures_per_step=size)
    data.setup()
    return [batch.to("cuda") for batch in itertools.islice(data.train_dataloader(), count)]


def fresh(structures: Structures) -> Structures:
    """A copy without cached neighbours, as every training step gets."""
    return structures.to_dtype(torch.float32)


def step(model: DensityModel, given: list[Batch], precision: str = "32-true") -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)
    stream = itertools.cycle(given)

    def run() -> None:
        batch = next(stream)
        half = torch.autocast("cuda", dtype=torch.bfloat16) if precision == "bf16-mixed" else nullcontext()
        with half:
            batch = Batch(fresh(batch.structures), batch.probe_positions, batch.probe_structure, batch.targets)
            loss = (model(*cases.graphs(model, batch)) - batch.targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def released_step(model: DensityModel, store: DensityStore, size: int, form: Callable) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)
    drawn = [released_form.sample(d.atoms, d.values, 1000, 4.0) for d in map(store.density, range(min(size, 8)))]
    samples = [drawn[k % len(drawn)] for k in range(size)]
    padded = released_form.collate([s[0] for s in samples]).to("cuda")
    targets = torch.stack([s[1] for s in samples]).cuda()

    def run() -> None:
        loss = (form(model, padded) - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def released_prediction(model: DensityModel, density, points: np.ndarray, form: Callable) -> Callable[[], object]:
    graphs = [
        released_form.collate([released_form.graph(density.atoms, points[start : start + PLANES_AT_A_TIME], 4.0)])
        for start in range(0, len(points), PLANES_AT_A_TIME)
    ]

    @torch.no_grad()
    def run() -> torch.Tensor:
        return torch.cat([form(model, graph.to("cuda"))[0] for graph in graphs]).cpu()

    return run


def decoding(encoded: EncodedStructure, grid) -> Callable[[], np.ndarray]:
    def run() -> np.ndarray:
        chunks = encoded.chunks(int(np.prod(grid.shape)))
        return np.concatenate([encoded.density_on_grid(grid.grid, chunk) for chunk in chunks])

    return run


def prediction(model: DensityModel, atoms, grid) -> Callable[[], np.ndarray]:
    def run() -> np.ndarray:
        encoded = EncodedStructure(model, atoms, pbc=False)
        return decoding(encoded, grid)()

    return run


def peaks() -> dict[str, float]:
    """FLOP/s of a product of two square matrices of 8192."""
    a, b = torch.randn(2, 8192, 8192, device="cuda")
    found = {}
    for name in PRECISIONS:
        torch.set_float32_matmul_precision("high" if "TF32" in name else "highest")
        c, d = (a.bfloat16(), b.bfloat16()) if name == "bf16-mixed" else (a, b)
        found[name] = 2 * 8192**3 / median(lambda c=c, d=d: c @ d, 5)
    torch.set_float32_matmul_precision("highest")
    return found


def memory(work: Callable[[], object]) -> float:
    """Peak memory in GB."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated() / 1e9


def largest_batch(model: DensityModel, root: Path, given: Batch) -> dict[str, float]:
    """The largest power of two of structures that a step can hold, found by doubling."""
    size, found = 64, {}
    joined = given
    while size < 10_000:
        joined, size = _twice(joined), 2 * size
        try:
            found = {"structures": size, "GB": round(memory(step(model, [joined])), 1)}
            found["structures per second"] = round(size / median(step(model, [joined]), 2))
        except torch.OutOfMemoryError:
            break
    torch.cuda.empty_cache()
    return found


def _twice(batch: Batch) -> Batch:
    s, n = batch.structures, batch.structures.n_structures
    structures = Structures(
        torch.cat([s.numbers] * 2),
        torch.cat([s.positions] * 2),
        torch.cat([s.structure, s.structure + n]),
        torch.cat([s.cells] * 2),
        torch.cat([s.pbc] * 2),
    )
    which = torch.cat([batch.probe_structure, batch.probe_structure + n])
    return Batch(structures, torch.cat([batch.probe_positions] * 2), which, torch.cat([batch.targets] * 2))


def trained(name: str) -> DensityModel:
    """A model with random weights, or for `orbital` the bundled ones, as random orbitals cancel one another."""
    return load_checkpoint(bundled.MODEL).model.train() if name == "orbital" else cases.MODELS[name]()


def measure(
    name: str, root: Path, given: dict[int, list[Batch]], peak: dict[str, float], repeats: int, only_predictions: bool
) -> dict:
    store = DensityStore(root)
    model = trained(name).cuda()
    density = cases.largest(store)
    found = predictions(model, density)
    return found if only_predictions else found | training_steps(name, model, root, given, peak, repeats)


def training_steps(
    name: str,
    model: DensityModel,
    root: Path,
    given: dict[int, list[Batch]],
    peak: dict[str, float],
    repeats: int,
) -> dict:
    found: dict = {}
    ours = {size: median(step(model, given[size]), repeats) for size in SIZES}
    found["structures per second"] = {str(size): round(size / seconds) for size, seconds in ours.items()}
    found["steps per second"] = {str(size): round(1 / seconds, 1) for size, seconds in ours.items()}
    rates = {}
    for precision in PRECISIONS:
        torch.set_float32_matmul_precision("high" if "TF32" in precision else "highest")
        rates[precision] = round(1 / median(step(model, given[32], precision), repeats), 1)
    torch.set_float32_matmul_precision("highest")
    found["steps per second of 32 structures by precision"] = rates
    batch = given[32][0]
    found["seconds of a step of 32 structures"] = parts.training_parts(model, batch, repeats, clock)
    flops = parts.flops(lambda: model(*cases.graphs(model, batch)).sum().backward())
    found["share of peak, step of 32 structures"] = round(flops / ours[32] / peak["32-true"], 4)
    found["GB of a step of 32 structures"] = round(memory(step(model, given[32])), 2)

    if name in cases.FORMS:
        form, store = cases.FORMS[name], DensityStore(root)
        density = cases.largest(store)
        theirs = {size: median(released_step(model, store, size, form), repeats) for size in SIZES}
        sample = cases.sample_of_planes(density)
        predicted = released_prediction(model, density, sample, form)
        found["released form"] = {
            "structures per second": {str(size): round(size / value) for size, value in theirs.items()},
            "points per second": round(len(sample) / median(predicted, 3)),
            "GB of a step of 32 structures": round(memory(released_step(model, store, 32, form)), 2),
        }
        ours_there = EncodedStructure(model, density.atoms, pbc=False).density(sample)
        found["released form"]["largest difference"] = float(
            np.abs(predicted().numpy() - ours_there).max() / np.abs(ours_there).max()
        )
    found["largest batch"] = largest_batch(model, root, given[64][0])
    return found


def predictions(model: DensityModel, density: DensityGrid) -> dict:
    found: dict = {}
    fine = make_box(density.atoms, spacing=0.1)
    for grid in (density, fine):
        encoded = EncodedStructure(model, density.atoms, pbc=False)
        whole = prediction(model, density.atoms, grid)
        n_points, of_points = int(np.prod(grid.shape)), decoding(encoded, grid)
        rates = {"with encoding": whole, "encoded before": of_points}
        found[f"points per second, grid {list(grid.shape)}"] = {
            key: round(n_points / median(work, 3)) for key, work in rates.items()
        }
    found["GB of a prediction"] = round(memory(whole), 2)
    found["seconds to encode"] = median(lambda: EncodedStructure(model, density.atoms, pbc=False), 3)
    encoded = EncodedStructure(model, density.atoms, pbc=False)  # steps have changed the weights
    reference = EncodedStructure(copy.deepcopy(model).double().cpu(), density.atoms, pbc=False)
    points = density.points(slice(density.values.size // 2, density.values.size // 2 + 20_000))
    exact = reference.density(points)
    found["largest error against double precision, of the largest density"] = float(
        np.abs(encoded.density(points) - exact).max() / np.abs(exact).max()
    )
    return found


def large(name: str, root: Path) -> dict:
    """Whole grids of boxes of a liquid, repeated: points per second with the atoms encoded and all copied back."""
    store = DensityStore(root)
    model = trained(name).cuda()
    found = {}
    torch.cuda.reset_peak_memory_stats()
    for times, spacing in ((3, 0.15), (6, 0.25), (14, 0.4)):
        atoms = make_supercell(store.atoms(0), np.eye(3, dtype=int) * times)
        box = make_box(atoms, spacing=spacing)
        began = clock()
        encoded = EncodedStructure(model, atoms, pbc=True)
        ready = clock()
        for chunk in encoded.chunks(box.n_points):
            encoded.density_on_grid(box, chunk)
        seconds = clock() - ready
        found[f"{len(atoms)} atoms, {box.n_points} points"] = {
            "spacing in Å": spacing,
            "seconds to encode": round(ready - began, 3),
            "points per second": round(box.n_points / seconds),
            "GB": round(torch.cuda.max_memory_allocated() / 1e9, 2),
        }
        torch.cuda.reset_peak_memory_stats()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=bundled.path("qm9_demo"), help="default: bundled molecules")
    parser.add_argument("--liquid", type=Path, help="a store of liquid boxes")
    parser.add_argument("--models", default="orbital,schnet,schnet_released,painn")
    parser.add_argument("--predictions", action="store_true", help="only these, without training steps")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path("runs/performance_gpu"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    peak = peaks()
    results = {
        "machine": f"{torch.cuda.get_device_name()}, torch {torch.__version__}",
        "data": options.store.name,
        "peak of a matrix product, TFLOP/s": {name: round(value / 1e12, 1) for name, value in peak.items()},
        "repeats": options.repeats,
    }
    given = {} if options.predictions else {size: batches(options.store, size, 3) for size in SIZES}
    for name in options.models.split(","):
        results[name] = measure(name, options.store, given, peak, options.repeats, options.predictions)
        print(name, json.dumps(results[name]), flush=True)
        (options.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    if options.liquid:
        results["orbital, large boxes of a liquid"] = large("orbital", options.liquid)
        print(json.dumps(results["orbital, large boxes of a liquid"]), flush=True)
    (options.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
