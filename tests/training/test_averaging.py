"""Averages of weights against the recurrence written out."""

import pytest
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch.optim.swa_utils import AveragedModel

from deepdft.training.averaging import EMAWithWarmup


def averages(callback: EMAWithWarmup, values: list[float]) -> list[float]:
    """The average after each of some values of a weight."""
    model = torch.nn.Linear(1, 1, bias=False).double()
    averaged = AveragedModel(model, **callback._kwargs)
    found = []
    for value in values:
        with torch.no_grad():
            model.weight.fill_(value)
        averaged.update_parameters(model)
        found.append(averaged.module.weight.item())
    return found


@pytest.mark.parametrize(("decay", "warmup"), [(0.995, 10.0), (0.5, 10.0), (0.995, 3.0), (0.9, None)])
def test_the_average_follows_its_recurrence(decay: float, warmup: float | None) -> None:
    values = torch.randn(50, generator=torch.Generator().manual_seed(0)).tolist()
    expected, average = [], values[0]
    for n, value in enumerate(values):
        if n > 0:
            share = decay if warmup is None else min(decay, (1 + n) / (warmup + n))
            average = share * average + (1 - share) * value
        expected.append(average)
    assert averages(EMAWithWarmup(decay, warmup=warmup), values) == pytest.approx(expected, rel=1e-12)


def test_the_first_weights_are_soon_forgotten() -> None:
    values = [100.0] + [1.0] * 99
    assert averages(EMAWithWarmup(0.995), values)[-1] == pytest.approx(1.0, abs=1e-3)
    assert averages(EMAWithWarmup(0.995, warmup=None), values)[-1] > 50.0


def test_the_state_of_lightnings_average_is_that_of_ours() -> None:
    assert EMAWithWarmup()._legacy_state_key == EMAWeightAveraging().state_key
    assert EMAWithWarmup().state_dict().keys() == EMAWeightAveraging().state_dict().keys()


@pytest.mark.parametrize("settings", [{"decay": 1.0}, {"decay": -0.1}, {"warmup": 0.5}])
def test_what_is_no_average_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"callbacks.ema.{next(iter(settings))}="):
        EMAWithWarmup(**settings)
