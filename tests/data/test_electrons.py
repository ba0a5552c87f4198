"""Numbers of electrons per element in the densities of a store."""

import numpy as np
import pytest

from deepdft.data.electrons import valences


class FakeStore:
    def __init__(self, formulas, electrons):
        self.formulas = formulas
        self._electrons = np.asarray(electrons, dtype=float)

    def electrons(self, label=None):
        return self._electrons


def test_valences_follow_from_the_counts_of_structures():
    store = FakeStore(["H2O", "CH4", "CO2", "C2H6O"], [8.01, 8.0, 16.0, 20.0])
    found = valences(store, range(4))
    assert list(found) == [1, 6, 8]
    assert list(found.values()) == pytest.approx([1, 4, 6], abs=0.02)


@pytest.mark.parametrize(
    ("formulas", "electrons"), [(["NaCl", "Na2Cl2"], [8, 16]), (["H2", "H4", "H8"], [2.0, 4.0, 6.0])]
)
def test_what_the_counts_do_not_tell_is_left_open(formulas, electrons):
    assert valences(FakeStore(formulas, electrons), range(len(formulas))) == {}
