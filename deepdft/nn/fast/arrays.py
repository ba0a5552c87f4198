"""Tensors as arrays for compiled loops."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["arrays", "zeros_like"]


def arrays(*tensors: Tensor) -> list[NDArray[Any]]:
    """Arrays that share the memory of CPU tensors, or copies where these are not contiguous."""
    return [(tensor.detach() if tensor.requires_grad else tensor).contiguous().numpy() for tensor in tensors]


def zeros_like(tensor: Tensor) -> Tensor:
    """Zeros of the same shape, contiguous."""
    return torch.zeros_like(tensor, memory_format=torch.contiguous_format)
