"""The data module streams what the sampler says, from any number of workers, and continues where it stopped."""

import itertools
import multiprocessing
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from deepdft.data.datamodule import DensityDataModule
from deepdft.data.store import Store
from deepdft.graph.batch import Batch


def data_module(root: Path, **kwargs) -> DensityDataModule:
    settings = {"structures_per_step": 2, "probes_per_structure": 30, "validation_probes": 50, "num_workers": 0}
    module = DensityDataModule(root, **(settings | kwargs))
    module.setup("fit")
    return module


def first_batches(module: DensityDataModule, n: int) -> list[Batch]:
    batches = list(itertools.islice(iter(module.train_dataloader()), n))
    module.teardown("fit")
    return batches


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.probe_positions, b.probe_positions) and torch.equal(a.targets, b.targets)


def test_a_batch_holds_values_of_the_store_at_its_points(tiny_store: Path) -> None:
    module, store = data_module(tiny_store), Store(tiny_store)
    batch = first_batches(module, 1)[0]
    assert batch.structures.n_structures == 2
    assert batch.n_probes == 60
    for which in range(2):
        atoms = batch.structures.positions[batch.structures.structure == which].numpy()
        position = next(
            i
            for i in range(len(store))
            if store.atoms(i).positions.shape == atoms.shape and np.allclose(store.atoms(i).positions, atoms, atol=1e-5)
        )
        assert position in module.split.train
        density = store.density(position)
        probes = batch.probe_positions[batch.probe_structure == which].numpy()
        indices = np.round(np.linalg.solve(density.atoms.cell.array.T, probes.T).T * density.shape).astype(int)
        expected = density.values[tuple(indices.T)]
        assert np.array_equal(batch.targets[batch.probe_structure == which].numpy(), expected[:, None])


def test_workers_change_nothing(tiny_store: Path) -> None:
    alone, shared = first_batches(data_module(tiny_store), 6), first_batches(data_module(tiny_store, num_workers=2), 6)
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))


def test_other_pools_of_the_process_do_not_inherit_the_signals_of_the_workers(tiny_store: Path) -> None:
    first_batches(data_module(tiny_store, num_workers=1), 1)
    pool = multiprocessing.get_context("forkserver").Pool(1)
    try:
        assert pool.apply(signal.pthread_sigmask, (signal.SIG_BLOCK, ())) == set()
    finally:
        pool.close()
        pool.join()


def test_the_first_steps_are_those_of_training(tiny_store: Path) -> None:
    module = data_module(tiny_store)
    pairs = zip(module.first_steps(6), first_batches(module, 6), strict=True)
    assert all(same(a, b) for a, b in pairs)


def test_points_may_prefer_the_density_and_are_weighted_for_it(tiny_store: Path) -> None:
    uniform, preferred = (data_module(tiny_store, importance_fraction=s, probes_per_structure=500) for s in (0.0, 0.8))
    plain, dense = (list(module.first_steps(40)) for module in (uniform, preferred))
    assert all(batch.weights is None for batch in plain)
    assert all(batch.weights.shape == (batch.n_probes,) for batch in dense)
    mean = torch.cat([batch.targets for batch in plain]).mean().item()
    targets, weights = (torch.cat([getattr(batch, name) for batch in dense]) for name in ("targets", "weights"))
    assert targets.mean() > 3 * mean
    assert (weights[:, None] * targets).mean().item() == pytest.approx(mean, rel=0.1)
    module = data_module(tiny_store, importance_fraction=0.8, probes_per_structure=500, num_workers=2)
    assert all(same(a, b) for a, b in zip(dense[:4], first_batches(module, 4), strict=True))


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_of_points_that_is_none_is_refused(tiny_store: Path, share: float) -> None:
    with pytest.raises(ValueError, match=r"importance_fraction must be in \[0, 1\)"):
        data_module(tiny_store, importance_fraction=share)


def test_seeds_change_the_draws(tiny_store: Path) -> None:
    assert not same(*(first_batches(data_module(tiny_store, seed=seed), 1)[0] for seed in (0, 1)))


def test_validation_visits_every_structure_once_at_fixed_points(tiny_store: Path) -> None:
    batches = list(data_module(tiny_store).val_dataloader())
    again = list(data_module(tiny_store, seed=7).val_dataloader())
    assert len(batches) == 3
    assert all(batch.n_probes == 50 for batch in batches)
    assert all(same(a, b) for a, b in zip(batches, again, strict=True))


def test_the_periodicity_is_as_stored_or_forced(tiny_store: Path) -> None:
    for pbc, expected in ((None, False), (True, True), (False, False)):
        batch = first_batches(data_module(tiny_store, pbc=pbc), 1)[0]
        assert (batch.structures.pbc == expected).all()


def test_a_split_drawn_by_numbers_is_used(tiny_store: Path) -> None:
    module = data_module(tiny_store, split={"validation": 1, "test": 2, "seed": 3})
    assert [len(part) for part in (module.split.train, module.split.validation, module.split.test)] == [7, 1, 2]


@pytest.mark.parametrize("key", ["structures_per_step", "probes_per_structure", "validation_probes"])
def test_numbers_below_one_are_refused(tiny_store: Path, key: str) -> None:
    with pytest.raises(ValueError, match=rf"data\.{key} must be at least 1, got 0"):
        data_module(tiny_store, **{key: 0})


def test_more_probes_than_grid_points_are_drawn_with_replacement(tiny_store: Path) -> None:
    assert first_batches(data_module(tiny_store, probes_per_structure=3000), 1)[0].n_probes == 6000
