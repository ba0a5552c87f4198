"""The time of each part of a training step and of a prediction, and the share of the machine's peak."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from deepdft.data.datamodule import DensityDataModule
from deepdft.density import DensityGrid
from deepdft.graph.batch import Batch
from deepdft.graph.neighbors import atom_graph, probe_graph
from deepdft.inference.encoded import EncodedStructure
from deepdft.models.base import DensityModel

Clock = Callable[[], float]


def median_seconds(part: Callable[[], object], repeats: int, clock: Clock) -> float:
    part()
    times = []
    for _ in range(repeats):
        began = clock()
        part()
        times.append(clock() - began)
    return statistics.median(times)


def matmul_peak(clock: Clock, repeats: int = 9) -> float:
    """FLOP/s of a product of two square matrices of 1024, on the threads torch has."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return 2 * 1024**3 / median_seconds(lambda: a @ b, repeats, clock)


def loading(data: DensityDataModule, repeats: int, clock: Clock) -> dict[str, float]:
    """Seconds to read and sample the structures of one step."""
    stream = iter(data.train_dataloader())
    return {"read and sample": median_seconds(lambda: next(stream), repeats, clock)}


def training_parts(model: DensityModel, batch: Batch, repeats: int, clock: Clock) -> dict[str, float]:
    """Median seconds of each part of one step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0, fused=True)
    steps: list[list[float]] = []
    for _ in range(repeats + 1):
        optimizer.zero_grad()
        marks = [clock()]
        atoms = atom_graph(batch.structures, model.cutoff)
        probes = probe_graph(batch.structures, batch.probe_positions, batch.probe_structure, model.probe_cutoff)
        marks.append(clock())
        states = model.encode(atoms)
        marks.append(clock())
        loss = (model.decode(states, probes) - batch.targets).square().mean()
        marks.append(clock())
        loss.backward()
        marks.append(clock())
        optimizer.step()
        steps.append([*marks, clock()])
    seconds = np.median(np.diff(steps[1:]), axis=0).tolist()
    return dict(zip(("graph", "encode", "decode", "backward", "optimiser"), seconds, strict=True))


def prediction_parts(
    model: DensityModel, density: DensityGrid, points: np.ndarray, repeats: int, clock: Clock
) -> dict[str, float]:
    """Seconds to encode the atoms, and to search the edges of the points and decode them."""
    encoded = EncodedStructure(model, density.atoms, pbc=False)
    parts = {
        "encode": median_seconds(lambda: EncodedStructure(model, density.atoms, pbc=False), repeats, clock),
        "graph and decode": median_seconds(lambda: encoded.density(points), repeats, clock),
    }
    if model.chunk_size(encoded.structures.positions.device) is None:  # a model with edges
        slices = [points[chunk] for chunk in encoded.chunks(len(points))]
        parts["graph"] = median_seconds(lambda: [encoded.probes(part) for part in slices], repeats, clock)
    return parts


def _in_place(total: Sequence[int], left: Sequence[int], right: Sequence[int], **options: object) -> int:
    """FLOPs of `addmm_`, which the counter does not know, from the shapes of its arguments."""
    return 2 * left[0] * left[1] * right[1]


def flops(work: Callable[[], object]) -> int:
    """FLOPs of the matrix products in it, twice the number of multiplications."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the counter sees no other
    try:
        with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _in_place}) as counter:
            work()
    finally:
        torch.set_num_threads(n_threads)
    return counter.get_total_flops()
