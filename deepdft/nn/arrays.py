"""Tensors as the arrays that compiled loops take."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from torch import Tensor

__all__ = ["arrays"]


def arrays(*tensors: Tensor) -> list[NDArray[Any]]:
    """What loops take: the memory of tensors on the CPU, or a copy where one is not contiguous."""
    return [(tensor.detach() if tensor.requires_grad else tensor).contiguous().numpy() for tensor in tensors]
