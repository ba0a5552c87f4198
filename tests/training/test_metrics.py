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
        errors.update(predicted, reference)
    found = errors.compute()

    each = [eps_mae(p, r) for p, r in zip(predictions, references, strict=True)]
    both, reference = torch.cat(predictions).double(), torch.cat(references).double()
    assert found["eps_mae"].item() == pytest.approx(sum(each) / 2, rel=1e-12)
    assert found["eps_mae_pooled"].item() == pytest.approx(eps_mae(both, reference), rel=1e-12)
    assert found["mae"].item() == pytest.approx((both - reference).abs().mean().item(), rel=1e-12)
    assert found["rmse"].item() == pytest.approx((both - reference).square().mean().sqrt().item(), rel=1e-12)


def test_half_precision_modules_keep_float64_sums() -> None:
    errors = torch.nn.ModuleList([DensityErrors()]).half()[0]
    errors.update(torch.full((10,), 0.1), torch.full((10,), 0.2))
    assert errors.compute()["eps_mae"].dtype == torch.float64
