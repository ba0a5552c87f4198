"""ε_mae and ε_mad against sums written out by hand."""

import numpy as np
import pytest
import torch

from deepdft.metrics import eps_mad, eps_mae


def test_eps_mae_is_the_integrated_error_over_the_integrated_density() -> None:
    reference = np.array([[1.0, 2.0], [3.0, 4.0]])
    predicted = np.array([[1.5, 2.0], [2.0, 4.0]])
    assert eps_mae(predicted, reference) == pytest.approx(100 * (0.5 + 1.0) / 10.0)


def test_eps_mae_is_a_ratio_of_sums_not_a_mean_of_ratios() -> None:
    # |0.1|/0.1 and 0/100 would average to 50 %
    assert eps_mae([0.2, 100.0], [0.1, 100.0]) == pytest.approx(100 * 0.1 / 100.1)


def test_eps_mae_takes_torch_and_sums_in_float64() -> None:
    n = 2_000_000  # a float32 running sum of these is off by far more than 1e-9
    reference = torch.full((n,), 0.1, dtype=torch.float32)
    assert eps_mae(reference * 1.5, reference) == pytest.approx(50.0, rel=1e-7)


def test_eps_mad_is_the_mean_deviation_from_the_pointwise_median() -> None:
    densities = np.array([[1.0, 2.0], [2.0, 2.0], [6.0, 5.0]])  # medians 2 and 2
    expected = 100 * ((1 + 0 + 4) + (0 + 0 + 3)) / 3 / 3.0  # ∫|ρ_1| = 3
    assert eps_mad(densities) == pytest.approx(expected)
    assert eps_mad(torch.tensor(densities), reference=2) == pytest.approx(expected * 3 / 11)


def test_eps_mad_of_equal_densities_is_zero() -> None:
    assert eps_mad(np.ones((8, 3, 3, 3))) == 0.0


def test_what_has_no_value_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\), reference \(3,\)"):
        eps_mae([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="zero everywhere"):
        eps_mae([1.0], [0.0])
    with pytest.raises(ValueError, match="at least two densities"):
        eps_mad(np.ones((1, 4)))
    with pytest.raises(ValueError, match="not one of the 2 densities"):
        eps_mad(np.ones((2, 4)), reference=2)
