"""Learning rates by step against the formulas."""

import pytest
import torch

from deepdft.training.schedules import exponential, warmup_cosine


def rates(schedule, n: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = schedule(optimizer)
    found = []
    for _ in range(n):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_exponential_reaches_its_factor_after_every_so_many_steps() -> None:
    found = rates(lambda optimizer: exponential(optimizer, factor=0.5, every=10), 21)
    assert found[0] == 2.0
    assert found[10] == pytest.approx(1.0)
    assert found[20] == pytest.approx(0.5)
    assert found[1] == pytest.approx(2.0 * 0.5**0.1)


def test_warmup_cosine_rises_then_falls_to_its_final_share() -> None:
    found = rates(lambda optimizer: warmup_cosine(optimizer, warmup=4 / 24, total=24, final=0.1), 30)
    assert found[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert found[14] == pytest.approx(0.2 + 1.8 / 2)
    assert found[24:] == pytest.approx([0.2] * 6)


def test_a_warmup_as_long_as_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match="share of total"):
        rates(lambda optimizer: warmup_cosine(optimizer, warmup=1.0, total=10), 1)
