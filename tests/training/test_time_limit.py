"""Schedules that end with the time, and validations that fit into it."""

import pytest
import torch

from deepdft.training.schedules import ProgressLR, warmup_cosine
from deepdft.training.time_limit import TimeLimit


def schedule(total: int) -> tuple[torch.optim.Optimizer, ProgressLR]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    return optimizer, warmup_cosine(optimizer, warmup=0.0, total=total, final=0.0)


def rates(total: int, expected: list[float | None]) -> list[float]:
    """Rates of steps before which so many are expected to be left."""
    optimizer, scheduler = schedule(total)
    found = []
    for left in expected:
        if left is not None:
            scheduler.expect(left)
        optimizer.step()
        scheduler.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_a_schedule_arrives_at_its_end_with_the_last_step_there_is_time_for() -> None:
    in_time = rates(20, [None] * 20)
    assert rates(1000, [20.0 - step for step in range(20)]) == pytest.approx(in_time, abs=1e-12)


def test_a_schedule_with_time_enough_is_what_it_is_without_a_limit() -> None:
    assert rates(20, [1000.0] * 20) == rates(20, [None] * 20)


def test_a_schedule_that_learns_late_of_its_end_is_there_in_time_too() -> None:
    found = rates(1000, [None] * 10 + [10.0 - step for step in range(10)])
    assert found[9] == rates(1000, [None] * 10)[9]
    assert found[-1] == pytest.approx(0.0, abs=1e-12)
    assert found == sorted(found, reverse=True)


def test_a_resumed_schedule_has_the_end_that_is_configured_now() -> None:
    _, before = schedule(20)
    before.expect(5.0)
    state = before.state_dict()
    _, after = schedule(40)
    after.load_state_dict(state)
    assert (after.total, after.lead) == (40, before.lead)
    old = {key: value for key, value in state.items() if key not in ("lead", "total")}  # of a version without them
    _, after = schedule(40)
    after.load_state_dict(old)
    assert after.lead == 0.0
    after.restart(0.5)
    assert after.lead == 20.0


class Clock(TimeLimit):
    """A limit whose time is set by hand."""

    now = 0.0

    def time_elapsed(self, stage: str = "train") -> float:
        return self.now


class Trainer:
    world_size, sanity_checking, should_stop, global_step = 1, False, False, 0


def test_training_stops_early_enough_for_its_last_validation() -> None:
    limit, trainer = Clock("00:00:01:40"), Trainer()
    limit.now = 10.0
    limit.on_validation_start(trainer, None)
    limit.now = 30.0
    limit.on_validation_end(trainer, None)
    limit.now = 79.0
    limit.on_train_batch_end(trainer)
    assert not trainer.should_stop
    limit.now = 80.0
    limit.on_train_batch_end(trainer)
    assert trainer.should_stop
    assert limit.was_reached


@pytest.mark.parametrize(
    ("known", "start", "now", "is_over"),
    [
        pytest.param(20.0, 80.0, 105.0, False, id="somewhat slower than the one before"),
        pytest.param(20.0, 80.0, 110.0, True, id="much slower than the one before"),
        pytest.param(0.0, 50.0, 99.0, False, id="the first, in time"),
        pytest.param(0.0, 50.0, 100.0, True, id="the first, not in time"),
        pytest.param(0.0, 100.0, 1000.0, False, id="the only one there will be"),
    ],
)
def test_a_validation_ends_with_the_time(known: float, start: float, now: float, is_over: bool) -> None:
    limit, trainer = Clock("00:00:01:40"), Trainer()
    limit.load_state_dict({"time_elapsed": {}, "validation_seconds": known, "duration": 100.0})
    limit.now = start
    limit.on_validation_start(trainer, None)
    limit.now = now
    assert limit.is_over_in_validation(trainer) is is_over


def test_without_a_limit_nothing_ends() -> None:
    limit = Clock(None)
    limit.now = 1e9
    assert not limit.was_reached
    assert not limit.is_over_in_validation(Trainer())
