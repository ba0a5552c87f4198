"""Linear maps of features that rotate like spherical harmonics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepdft.nn.mlp import Stack

__all__ = ["EquivariantLinear"]


class EquivariantLinear(nn.Module):
    """A linear map of channels for each degree l = 1…L, the same for all m.

    Args:
        l_max: L.
        n_in: channels of the input.
        n_out: channels of the output.
    """

    def __init__(self, l_max: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.maps: Stack[nn.Linear] = Stack(nn.Linear(n_in, n_out, bias=False) for _ in range(l_max))
        self.sizes = [2 * degree + 1 for degree in range(1, l_max + 1)]

    def forward(self, features: Tensor) -> Tensor:
        """Features (n_atoms, Σ(2l + 1), n_in) of degrees 1…L → (n_atoms, Σ(2l + 1), n_out)."""
        parts = features.split(self.sizes, dim=1)
        return torch.cat([linear(part) for linear, part in zip(self.maps, parts, strict=True)], dim=1)
