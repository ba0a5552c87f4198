"""Linear maps whose bias is added by the operation that reads them, in a pass through memory that it makes anyway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Affine"]


@dataclass(frozen=True)
class Affine:
    """A linear map W x + b that has not been computed yet."""

    x: Tensor
    """(n, n_in)."""
    weight: Tensor
    """W (n_out, n_in)."""
    bias: Tensor
    """b (n_out,)."""

    @classmethod
    def of(cls, layer: nn.Module, x: Tensor) -> Affine:
        """The linear map of a layer at x."""
        linear = cast(nn.Linear, layer)
        return cls(x, linear.weight, linear.bias)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (n, n_out) of the result."""
        return *self.x.shape[:-1], len(self.bias)

    def __len__(self) -> int:
        return len(self.x)

    def value(self) -> Tensor:
        """W x + b (n, n_out)."""
        return functional.linear(self.x, self.weight, self.bias)

    def product(self) -> Tensor:
        """W x (n, n_out), without the bias, which torch would write into every row before it multiplies."""
        return functional.linear(self.x, self.weight)
