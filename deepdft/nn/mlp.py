"""Small feed-forward networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from deepdft.nn.activations import Activation
from deepdft.nn.affine import Affine

__all__ = ["Stack", "TwoLayers", "side_by_side", "two_layers", "zero_last_layer"]

M = TypeVar("M", bound=nn.Module)


class Stack(nn.ModuleList, Generic[M]):
    """A ModuleList whose modules all have one type, which type checkers know when it is iterated."""

    def __iter__(self) -> Iterator[M]:
        return cast(Iterator[M], super().__iter__())


class TwoLayers(nn.Sequential):
    """Linear, activation, linear; both linear maps have a bias."""

    def hidden(self, x: Tensor) -> Tensor:
        """Output of the activation after the first layer: (n, n_in) → (n, n_hidden)."""
        first, activation, _ = self
        return cast(Tensor, activation(Affine.of(first, x)))

    def last(self, x: Tensor) -> Affine:
        """The last layer as a linear map that has not been computed yet: (n, n_in) → (n, n_out)."""
        return Affine.of(self[2], self.hidden(x))

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the network: (n, n_in) → (n, n_out)."""
        return self.last(x).value()


def two_layers(n_in: int, n_hidden: int, n_out: int, activation: type[Activation]) -> TwoLayers:
    """Make a network of two layers: linear, activation, linear; both linear maps have a bias."""
    return TwoLayers(nn.Linear(n_in, n_hidden), activation(), nn.Linear(n_hidden, n_out))


def side_by_side(first: TwoLayers, second: TwoLayers, x: Tensor) -> tuple[Affine, Affine]:
    """Evaluate two networks at the same x (n, n_in) up to their last layers; their first layers become one product.

    Args:
        first: (n, n_in) → (n, n_out).
        second: the same, with the same activation.
        x: (n, n_in).
    """
    both = [cast(nn.Linear, network[0]) for network in (first, second)]
    weight, bias = torch.cat([layer.weight for layer in both]), torch.cat([layer.bias for layer in both])
    hidden = first[1](Affine(x, weight, bias))  # (n, 2 n_hidden)
    of_first, of_second = hidden.split([layer.out_features for layer in both], dim=1)
    return Affine.of(first[2], of_first), Affine.of(second[2], of_second)


@torch.no_grad()
def zero_last_layer(network: nn.Sequential) -> None:
    """Make the output of a network zero; its last layer still has a gradient."""
    for parameter in network[-1].parameters():
        parameter.zero_()
