"""Validation errors are float64 sums over structures."""

import pytest
import torch

from deepdft.metrics import eps_mae
from deepdft.training.metrics import DensityErrors


def test_errors_are_means_over_structures_and_pooled_sums() -> None:
    torch.manual_seed(0)
    references = [torch.rand(50), torch.rand(500) * 10]
    predictions = [reference + 0.1 * torch.randn(len(reference)) for reference in references]
    errors = DensityErrors()
    for predicted, reference in zip(predictions, references, strict=True):
        errors.update(predicted[:, None], reference[:, None])
    found = errors.compute()

    each = [eps_mae(p, r) for p, r in zip(predictions, references, strict=True)]
    both, reference = torch.cat(predictions).double(), torch.cat(references).double()
    assert found["eps_mae"].item() == pytest.approx(sum(each) / 2, rel=1e-12)
    assert found["eps_mae_pooled"].item() == pytest.approx(eps_mae(both, reference), rel=1e-12)
    assert found["mae"].item() == pytest.approx((both - reference).abs().mean().item(), rel=1e-12)
    assert found["rmse"].item() == pytest.approx((both - reference).square().mean().sqrt().item(), rel=1e-12)


def test_half_precision_modules_keep_float64_sums() -> None:
    errors = torch.nn.ModuleList([DensityErrors()]).half()[0]
    errors.update(torch.full((10, 1), 0.1), torch.full((10, 1), 0.2))
    assert errors.compute()["eps_mae"].dtype == torch.float64


def test_the_spin_density_has_measures_of_its_own_and_structures_without_a_moment_do_not_spoil_them() -> None:
    torch.manual_seed(0)
    references = [torch.rand(50, 2), torch.rand(80, 2), torch.rand(30, 2)]
    references[2][:, 1] = 0.0
    predictions = [reference + 0.1 * torch.randn_like(reference) for reference in references]
    errors = DensityErrors(["total", "difference"])
    for predicted, reference in zip(predictions, references, strict=True):
        errors.update(predicted, reference)
    found = errors.compute()
    assert found["eps_mae"].item() == pytest.approx(
        sum(eps_mae(p[:, 0], r[:, 0]) for p, r in zip(predictions, references, strict=True)) / 3, rel=1e-12
    )
    moments = [eps_mae(p[:, 1], r[:, 1]) for p, r in zip(predictions[:2], references[:2], strict=True)]
    assert found["eps_mae_difference"].item() == pytest.approx(sum(moments) / 2, rel=1e-12)
    absolute = sum((p.double() - r.double())[:, 1].abs().sum() for p, r in zip(predictions, references, strict=True))
    electrons = sum(r.double()[:, 0].sum() for r in references)
    assert found["difference_error_per_electron_pooled"].item() == pytest.approx((100 * absolute / electrons).item())
