"""Compiled twins of operations that `deepdft.nn` writes in plain torch, and the single way of choosing them.

An operation is declared once, beside its plain form, as an `Operation`: what it computes in torch, and its twin: where
the twin applies, its values and its gradients. Twins are loops of Numba on the CPU and a kernel of Triton on a GPU.
`with disabled():`, or DEEPDFT_FAST=0 in the environment, runs everything in plain torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deepdft.nn.affine import Affine

__all__ = ["Operation", "disabled", "enabled", "single_on_cpu"]

Results = Tensor | tuple[Tensor, ...]

_enabled = os.environ.get("DEEPDFT_FAST", "1") not in ("0", "false", "off")


def enabled() -> bool:
    """Whether operations may use their compiled twins."""
    return _enabled


@contextmanager
def disabled() -> Iterator[None]:
    """Run every operation in plain torch, on all threads of the process."""
    global _enabled  # noqa: PLW0603
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


def single_on_cpu(*tensors: Tensor) -> bool:
    """Whether all tensors are in single precision on the CPU, for which most twins are compiled."""
    return all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)


@dataclass(frozen=True, eq=False)
class Operation:
    """A function of tensors (and other values) in plain torch, with a compiled twin.

    A linear map among the inputs may be given as an `Affine`: the twin gets its product and its bias, which it adds in
    the pass through memory that it makes anyway, and the plain form gets its value.
    """

    plain: Callable[..., Any]
    """The operation in plain torch, which also gives second derivatives."""
    applies: Callable[..., bool]
    """Whether the twin accepts these inputs: their device, precision, size."""
    forward: Callable[..., Any]
    """The twin's results for its inputs."""
    backward: Callable[[Sequence[Any], Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor | None]] | None = None
    """Gradients with respect to each input of the twin, from the inputs, what was kept, and the gradients with respect
    to the results; None if the twin has no gradients, and does not apply where they are wanted."""
    forward_and_keep: Callable[..., tuple[Results, Sequence[Tensor]]] | None = None
    """Results, and tensors that `backward` needs beside the inputs; None if it needs none."""
    prepare: Callable[..., Sequence[Any]] | None = None
    """Checks the inputs of the twin and reshapes them, differentiably; None leaves them unchanged."""

    def __call__(self, *inputs: Any) -> Any:
        """The results, computed by the twin if it applies."""
        differentiable = torch.is_grad_enabled() and any(map(_requires_grad, inputs))
        if not (_enabled and self.applies(*inputs)) or (differentiable and self.backward is None):
            like = next((one for one in inputs if isinstance(one, Tensor) and one.is_floating_point()), None)
            return self.plain(*(_in_precision(one.value(), like) if isinstance(one, Affine) else one for one in inputs))
        flat = self._flat(inputs)
        if self.prepare is not None:
            flat = list(self.prepare(*flat))
        if differentiable:
            return _Twin.apply(self, tuple(isinstance(one, Affine) for one in inputs), *flat)
        return self.forward(*flat)

    @staticmethod
    def _flat(inputs: Sequence[Any]) -> list[Any]:
        """Replace linear maps by products and biases."""
        like = next((one for one in inputs if isinstance(one, Tensor) and one.is_floating_point()), None)
        flat: list[Any] = []
        for one in inputs:
            flat += [_in_precision(one.product(), like), one.bias] if isinstance(one, Affine) else [one]
        return flat


def _requires_grad(one: Any) -> bool:
    if isinstance(one, Affine):
        return any(tensor.requires_grad for tensor in (one.x, one.weight, one.bias))
    return isinstance(one, Tensor) and one.requires_grad


def _in_precision(value: Tensor, like: Tensor | None) -> Tensor:
    """A linear map, which autocast may have computed in lower precision, in the precision of the other inputs."""
    return value if like is None else value.to(like.dtype)


class _Twin(torch.autograd.Function):
    """The twin of an operation with its gradients; second derivatives come from the plain form."""

    @staticmethod
    def forward(ctx: Any, operation: Operation, is_affine: tuple[bool, ...], *inputs: Any) -> Results:
        kept: Sequence[Tensor] = ()
        if operation.forward_and_keep is None:
            results: Results = operation.forward(*inputs)
        else:
            results, kept = operation.forward_and_keep(*inputs)
        ctx.operation, ctx.is_affine = operation, is_affine
        ctx.values = [None if isinstance(one, Tensor) else one for one in inputs]
        ctx.is_tensor = [isinstance(one, Tensor) for one in inputs]
        ctx.save_for_backward(*(one for one in inputs if isinstance(one, Tensor)), *kept)
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        inputs = [next(saved) if tensor else value for tensor, value in zip(ctx.is_tensor, ctx.values, strict=True)]
        if torch.is_grad_enabled():  # second derivatives are requested
            return None, None, *_plain_gradients(ctx.operation.plain, ctx.is_affine, inputs, gradients)
        return None, None, *ctx.operation.backward(inputs, list(saved), gradients)


def _plain_gradients(
    plain: Callable[..., Any], is_affine: Sequence[bool], inputs: Sequence[Any], gradients: Sequence[Tensor]
) -> list[Tensor | None]:
    """Gradients with respect to the inputs, which can be differentiated again."""
    apart = [
        one.view_as(one) if isinstance(one, Tensor) else one for one in inputs
    ]  # not through the dependence of one input on another
    flat = iter(apart)
    given = [next(flat) + next(flat) if affine else next(flat) for affine in is_affine]
    wanted = [one for one in apart if isinstance(one, Tensor) and one.requires_grad]
    results = plain(*given)
    outputs = results if isinstance(results, tuple) else (results,)
    found = iter(
        torch.autograd.grad(outputs, wanted, gradients, create_graph=True, allow_unused=True, materialize_grads=True)
    )
    return [next(found) if isinstance(one, Tensor) and one.requires_grad else None for one in apart]
