"""The LightningDataModule: streams random grid points of a few structures per step out of a density store."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from deepdft.data.sampling import (
    CANDIDATES_PER_POINT,
    Draw,
    StepSampler,
    draw_points,
    importance_sample,
    validation_points,
)
from deepdft.data.splits import Split, load_split
from deepdft.data.store import Store
from deepdft.data.workers import end_with_parent, ignore_stop_signals, start_forkserver, stop_forkserver
from deepdft.density import TOTAL, collinear_moments, grid_points
from deepdft.errors import InputWarning
from deepdft.graph.batch import Batch, Structures, joined_rows

__all__ = ["DensityDataModule", "Sample", "collate"]

Sample = dict[str, NDArray[Any]]
"""One structure with some of its grid points, as numpy arrays: numbers, positions, moments, cell, pbc, points,
targets (n_points, n_channels), weights where the points are not uniform, and occupancies (n_atoms, n_channels, width)
where they are learned."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Join samples into a disjoint union: positions in float64, values in float32, int64 indices."""
    n_atoms = torch.tensor([len(sample["numbers"]) for sample in samples])
    n_probes = torch.tensor([len(sample["targets"]) for sample in samples])

    def joined(key: str, dtype: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([sample[key] for sample in samples])).to(dtype)

    def stacked(key: str, dtype: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(np.stack([sample[key] for sample in samples])).to(dtype)

    which = torch.arange(len(samples))
    return Batch(
        structures=Structures(
            numbers=joined("numbers", torch.int64),
            positions=joined("positions", torch.float64),
            structure=which.repeat_interleave(n_atoms),
            cells=stacked("cell", torch.float64),
            pbc=stacked("pbc", torch.bool),
            moments=joined("moments", torch.float64),
        ),
        probe_positions=joined("points", torch.float64),
        probe_structure=which.repeat_interleave(n_probes),
        targets=joined("targets", torch.float32).reshape(int(n_probes.sum()), -1),
        weights=joined("weights", torch.float32) if "weights" in samples[0] else None,
        occupancies=joined_rows([torch.from_numpy(sample["occupancies"]).float() for sample in samples])
        if "occupancies" in samples[0]
        else None,
    )


class _Samples(Dataset[Sample]):
    """Some structures of a store, each with grid points chosen by `choose`."""

    def __init__(
        self,
        store: Store,
        indices: Sequence[int],
        *,
        label: str | None,
        channels: Sequence[str],
        pbc: bool | None,
        occupancies: bool,
    ) -> None:
        self.store = store
        self.indices = list(indices)
        self.label = label
        self.channels = tuple(channels)
        self.pbc = pbc
        self.occupancies = occupancies

    def __len__(self) -> int:
        """Number of structures."""
        return len(self.indices)

    def sample(self, index: int, choose: Callable[[int], NDArray[np.int64]]) -> Sample:
        """Read a structure and its values at the grid points that `choose(n_points)` selects."""
        i = self.indices[index]
        atoms = self.store.atoms(i)
        shape = self.store.shape(i)
        points = choose(int(np.prod(shape)))
        of_atoms = {"occupancies": self.store.occupancies(i, self.label, self.channels)} if self.occupancies else {}
        return of_atoms | {
            "numbers": atoms.numbers,
            "positions": atoms.positions,
            "moments": collinear_moments(atoms),
            "cell": atoms.cell.array,
            "pbc": atoms.pbc if self.pbc is None else np.full(3, self.pbc),
            "points": grid_points(atoms.cell.array, shape, self.store.origin(i), points),
            "targets": self.store.sample(i, points, self.label, channels=self.channels),
        }


class TrainingSamples(_Samples):
    """Structures whose points are drawn anew in each epoch; the key is a `Draw`."""

    def __init__(self, *args: Any, seed: int, n_probes: int, importance_fraction: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seed = seed
        self.n_probes = n_probes
        self.importance_fraction = importance_fraction

    def __getitem__(self, draw: Draw) -> Sample:
        """The sample of a draw."""
        if self.importance_fraction == 0.0:
            return self._uniform(draw, self.n_probes)
        sample = self._uniform(draw, CANDIDATES_PER_POINT * self.n_probes)
        targets = sample["targets"]
        largest = np.abs(targets).max(axis=1)  # over all channels: where any of them is large
        chosen, weights = importance_sample(self.seed, draw, largest, self.n_probes, self.importance_fraction)
        return sample | {"points": sample["points"][chosen], "targets": targets[chosen], "weights": weights}

    def _uniform(self, draw: Draw, n_probes: int) -> Sample:
        return self.sample(draw.sample, lambda n_points: draw_points(self.seed, draw, n_points, n_probes))


class ValidationSamples(_Samples):
    """Structures with fixed points; the key is the index within the split."""

    def __init__(self, *args: Any, n_probes: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.n_probes = n_probes

    def __getitem__(self, index: int) -> Sample:
        """The sample of a structure."""
        return self.sample(index, lambda n_points: validation_points(self.indices[index], n_points, self.n_probes))


class DensityDataModule(pl.LightningDataModule):
    """Streams training steps and fixed validation points from a store made by deepdft-convert.

    Args:
        root: folder of the store.
        split: None for the split stored with the data, a JSON file, or {"validation": n, "test": n, "seed": s}.
        pbc: periodic boundaries: None as stored, True forced on, False ignored.
        label: which density of an ensemble store; None for its first.
        channels: which channels of the density are targets; None for those of the model, "total" by default.
        structures_per_step: structures per training step and device.
        probes_per_structure: grid points drawn per structure and step.
        importance_fraction: fraction of them drawn with probability ∝ √|ρ| and reweighted; the rest are uniform.
        validation_probes: fixed grid points per validation structure.
        num_workers: loader processes; 0 loads in the training process.
        seed: of the draws.

    Raises:
        ValueError: if a number is not positive, or the split has nothing to train or validate on.
    """

    def __init__(  # noqa: PLR0913  the keys of conf/data
        self,
        root: str | os.PathLike[str],
        *,
        split: str | os.PathLike[str] | Mapping[str, int] | None = None,
        pbc: bool | None = None,
        label: str | None = None,
        channels: Sequence[str] | None = None,
        structures_per_step: int = 2,
        probes_per_structure: int = 1000,
        importance_fraction: float = 0.0,
        validation_probes: int = 5000,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (
            ("structures_per_step", structures_per_step),
            ("probes_per_structure", probes_per_structure),
            ("validation_probes", validation_probes),
        ):
            if value < 1:
                raise ValueError(f"data.{name} must be at least 1, got {value}")
        if not 0.0 <= importance_fraction < 1.0:
            raise ValueError(f"data.importance_fraction must be in [0, 1), got {importance_fraction}")
        self.root = Path(root)
        self.split_spec = split
        self.pbc = pbc
        self.label = label
        self.channels = tuple(channels or (TOTAL,))
        self.structures_per_step = structures_per_step
        self.probes_per_structure = probes_per_structure
        self.importance_fraction = importance_fraction
        self.validation_probes = validation_probes
        self.num_workers = num_workers
        self.seed = seed
        self.occupancies = False
        """Whether samples have PAW occupancies; set before the loaders are made."""
        self.store: Store
        self.split: Split

    def setup(self, stage: str | None = None) -> None:
        """Open the store and the split."""
        self.store = Store(self.root)
        self.split = load_split(self.split_spec, self.store)
        for part, use in (("train", "to fit the weights to"), ("validation", "to choose the best weights by")):
            if not getattr(self.split, part):
                raise ValueError(f"{self.root}: the split has no {part} structures, {use}; give another data.split")
        self.store.require_channels(self.channels, [*self.split.train, *self.split.validation], self.label)
        self._warn_of_unseen_elements()

    def _warn_of_unseen_elements(self) -> None:
        """Warn of elements that occur in validation or test structures but not in training."""
        known = set(self.store.elements(self.split.train))
        for part in ("validation", "test"):
            indices = getattr(self.split, part)
            unseen = [chemical_symbols[z] for z in self.store.elements(indices) if z not in known]
            affected = [i for i in indices if set(self.store.elements([i])) - known] if unseen else []
            if unseen:
                warnings.warn(
                    f"{self.root}: {', '.join(unseen)} in {len(affected)} of {len(indices)} {part} structures (e.g. "
                    f"{self.store.names[affected[0]]}) and in no training structure: the model cannot learn these "
                    "elements; give another data.split",
                    InputWarning,
                    stacklevel=2,
                )

    def teardown(self, stage: str | None = None) -> None:
        """Stop the process that the workers were forked from, so that no other pool inherits its signals."""
        if self.num_workers > 0:
            stop_forkserver()

    def train_dataloader(self) -> DataLoader[Batch]:
        """An endless loader that starts at the trainer's step, so that a resumed run continues where it stopped."""
        trainer = self.trainer
        samples = self._training_samples()
        sampler = StepSampler(
            len(samples),
            structures_per_step=self.structures_per_step,
            seed=self.seed,
            first_step=trainer.global_step * trainer.accumulate_grad_batches if trainer else 0,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )
        return self._loader(samples, batch_sampler=sampler)

    def first_steps(self, n_steps: int) -> Iterator[Batch]:
        """The first training steps as one device sees them, the same on every rank, read in this process."""
        samples = self._training_samples()
        steps = StepSampler(len(samples), structures_per_step=self.structures_per_step, seed=self.seed)
        for step in itertools.islice(steps, n_steps):
            yield collate([samples[draw] for draw in step])

    def _training_samples(self) -> TrainingSamples:
        return TrainingSamples(
            self.store,
            self.split.train,
            label=self.label,
            channels=self.channels,
            pbc=self.pbc,
            occupancies=self.occupancies,
            seed=self.seed,
            n_probes=self.probes_per_structure,
            importance_fraction=self.importance_fraction,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """One structure per batch; ranks share the structures without repeating any."""
        samples = ValidationSamples(
            self.store,
            self.split.validation,
            label=self.label,
            channels=self.channels,
            pbc=self.pbc,
            occupancies=self.occupancies,
            n_probes=self.validation_probes,
        )
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return self._loader(samples, sampler=range(rank, len(samples), world_size), batch_size=1)

    def _loader(self, samples: Dataset[Sample], **sampling: Any) -> DataLoader[Batch]:
        if self.num_workers > 0:
            start_forkserver()
        loader: DataLoader[Any] = DataLoader(  # arguments of samplers: `collate` makes batches of samples
            samples,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            multiprocessing_context="forkserver" if self.num_workers > 0 else None,
            worker_init_fn=_begin_worker,
            pin_memory=torch.cuda.is_available(),
            **sampling,
        )
        return loader


def _begin_worker(worker: int) -> None:
    """Initialise a worker: signals sent to all processes are for the training process, which ends its workers."""
    ignore_stop_signals()
    end_with_parent(worker)
