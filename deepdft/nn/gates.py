"""Gates on scalars (n, H) and vectors (n, 3, H): a dozen operations of torch in one pass through memory on the CPU.

The compiled loops (`nn.fast.gates`) add the bias of linear maps among the inputs in the same pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from deepdft.nn.affine import Affine
from deepdft.nn.fast import Operation, gates, single_on_cpu
from deepdft.nn.fast.arrays import arrays
from deepdft.nn.radial import safe_norm

__all__ = ["gated_update", "gated_update_vector", "invariants", "vector_update"]

Shapes = Sequence[tuple[int, ...]]


def gated_update(gate: Affine, state: Tensor, update: Affine) -> Tensor:
    """Gated update F ⊙ state + (1 - F) ⊙ update, with F = sigmoid(gate).

    Args:
        gate: (n, H), or (1, H) if all are alike, as each of these.
        state: (n, H).
        update: (n, H).
    """
    return _GATED_UPDATE(gate, state, update)


def gated_update_vector(gates: Affine, scalar: Tensor, vector: Tensor, message: Tensor) -> tuple[Tensor, Tensor]:
    """Gated update of scalars and vectors, with separate gates.

    Args:
        gates: (n, 2H), for scalars and vectors.
        scalar: (n, H).
        vector: (n, 3, H).
        message: (n, 4, H), the new scalars and vectors.
    """
    return _GATED_UPDATE_VECTOR(gates, scalar, vector, message)


def invariants(scalar: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Scalars and lengths, [scalar, |v|] (n, 2H), and products ⟨u, v⟩ (n, H).

    Args:
        scalar: (n, H).
        u: (n, 3, H).
        v: (n, 3, H).
    """
    return _INVARIANTS(scalar, u.to(scalar.dtype), v.to(scalar.dtype))


def vector_update(
    scalar: Tensor, vector: Tensor, amounts: Affine, products: Tensor, u: Tensor
) -> tuple[Tensor, Tensor]:
    """Updated scalars, scalar + a_ss + a_sv ⊙ products, and vectors, vector + a_vv ⊙ u.

    Args:
        scalar: (n, H).
        vector: (n, 3, H).
        amounts: (n, 3H), a_ss, a_sv, a_vv.
        products: (n, H).
        u: (n, 3, H).
    """
    return _VECTOR_UPDATE(scalar, vector, amounts, products, u.to(scalar.dtype))


def _gated_update(gate: Tensor, state: Tensor, update: Tensor) -> Tensor:
    return torch.lerp(update, state, torch.sigmoid(gate))


def _gated_update_vector(gates: Tensor, scalar: Tensor, vector: Tensor, message: Tensor) -> tuple[Tensor, Tensor]:
    of_scalar, of_vector = torch.sigmoid(gates).chunk(2, dim=1)
    return torch.lerp(message[:, 0], scalar, of_scalar), torch.lerp(message[:, 1:], vector, of_vector[:, None])


def _invariants(scalar: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([scalar, safe_norm(v, dim=1)], dim=1), (u * v).sum(dim=1)


def _vector_update(
    scalar: Tensor, vector: Tensor, amounts: Tensor, products: Tensor, u: Tensor
) -> tuple[Tensor, Tensor]:
    a_ss, a_sv, a_vv = amounts.chunk(3, dim=1)
    return torch.addcmul(scalar + a_ss, a_sv, products), torch.addcmul(vector, a_vv[:, None], u)


def _applies(*inputs: Tensor | Affine) -> bool:
    return single_on_cpu(*(one for one in inputs if isinstance(one, Tensor)))


def _row_operation(
    plain: Callable[..., Any],
    shapes: Callable[[int, int], tuple[Shapes, Shapes]],
    values: Callable[..., None],
    gradients: Callable[..., None],
    affine: tuple[int, ...] = (),
) -> Callable[..., Any]:
    """A function of tensors with n rows each, whose rows are independent; a single row is broadcast.

    Args:
        plain: in torch.
        shapes: n and H → shapes of the inputs, the last of which ends with H, and of the results.
        values: compiled: inputs, a linear map as product and bias, and results, which it fills.
        gradients: compiled: inputs, gradients with respect to the results, and gradients with respect to the inputs
            without biases, which it fills.
        affine: which inputs are linear maps.
    """
    n_inputs = len(shapes(1, 1)[0])
    places = [place for i in range(n_inputs) for place in ((i, None) if i in affine else (i,))]
    of_rows = [k for k, place in enumerate(places) if place is not None]  # the others are biases
    products = [k for k in of_rows if places[k] in affine]

    def prepare(*inputs: Tensor) -> list[Tensor]:
        n = _n_rows(inputs[k] for k in of_rows)
        return [
            one if place is None or len(one) == n else one.expand(n, *one.shape[1:])
            for place, one in zip(places, inputs, strict=True)
        ]

    def forward(*inputs: Tensor) -> Any:
        last = inputs[of_rows[-1]]
        results = tuple(last.new_empty(*shape) for shape in shapes(len(last), last.shape[-1])[1])
        values(*arrays(*inputs, *results))
        return results if len(results) > 1 else results[0]

    def backward(inputs: Sequence[Any], kept: Sequence[Tensor], grad_results: Sequence[Tensor]) -> list[Tensor | None]:
        found = {k: torch.empty_like(inputs[k], memory_format=torch.contiguous_format) for k in of_rows}
        gradients(*arrays(*inputs, *grad_results, *found.values()))
        grad_biases = {k + 1: found[k].sum(dim=0) for k in products}
        return [(found | grad_biases)[k] for k in range(len(inputs))]

    operation = Operation(plain, _applies, forward, backward, prepare=prepare)

    def checked(*inputs: Tensor | Affine) -> Any:
        n = _n_rows(inputs)
        expected, found = [*shapes(n, inputs[-1].shape[-1])[0]], [(n, *one.shape[1:]) for one in inputs]
        if found != expected or any(len(one) not in (1, n) for one in inputs):
            raise ValueError(f"expected tensors of shapes {expected}, got {[tuple(one.shape) for one in inputs]}")
        return operation(*inputs)

    return checked


def _n_rows(inputs: Iterable[Tensor | Affine]) -> int:
    """The number of rows of inputs, some of which may have a single row for all."""
    return next((len(one) for one in inputs if len(one) != 1), 1)


_GATED_UPDATE = _row_operation(
    _gated_update,
    lambda n, h: ([(n, h)] * 3, [(n, h)]),
    gates.gated_update_values,
    gates.gated_update_gradients,
    affine=(0, 2),
)
_GATED_UPDATE_VECTOR = _row_operation(
    _gated_update_vector,
    lambda n, h: ([(n, 2 * h), (n, h), (n, 3, h), (n, 4, h)], [(n, h), (n, 3, h)]),
    gates.gated_update_vector_values,
    gates.gated_update_vector_gradients,
    affine=(0,),
)
_INVARIANTS = _row_operation(
    _invariants,
    lambda n, h: ([(n, h), (n, 3, h), (n, 3, h)], [(n, 2 * h), (n, h)]),
    gates.invariants_values,
    gates.invariants_gradients,
)
_VECTOR_UPDATE = _row_operation(
    _vector_update,
    lambda n, h: ([(n, h), (n, 3, h), (n, 3 * h), (n, h), (n, 3, h)], [(n, h), (n, 3, h)]),
    gates.vector_update_values,
    gates.vector_update_gradients,
    affine=(2,),
)
