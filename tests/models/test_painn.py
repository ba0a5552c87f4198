"""PaiNN meets the contract, and its internal vectors turn with the structure."""

import ase
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from deepdft.graph.neighbors import atom_graph, structures_from_atoms
from deepdft.models.painn import PaiNN
from deepdft.testing.contract import STRUCTURES, ModelContract


class TestPaiNN(ModelContract):
    def make_model(self) -> PaiNN:
        return PaiNN(hidden_size=10, n_interactions=2)


def states(model: PaiNN, atoms: ase.Atoms) -> list[torch.Tensor]:
    union = structures_from_atoms([atoms], dtype=torch.float64)
    with torch.no_grad():
        return model.encode(atom_graph(union, model.cutoff)).sent


def test_internal_vectors_turn_with_the_structure_and_scalars_stay() -> None:
    torch.manual_seed(0)
    model = PaiNN(hidden_size=10, n_interactions=3).double()
    # a reflection too: nothing in the model knows left from right
    for matrix in (Rotation.from_rotvec([0.7, -1.1, 0.4]).as_matrix(), np.diag([1.0, -1.0, 1.0])):
        for atoms in STRUCTURES.values():
            turned = atoms.copy()
            turned.positions = atoms.positions @ matrix.T
            turned.cell = atoms.cell.array @ matrix.T
            for before, after in zip(states(model, atoms), states(model, turned), strict=True):
                scale = before[:, 2:].abs().max()
                assert scale > 1e-3, "no vectors to test"
                torch.testing.assert_close(after[:, :2], before[:, :2], rtol=0.0, atol=1e-10)
                expected = torch.einsum("xy,nyh->nxh", torch.from_numpy(matrix), before[:, 2:])
                torch.testing.assert_close(after[:, 2:], expected, rtol=0.0, atol=1e-10)


def test_the_last_step_makes_the_scalars_that_a_whole_step_makes() -> None:
    torch.manual_seed(0)
    step = PaiNN(hidden_size=10, n_interactions=1).double().probe_steps[0]
    scalar, vector, message = (torch.randn(7, *shape, dtype=torch.float64) for shape in ((10,), (3, 10), (4, 10)))
    torch.testing.assert_close(step.scalars(scalar, vector, message), step(scalar, vector, message)[0])


def test_the_published_size_is_the_default() -> None:
    model = PaiNN()
    assert (len(model.probe_steps), model.hidden_size, model.cutoff, model.basis.size) == (3, 128, 4.0, 30)
    assert model.cutoff_value == 0.0
