"""Tensors of a batch on their way between processes."""

import pickle
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from ase.build import molecule
from torch import Tensor

from deepdft.graph.batch import Batch
from deepdft.graph.neighbors import structures_from_atoms


@pytest.mark.parametrize("change", [lambda t: t, lambda t: t.bfloat16(), lambda t: t.clone().requires_grad_()])
def test_batches_go_from_process_to_process_as_they_are_without_shared_files(
    change: Callable[[Tensor], Tensor],
) -> None:
    structures = structures_from_atoms([molecule("H2O"), molecule("CH4")])
    which = torch.tensor([0, 0, 1])
    batch = Batch(structures, torch.randn(3, 3), which, change(torch.randn(3)))
    sent = bytes(ForkingPickler.dumps(batch))
    found = pickle.loads(sent)
    for name in ("probe_positions", "probe_structure", "targets"):
        before, after = getattr(batch, name), getattr(found, name)
        assert torch.equal(before, after)
        assert (before.dtype, before.requires_grad) == (after.dtype, after.requires_grad)
    assert found.weights is None
    own, others = dict(vars(structures)), dict(vars(found.structures))
    assert own.pop("dtype") == others.pop("dtype")
    assert all(torch.equal(a, b) for a, b in zip(own.values(), others.values(), strict=True))
    assert (b"rebuild_storage" in sent) == (batch.targets.dtype == torch.bfloat16 or batch.targets.requires_grad)
