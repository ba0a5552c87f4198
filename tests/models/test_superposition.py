"""A superposition of spherical atoms meets the contract and finds the radial functions it is fitted to."""

import ase
import numpy as np
import torch

from deepdft.graph.batch import Batch
from deepdft.graph.neighbors import structures_from_atoms
from deepdft.models.superposition import Superposition
from deepdft.testing.contract import ModelContract, densities


class TestSuperposition(ModelContract):
    def make_model(self) -> Superposition:
        model = Superposition(n_functions=5, largest_exponent=5.0)
        torch.nn.init.uniform_(model.weights.weight)
        return model


def test_it_finds_the_radial_functions_of_each_element() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    truth = Superposition(n_functions=4, largest_exponent=10.0).double()
    torch.nn.init.uniform_(truth.weights.weight, 0.1, 1.0)
    batches = []
    for symbols in ("CH4", "CO2", "H2O"):
        atoms = ase.Atoms(symbols, rng.uniform(0, 3, (len(ase.Atoms(symbols)), 3)))
        points = rng.uniform(-2, 5, (400, 3))
        batches.append(
            Batch(
                structures_from_atoms([atoms], dtype=torch.float64),
                torch.from_numpy(points),
                torch.zeros(400, dtype=torch.long),
                densities(truth, [atoms], [points]),
            )
        )
    fitted = Superposition(n_functions=4, largest_exponent=10.0).double().fit(batches)
    for number in (1, 6, 8):
        assert torch.allclose(fitted.weights.weight[number], truth.weights.weight[number], rtol=1e-3)
    assert not fitted.weights.weight[7].any(), "nitrogen was not in the data"
