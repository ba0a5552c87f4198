"""The released SchNet meets the contract; that it is the released one is tested in test_released.py."""

import pytest

from deepdft.models.schnet_released import SchNetReleased
from deepdft.testing.contract import ModelContract


class TestSchNetReleased(ModelContract):
    def make_model(self) -> SchNetReleased:
        return SchNetReleased(hidden_size=10, n_interactions=3)


def test_the_released_size_is_the_default() -> None:
    model = SchNetReleased()
    assert (len(model.probe_steps), model.hidden_size, model.cutoff, model.radial.basis.size) == (6, 128, 4.0, 40)
    assert model.cutoff_value == pytest.approx(5.5e-4, rel=0.01)
