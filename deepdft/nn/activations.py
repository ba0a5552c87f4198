"""Activations that add a bias and give the slope in one pass on the CPU, where torch takes several.

Soft-plus takes a half to a fifth of torch's time; SiLU gains by its bias and slope alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepdft.nn.affine import Affine
from deepdft.nn.fast import Operation, single_on_cpu
from deepdft.nn.fast import activations as loops
from deepdft.nn.fast.arrays import arrays

__all__ = ["Activation", "ShiftedSoftplus", "SiLU", "Softplus", "softplus"]

LARGEST_IN_DOUBLE = 40.0
"""Argument above which ln(1 + eˣ) equals x, also in double precision."""
LN_2 = math.log(2.0)


def _softplus(x: Tensor) -> Tensor:
    return functional.softplus(x, threshold=LARGEST_IN_DOUBLE)


def _shifted_softplus(x: Tensor) -> Tensor:
    return _softplus(x) - LN_2


def _applies(x: Affine | Tensor) -> bool:
    """Whether the compiled form applies: in single precision on the CPU, without autocast to lower precision."""
    given = x.x if isinstance(x, Affine) else x
    return single_on_cpu(given) and given.ndim > 0 and given.numel() > 0 and not torch.is_autocast_enabled("cpu")


def _activation(
    plain: Callable[[Tensor], Tensor], in_place: Callable[..., None], with_slopes: Callable[..., None]
) -> Operation:
    """Make an activation from its plain and its compiled forms.

    Args:
        plain: in torch.
        in_place: compiled: x (n, H) becomes g(x + bias), with a bias (H,).
        with_slopes: compiled: from x and bias, g(x + bias) and g'(x + bias) are filled in.
    """

    def prepare(x: Tensor, bias: Tensor | None = None) -> Sequence[Tensor]:
        if bias is not None:
            return x.contiguous(), bias
        no_bias = x.new_zeros(x.shape[-1])
        if torch.is_grad_enabled() and x.requires_grad:
            return x, no_bias
        return x.clone(memory_format=torch.contiguous_format), no_bias

    def forward(x: Tensor, bias: Tensor) -> Tensor:
        in_place(*arrays(x.view(-1, len(bias)), bias))  # the memory belongs to nobody else
        return x

    def forward_and_keep(x: Tensor, bias: Tensor) -> tuple[Tensor, list[Tensor]]:
        rows, value = x.reshape(-1, len(bias)), torch.empty_like(x, memory_format=torch.contiguous_format)
        slope = torch.empty_like(value)
        with_slopes(*arrays(rows, bias, value.view(rows.shape), slope.view(rows.shape)))
        return value, [slope]

    def backward(inputs: Sequence[Any], kept: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor | None]:
        grad_x = gradients[0] * kept[0]
        return [grad_x, grad_x.sum_to_size(inputs[1].shape) if inputs[1].requires_grad else None]

    return Operation(plain, _applies, forward, backward, forward_and_keep, prepare)


_SOFTPLUS = _activation(_softplus, *loops.softplus_loops(0.0))
_SHIFTED_SOFTPLUS = _activation(_shifted_softplus, *loops.softplus_loops(LN_2))
_SILU = _activation(functional.silu, loops.silu_in_place, loops.silu_with_slopes)


def softplus(x: Tensor) -> Tensor:
    """ln(1 + eˣ) element by element, differentiable twice."""
    return _SOFTPLUS(x)


class Activation(nn.Module):
    """An activation function g, twice differentiable."""

    operation: ClassVar[Operation]

    def forward(self, x: Tensor | Affine) -> Tensor:
        """g(x) element by element."""
        return self.operation(x)


class Softplus(Activation):
    """g(x) = ln(1 + eˣ)."""

    operation = _SOFTPLUS


class ShiftedSoftplus(Activation):
    """g(x) = ln(1 + eˣ) - ln 2, which is zero at zero (released code, and SchNet)."""

    operation = _SHIFTED_SOFTPLUS


class SiLU(Activation):
    """g(x) = x / (1 + e⁻ˣ)."""

    operation = _SILU
