"""Free atoms meet the contract, have all their electrons, and agree with the table."""

import ase
import numpy as np
import pytest
import torch
from ase.data import chemical_symbols
from scipy.interpolate import BarycentricInterpolator
from torch.optim.swa_utils import AveragedModel

from deepdft import bundled
from deepdft.models.free_atoms import FreeAtoms
from deepdft.testing.contract import ModelContract, densities
from deepdft.training.averaging import EMAWithWarmup

TABLE = np.load(bundled.FREE_ATOMS)


class TestFreeAtoms(ModelContract):
    def make_model(self) -> FreeAtoms:
        return FreeAtoms()


class TestShortFreeAtoms(ModelContract):
    def make_model(self) -> FreeAtoms:
        return FreeAtoms(cutoff=3.0)


def radial(model: FreeAtoms, symbol: str, distances: np.ndarray) -> np.ndarray:
    points = np.stack([distances, *np.zeros((2, len(distances)))], axis=1)
    return densities(model, [ase.Atoms(symbol, [[0.0, 0.0, 0.0]])], [points]).squeeze(-1).numpy()


@pytest.mark.parametrize("cutoff", [3.0, 6.0, 10.0])
def test_every_atom_has_its_valence_electrons(cutoff: float) -> None:
    r, step = np.linspace(0.0, cutoff, 8001, retstep=True)
    model = FreeAtoms(cutoff=cutoff).double()
    for number, n_valence in zip(TABLE["numbers"], TABLE["n_valence"], strict=True):
        density = radial(model, chemical_symbols[number], r)
        assert 4 * np.pi * step * (density * r**2).sum() == pytest.approx(n_valence, rel=1e-6), chemical_symbols[number]
        assert density.min() > -1e-12  # rounding, where there is nothing


def test_the_density_is_that_of_the_table_between_its_knots() -> None:
    model = FreeAtoms(cutoff=10.0).double()
    radii, x = TABLE["radii"], np.arcsinh(TABLE["radii"] / TABLE["scale"])
    for number in (1, 6, 28, 55):
        density = TABLE["density"][list(TABLE["numbers"]).index(number)].astype(float)
        for first in (20, 80, 120):
            eight = slice(first, first + 8)  # a polynomial through eight knots, read in the middle
            middle = 0.5 * (x[first + 3] + x[first + 4])
            expected = BarycentricInterpolator(x[eight] - middle, density[eight])(0.0)
            found = radial(model, chemical_symbols[number], TABLE["scale"] * np.sinh([middle]))
            assert found[0] == pytest.approx(float(expected), rel=1e-4, abs=1e-9), (number, radii[first])


def test_what_is_cut_off_is_put_back_far_from_the_nucleus() -> None:
    near, far = np.array([0.0, 0.5]), np.array([3.0])
    whole, short = FreeAtoms(cutoff=10.0).double(), FreeAtoms(cutoff=6.0).double()
    for symbol in ("H", "C", "Ni", "Cs"):
        assert radial(short, symbol, near) == pytest.approx(radial(whole, symbol, near), rel=1e-3)
        assert (radial(short, symbol, far) > radial(whole, symbol, far)).all()


def test_second_derivatives_exist_everywhere() -> None:
    model, atoms = FreeAtoms().double(), ase.Atoms("C", [[0.0, 0.0, 0.0]])
    step = 1e-4
    for d in (0.0, 0.3, 2.0, 4.5, 6.0 - 1e-6):
        values = [densities(model, [atoms], [np.array([[abs(d + k * step), 0, 0]])]).item() for k in (-2, -1, 0, 1, 2)]
        left, middle, right = (values[k - 1] - 2 * values[k] + values[k + 1] for k in (1, 2, 3))
        assert abs(left - right) <= 1e-2 * abs(middle) + 1e-9


def test_an_element_without_a_free_atom_is_named() -> None:
    with pytest.raises(ValueError, match="no free atom of Tc, Po"):
        densities(FreeAtoms(), [ase.Atoms("TcHPo", np.eye(3))], [np.zeros((1, 3))])


def test_a_cutoff_beyond_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="ends at 10 Å"):
        FreeAtoms(cutoff=12.0)


def test_nothing_is_trained() -> None:
    assert not any(parameter.requires_grad for parameter in FreeAtoms().parameters())
    assert torch.equal(FreeAtoms().state_dict()["table"], FreeAtoms().table)


def test_averaging_of_weights_leaves_elements_what_they_are() -> None:
    callback, model = EMAWithWarmup(), FreeAtoms()
    averaged = AveragedModel(model, avg_fn=callback._average, use_buffers=callback._use_buffers)
    for _ in range(10):
        averaged.update_parameters(model)
    assert torch.equal(averaged.module.row_of, model.row_of)
