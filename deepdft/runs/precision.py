"""Precision of matrix products during a command; torch has one setting for the whole process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["matmul_precision"]

PRECISIONS = ("highest", "high", "medium")


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Set the precision of float32 matrix products within a context, see `torch.set_float32_matmul_precision`.

    Args:
        name: highest, high (TF32 on GPUs) or medium (bf16 where the processor has instructions for it).

    Raises:
        ValueError: if there is no such precision.
    """
    if name not in PRECISIONS:
        raise ValueError(f"matmul_precision={name}: expected one of {', '.join(PRECISIONS)}")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
