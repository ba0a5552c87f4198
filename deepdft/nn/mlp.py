"""Small networks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepdft.nn.softplus import softplus

__all__ = [
    "ShiftedSoftplus",
    "Softplus",
    "Stack",
    "side_by_side",
    "two_layers",
    "zero_last_layer",
]

M = TypeVar("M", bound=nn.Module)


class Stack(nn.ModuleList, Generic[M]):
    """A ModuleList whose modules are all of one type, and known as such when it is iterated."""

    def __iter__(self) -> Iterator[M]:
        return cast(Iterator[M], super().__iter__())


class Softplus(nn.Module):
    """g(x) = ln(1 + eˣ)."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return softplus(x)


class ShiftedSoftplus(nn.Module):
    """g(x) = ln(1 + eˣ) - ln 2, which is zero at zero (released code, and SchNet)."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return softplus(x, shift=math.log(2.0))


def two_layers(n_in: int, n_hidden: int, n_out: int, activation: type[nn.Module]) -> nn.Sequential:
    """Linear, activation, linear; both linear maps have a bias."""
    return nn.Sequential(nn.Linear(n_in, n_hidden), activation(), nn.Linear(n_hidden, n_out))


def side_by_side(first: nn.Sequential, second: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """The values of two networks of `two_layers` at the same x (n, n_in): their first layers are one product.

    Args:
        first: (n, n_in) → (n, n_out).
        second: the same, with the same activation.
        x: (n, n_in).
    """
    first_layers = [cast(nn.Linear, network[0]) for network in (first, second)]
    weight = torch.cat([layer.weight for layer in first_layers])
    bias = torch.cat([layer.bias for layer in first_layers])
    hidden = first[1](functional.linear(x, weight, bias))  # (n, 2 n_hidden)
    of_first, of_second = hidden.split([layer.out_features for layer in first_layers], dim=1)
    return first[2](of_first), second[2](of_second)


@torch.no_grad()
def zero_last_layer(network: nn.Sequential) -> None:
    """Make a network begin with zero as its output; its last layer still has a gradient."""
    for parameter in network[-1].parameters():
        parameter.zero_()
