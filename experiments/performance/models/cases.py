"""The timed cases: training steps, predictions and loading, in our form and in that of the released code."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import released_form
import torch

from deepdft.data.datamodule import DensityDataModule
from deepdft.data.store import DensityStore
from deepdft.density import DensityGrid
from deepdft.graph.batch import Batch
from deepdft.graph.neighbors import atom_graph, probe_graph
from deepdft.inference.encoded import EncodedStructure
from deepdft.models.base import DensityModel
from deepdft.models.orbital import Orbital
from deepdft.models.painn import PaiNN
from deepdft.models.schnet import SchNet
from deepdft.models.schnet_released import SchNetReleased

N_PLANES = 8  # of the grid, evenly spread: whole planes, as a full prediction takes them
Case = Callable[[], object]
MODELS: dict[str, type[DensityModel]] = {
    "schnet": SchNet,
    "schnet_released": SchNetReleased,
    "painn": PaiNN,
    "orbital": Orbital,
}
FORMS: dict[str, Callable] = {"schnet_released": released_form.schnet, "painn": released_form.painn}


def largest(store: DensityStore) -> DensityGrid:
    """The structure with most atoms among the first dozen."""
    return max(map(store.density, range(min(12, len(store)))), key=lambda density: len(density.atoms))


def sample_of_planes(density: DensityGrid) -> np.ndarray:
    """Grid points (n, 3) in Å of planes from the first to the last: empty space has the share it has in the grid."""
    size = density.values[0].size
    planes = np.linspace(0, len(density.values) - 1, N_PLANES).round().astype(int)
    return np.concatenate([density.points(slice(plane * size, (plane + 1) * size)) for plane in planes])


def points_for(model: DensityModel, density: DensityGrid) -> np.ndarray:
    """A sample of planes; all points where a model takes many at a time in blocks, which single planes would cut."""
    return density.points() if model.chunk_size(torch.device("cpu")) else sample_of_planes(density)


def train_step(model: DensityModel, batches: itertools.cycle, form: Callable | None = None) -> Case:
    # ours with the optimizer of conf/optimizer, the other with that of the released script
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, fused=form is None)

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
    return atoms, probe_graph(batch.structures, batch.probe_positions, batch.probe_structure, model.probe_cutoff)


def training_batches(store: DensityStore, data: DensityDataModule, count: int) -> list[tuple]:
    """The same structures in our form and in the released one (its own random points)."""
    found = []
    for number, batch in enumerate(itertools.islice(data.train_dataloader(), count)):
        pairs = [data.split.train[(2 * number + k) % len(data.split.train)] for k in (0, 1)]
        samples = [released_form.sample(d.atoms, d.values, 1000, 4.0) for d in map(store.density, pairs)]
        found.append((batch, released_form.collate([s[0] for s in samples]), torch.stack([s[1] for s in samples])))
    return found


def prediction(model: DensityModel, density: DensityGrid, points: np.ndarray, form: Callable | None = None) -> Case:
    @torch.no_grad()
    def predict() -> torch.Tensor:
        if form is None:
            return torch.from_numpy(EncodedStructure(model, density.atoms, pbc=False).total(points))
        parts = []  # atoms are encoded again for each slice; the released script does it once (README)
        for start in range(0, len(points), 5000):
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
