"""Linear maps whose bias is added by whoever reads them, in a pass through memory that is made anyway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Affine"]


@dataclass(frozen=True)
class Affine:
    """W x + b, yet to be computed."""

    x: Tensor
    """(n, n_in)."""
    weight: Tensor
    """W (n_out, n_in)."""
    bias: Tensor
    """b (n_out,)."""

    @classmethod
    def of(cls, layer: nn.Module, x: Tensor) -> Affine:
        """What a linear layer makes of x."""
        linear = cast(nn.Linear, layer)
        return cls(x, linear.weight, linear.bias)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, n_out)."""
        return *self.x.shape[:-1], len(self.bias)

    def __len__(self) -> int:
        return len(self.x)

    def value(self) -> Tensor:
        """(n, n_out)."""
        return functional.linear(self.x, self.weight, self.bias)

    def product(self) -> Tensor:
        """W x (n, n_out): torch writes b into every row before it multiplies, which the reader need not."""
        return functional.linear(self.x, self.weight)
