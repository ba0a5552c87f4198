"""Small networks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

__all__ = ["ShiftedSoftplus", "Stack", "two_layers", "zero_last_layer"]

M = TypeVar("M", bound=nn.Module)


class Stack(nn.ModuleList, Generic[M]):
    """A ModuleList whose modules are all of one type, and known as such when it is iterated."""

    def __iter__(self) -> Iterator[M]:
        return cast(Iterator[M], super().__iter__())


class ShiftedSoftplus(nn.Module):
    """g(x) = ln(1 + eˣ) - ln 2, which is zero at zero (released code, and SchNet)."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return softplus(x) - math.log(2.0)


def two_layers(n_in: int, n_hidden: int, n_out: int, activation: type[nn.Module]) -> nn.Sequential:
    """Linear, activation, linear; both linear maps have a bias."""
    return nn.Sequential(nn.Linear(n_in, n_hidden), activation(), nn.Linear(n_hidden, n_out))


@torch.no_grad()
def zero_last_layer(network: nn.Sequential) -> None:
    """Make a network begin with zero as its output; its last layer still has a gradient."""
    for parameter in network[-1].parameters():
        parameter.zero_()
