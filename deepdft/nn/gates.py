"""Gates on scalars (n, H) and vectors (n, 3, H): a dozen operations of torch are one pass through memory on the CPU.

Each is a `Fused` operation: the plain form says what it is, and is used for double precision, on other devices and
where second derivatives are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deepdft.nn import gate_kernels
from deepdft.nn.arrays import arrays
from deepdft.nn.radial import safe_norm

__all__ = ["blend", "blend_both", "invariants", "update_both"]

Shapes = Sequence[Sequence[int]]


@dataclass(frozen=True, eq=False)
class Fused:
    """A function of tensors with n rows each, whose rows do not know of each other."""

    plain: Callable[..., tuple[Tensor, ...]]
    """What it is, in torch."""
    shapes: Callable[[int, int], tuple[Shapes, Shapes]]
    """n and H → shapes of the inputs, the last of which ends with H, and of the results."""
    values: Callable[..., None]
    """Compiled: inputs and results, which it fills."""
    derivatives: Callable[..., None]
    """Compiled: inputs, derivatives by the results, and derivatives by the inputs, which it fills."""

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        given, expected = [one.shape for one in inputs], self.shapes(len(inputs[-1]), inputs[-1].shape[-1])[0]
        if given != list(expected):
            raise ValueError(f"expected tensors of shapes {[*map(tuple, expected)]}, got {[*map(tuple, given)]}")
        if all(one.device.type == "cpu" and one.dtype == torch.float32 for one in inputs):
            return _Apply.apply(self, *inputs)
        return self.plain(*inputs)


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operation: Fused, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.operation = operation
        ctx.save_for_backward(*inputs)
        shapes = operation.shapes(len(inputs[-1]), inputs[-1].shape[-1])[1]
        results = [inputs[0].new_empty(*shape) for shape in shapes]
        operation.values(*arrays(*inputs, *results))
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives are wanted
            apart = [one.view_as(one) for one in inputs]  # what one input is of another does not belong here
            wanted = [one for one in apart if one.requires_grad]
            found = iter(torch.autograd.grad(ctx.operation.plain(*apart), wanted, gradients, create_graph=True))
            return None, *(next(found) if one.requires_grad else None for one in apart)
        by_inputs = [torch.empty_like(one, memory_format=torch.contiguous_format) for one in inputs]
        ctx.operation.derivatives(*arrays(*inputs, *gradients, *by_inputs))
        return None, *by_inputs


def blend(gate: Tensor, state: Tensor, update: Tensor) -> Tensor:
    """F ⊙ state + (1 - F) ⊙ update, with F = sigmoid(gate); in the state's precision, also if networks have a lower.

    Args:
        gate: (n, H).
        state: (n, H), or (1, H) if all are alike.
        update: (n, H).
    """
    (result,) = _BLEND(*torch.broadcast_tensors(gate.to(state.dtype), state, update.to(state.dtype)))
    return result


def blend_both(gates: Tensor, scalar: Tensor, vector: Tensor, message: Tensor) -> tuple[Tensor, Tensor]:
    """The same for scalars and vectors, which have gates of their own.

    Args:
        gates: (n, 2H), for scalars and vectors.
        scalar: (n, H).
        vector: (n, 3, H).
        message: (n, 4, H), scalars and vectors to blend with.
    """
    new_scalar, new_vector = _BLEND_BOTH(gates.to(scalar.dtype), scalar, vector, message)
    return new_scalar, new_vector


def invariants(scalar: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Scalars beside lengths, [scalar, |v|] (n, 2H), and products ⟨u, v⟩ (n, H).

    Args:
        scalar: (n, H).
        u: (n, 3, H).
        v: (n, 3, H).
    """
    lengths, products = _INVARIANTS(scalar, u.to(scalar.dtype), v.to(scalar.dtype))
    return lengths, products


def update_both(scalar: Tensor, vector: Tensor, amounts: Tensor, products: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """scalar + a_ss + a_sv ⊙ products, and vector + a_vv ⊙ u.

    Args:
        scalar: (n, H).
        vector: (n, 3, H).
        amounts: (n, 3H), a_ss, a_sv, a_vv.
        products: (n, H).
        u: (n, 3, H).
    """
    new_scalar, new_vector = _UPDATE_BOTH(scalar, vector, amounts.to(scalar.dtype), products, u.to(scalar.dtype))
    return new_scalar, new_vector


def _plain_blend(gate: Tensor, state: Tensor, update: Tensor) -> tuple[Tensor]:
    return (torch.lerp(update, state, torch.sigmoid(gate)),)


def _plain_blend_both(gates: Tensor, scalar: Tensor, vector: Tensor, message: Tensor) -> tuple[Tensor, Tensor]:
    of_scalar, of_vector = torch.sigmoid(gates).chunk(2, dim=1)
    return torch.lerp(message[:, 0], scalar, of_scalar), torch.lerp(message[:, 1:], vector, of_vector[:, None])


def _plain_invariants(scalar: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([scalar, safe_norm(v, dim=1)], dim=1), (u * v).sum(dim=1)


def _plain_update_both(
    scalar: Tensor, vector: Tensor, amounts: Tensor, products: Tensor, u: Tensor
) -> tuple[Tensor, Tensor]:
    a_ss, a_sv, a_vv = amounts.chunk(3, dim=1)
    return torch.addcmul(scalar + a_ss, a_sv, products), torch.addcmul(vector, a_vv[:, None], u)


_BLEND = Fused(
    _plain_blend,
    lambda n, h: ([(n, h)] * 3, [(n, h)]),
    gate_kernels.blend_values,
    gate_kernels.blend_derivatives,
)
_BLEND_BOTH = Fused(
    _plain_blend_both,
    lambda n, h: ([(n, 2 * h), (n, h), (n, 3, h), (n, 4, h)], [(n, h), (n, 3, h)]),
    gate_kernels.blend_both_values,
    gate_kernels.blend_both_derivatives,
)
_INVARIANTS = Fused(
    _plain_invariants,
    lambda n, h: ([(n, h), (n, 3, h), (n, 3, h)], [(n, 2 * h), (n, h)]),
    gate_kernels.invariants_values,
    gate_kernels.invariants_derivatives,
)
_UPDATE_BOTH = Fused(
    _plain_update_both,
    lambda n, h: ([(n, h), (n, 3, h), (n, 3 * h), (n, h), (n, 3, h)], [(n, h), (n, 3, h)]),
    gate_kernels.update_both_values,
    gate_kernels.update_both_derivatives,
)
