"""Draws are functions of (seed, epoch, sample); the stream of steps is the same for any number of processes."""

import itertools

import numpy as np
import pytest

from deepdft.data.sampling import Draw, StepSampler, draw_points, epoch_order, importance_sample, validation_points


def steps(n: int, **kwargs) -> list[list[Draw]]:
    return list(itertools.islice(StepSampler(**{"n_samples": 7, "structures_per_step": 2, "seed": 3} | kwargs), n))


def test_an_epoch_visits_every_structure_once() -> None:
    draws = [draw for step in steps(7) for draw in step]  # 14 draws: two epochs of 7
    for epoch in (0, 1):
        assert sorted(draw.sample for draw in draws if draw.epoch == epoch) == list(range(7))
    assert [d.sample for d in draws[:7]] != [d.sample for d in draws[7:]]


def test_orders_differ_between_epochs_and_seeds_and_repeat_for_the_same() -> None:
    orders = {tuple(epoch_order(seed, epoch, 50)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
    assert tuple(epoch_order(0, 1, 50)) in orders


def test_ranks_together_see_what_one_process_with_a_larger_step_sees() -> None:
    whole = steps(5, structures_per_step=6)
    ranks = [steps(5, structures_per_step=2, rank=rank, world_size=3) for rank in range(3)]
    assert [[draw for part in parts for draw in part] for parts in zip(*ranks, strict=True)] == whole


@pytest.mark.parametrize("first_step", [1, 3, 4, 11])
def test_a_stream_started_later_continues_as_the_whole_stream(first_step: int) -> None:
    assert steps(5, first_step=first_step) == steps(first_step + 5)[first_step:]


def test_points_depend_on_seed_epoch_and_sample_alone() -> None:
    reference = draw_points(1, Draw(2, 3), 1000, 50)
    assert np.array_equal(reference, draw_points(1, Draw(2, 3), 1000, 50))
    for other in (draw_points(0, Draw(2, 3), 1000, 50), draw_points(1, Draw(0, 3), 1000, 50)):
        assert not np.array_equal(reference, other)
    assert not np.array_equal(reference, draw_points(1, Draw(2, 4), 1000, 50))


def test_points_are_uniform_over_the_grid() -> None:
    n_points, n_draws = 10, 100_000
    counts = np.bincount(draw_points(0, Draw(0, 0), n_points, n_draws), minlength=n_points)
    # five standard deviations of a binomial count
    assert np.abs(counts - n_draws / n_points).max() < 5 * np.sqrt(n_draws * 0.1 * 0.9)


def test_points_of_high_density_are_preferred_and_weigh_less() -> None:
    density = np.random.default_rng(0).lognormal(0.0, 2.0, 5000)
    chosen, weights = importance_sample(1, Draw(2, 3), density, 200_000, 0.5)
    roots = np.sqrt(density)
    probability = 0.5 / 5000 + 0.5 * roots / roots.sum()
    counts = np.bincount(chosen, minlength=5000)
    assert np.abs(counts - 200_000 * probability).max() < 6 * np.sqrt(200_000 * probability.max())
    assert density[chosen].mean() > 2 * density.mean()
    # any mean over the candidates is that over the chosen ones with their weights
    for function in (np.ones_like(density), density, np.sin(density)):
        exact, found = function.mean(), (weights * function[chosen]).mean()
        assert found == pytest.approx(exact, abs=6 * (weights * function[chosen]).std() / np.sqrt(200_000))
    again = importance_sample(1, Draw(2, 3), density, 200_000, 0.5)
    assert np.array_equal(again[0], chosen)
    assert not np.array_equal(importance_sample(1, Draw(3, 3), density, 200_000, 0.5)[0], chosen)


def test_where_there_is_no_density_points_are_uniform() -> None:
    _, weights = importance_sample(0, Draw(0, 0), np.zeros(50), 10, 0.5)
    assert weights == pytest.approx(np.ones(10))


def test_validation_points_are_fixed_distinct_and_cover_small_grids() -> None:
    assert np.array_equal(validation_points(5, 1000, 100), validation_points(5, 1000, 100))
    assert len(set(validation_points(5, 1000, 100))) == 100
    assert not np.array_equal(validation_points(5, 1000, 100), validation_points(6, 1000, 100))
    assert np.array_equal(validation_points(5, 80, 100), np.arange(80))
