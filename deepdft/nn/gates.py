"""Gates on scalars (n, H) and vectors (n, 3, H): a dozen operations of torch are one pass through memory on the CPU.

Each is a `Fused` operation: the plain form says what it is, and is used for double precision, on other devices and
where second derivatives are wanted. Linear maps among its inputs have their bias added in the same pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from deepdft.nn import gate_kernels
from deepdft.nn.affine import Affine
from deepdft.nn.arrays import arrays
from deepdft.nn.radial import safe_norm

__all__ = ["blend", "blend_both", "invariants", "update_both"]

Shapes = Sequence[Sequence[int]]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Fused:
    """A function of tensors with n rows each, whose rows do not know of each other; one row may stand for all."""

    plain: Callable[..., tuple[Tensor, ...]]
    """What it is, in torch."""
    shapes: Callable[[int, int], tuple[Shapes, Shapes]]
    """n and H → shapes of the inputs, the last of which ends with H, and of the results."""
    values: Callable[..., None]
    """Compiled: inputs, a linear map as product and bias, and results, which it fills."""
    derivatives: Callable[..., None]
    """Compiled: inputs, derivatives by the results, and derivatives by the inputs without biases, which it fills."""
    affine: tuple[int, ...] = ()
    """Which inputs are linear maps."""

    def __call__(self, *inputs: Tensor | Affine) -> tuple[Tensor, ...]:
        """The results, in the precision of the tensors: linear maps may have a lower one."""
        tensors = [one for one in inputs if isinstance(one, Tensor)]
        in_one_pass = all(one.device.type == "cpu" and one.dtype == torch.float32 for one in tensors)
        given = [one if isinstance(one, Tensor) else _computed(one, in_one_pass).to(tensors[0]) for one in inputs]
        n, size = next((len(one) for one in given if len(one) != 1), 1), given[-1].shape[-1]
        given = [one.expand(n, *one.shape[1:]) for one in given]
        shapes, expected = [one.shape for one in given], self.shapes(n, size)[0]
        if shapes != list(expected):
            raise ValueError(f"expected tensors of shapes {[*map(tuple, expected)]}, got {[*map(tuple, shapes)]}")
        if not in_one_pass:
            return self.plain(*given)
        biases = [one.bias for one in inputs if isinstance(one, Affine)]
        return _Apply.apply(self, *given, *biases) if torch.is_grad_enabled() else self.results(given, biases)

    def results(self, given: Sequence[Tensor], biases: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """In one pass, without derivatives."""
        shapes = self.shapes(len(given[-1]), given[-1].shape[-1])[1]
        results = tuple(given[-1].new_empty(*shape) for shape in shapes)
        self.values(*arrays(*self.with_biases(given, biases), *results))
        return results

    def with_biases(self, given: Sequence[T], biases: Sequence[T]) -> list[T]:
        """Inputs of the compiled loops: each bias behind its product."""
        places = dict(zip(self.affine, biases, strict=True))
        return [one for i, product in enumerate(given) for one in ((product, places[i]) if i in places else (product,))]


def _computed(one: Affine, in_one_pass: bool) -> Tensor:
    return one.product() if in_one_pass else one.value()


class _Apply(torch.autograd.Function):
    """The inputs, linear maps as their products, then the biases."""

    @staticmethod
    def forward(ctx: Any, operation: Fused, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.operation, ctx.n_inputs = operation, len(inputs) - len(operation.affine)
        ctx.save_for_backward(*inputs)
        given, biases = inputs[: ctx.n_inputs], inputs[ctx.n_inputs :]
        return operation.results(given, biases)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        operation: Fused = ctx.operation
        inputs = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives are wanted
            apart = [one.view_as(one) for one in inputs]  # what one input is of another does not belong here
            wanted = [one for one in apart if one.requires_grad]
            given, biases = apart[: ctx.n_inputs], apart[ctx.n_inputs :]
            for place, bias in zip(operation.affine, biases, strict=True):
                given[place] = given[place] + bias
            found = iter(torch.autograd.grad(operation.plain(*given), wanted, gradients, create_graph=True))
            return None, *(next(found) if one.requires_grad else None for one in apart)
        given, biases = inputs[: ctx.n_inputs], inputs[ctx.n_inputs :]
        by_given = [torch.empty_like(one, memory_format=torch.contiguous_format) for one in given]
        operation.derivatives(*arrays(*operation.with_biases(given, biases), *gradients, *by_given))
        return None, *by_given, *(by_given[place].sum(dim=0) for place in operation.affine)


def blend(gate: Affine, state: Tensor, update: Affine) -> Tensor:
    """F ⊙ state + (1 - F) ⊙ update, with F = sigmoid(gate).

    Args:
        gate: (n, H), or (1, H) if all are alike, as each of these.
        state: (n, H).
        update: (n, H).
    """
    (result,) = _BLEND(gate, state, update)
    return result


def blend_both(gates: Affine, scalar: Tensor, vector: Tensor, message: Tensor) -> tuple[Tensor, Tensor]:
    """The same for scalars and vectors, which have gates of their own.

    Args:
        gates: (n, 2H), for scalars and vectors.
        scalar: (n, H).
        vector: (n, 3, H).
        message: (n, 4, H), scalars and vectors to blend with.
    """
    new_scalar, new_vector = _BLEND_BOTH(gates, scalar, vector, message)
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


def update_both(scalar: Tensor, vector: Tensor, amounts: Affine, products: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """scalar + a_ss + a_sv ⊙ products, and vector + a_vv ⊙ u.

    Args:
        scalar: (n, H).
        vector: (n, 3, H).
        amounts: (n, 3H), a_ss, a_sv, a_vv.
        products: (n, H).
        u: (n, 3, H).
    """
    new_scalar, new_vector = _UPDATE_BOTH(scalar, vector, amounts, products, u.to(scalar.dtype))
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
    affine=(0, 2),
)
_BLEND_BOTH = Fused(
    _plain_blend_both,
    lambda n, h: ([(n, 2 * h), (n, h), (n, 3, h), (n, 4, h)], [(n, h), (n, 3, h)]),
    gate_kernels.blend_both_values,
    gate_kernels.blend_both_derivatives,
    affine=(0,),
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
    affine=(2,),
)
