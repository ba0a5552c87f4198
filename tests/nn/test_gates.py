"""Gates in one compiled pass agree with the plain operations of torch, in first and second derivatives too."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from deepdft.nn.affine import Affine
from deepdft.nn.gates import gated_update, gated_update_vector, invariants, vector_update

N, H, N_IN = 11, 5, 3
SCALARS, VECTORS, HIDDEN = (N, H), (N, 3, H), (N, N_IN)
Operation = Callable[..., Tensor | tuple[Tensor, ...]]


def of_maps(operation: Operation, *affine: int) -> Operation:
    """The operation of x, weight and bias where it takes a linear map: at these places of its arguments."""

    def of_tensors(*inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        given, rest = [], list(inputs)
        while rest:
            given.append(Affine(rest.pop(0), rest.pop(0), rest.pop(0)) if len(given) in affine else rest.pop(0))
        return operation(*given)

    return of_tensors


def linear(n_out: int) -> list[tuple[int, ...]]:
    return [HIDDEN, (n_out, N_IN), (n_out,)]


OPERATIONS = {
    "gated_update": (of_maps(gated_update, 0, 2), [*linear(H), SCALARS, *linear(H)]),
    "gated_update_vector": (of_maps(gated_update_vector, 0), [*linear(2 * H), SCALARS, VECTORS, (N, 4, H)]),
    "invariants": (invariants, [SCALARS, VECTORS, VECTORS]),
    "vector_update": (of_maps(vector_update, 2), [SCALARS, VECTORS, *linear(3 * H), SCALARS, VECTORS]),
}


def results_and_derivatives(operation: Operation, inputs: list[Tensor], *, twice: bool) -> list[Tensor]:
    """Results, the derivatives of a weighted sum of them, and (twice) those of the squares of the derivatives."""
    results = operation(*inputs)
    results = (results,) if isinstance(results, Tensor) else results
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(one.shape, generator=generator, dtype=torch.float64).to(one) for one in results]
    first = torch.autograd.grad(results, inputs, weights, create_graph=twice)
    if not twice:
        return [*results, *first]
    squares = sum(one.square().sum() for one in first)
    return [*results, *first, *torch.autograd.grad(squares, inputs, allow_unused=True, materialize_grads=True)]


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("twice", [False, True])
def test_one_pass_is_the_plain_form_in_double_precision(name: str, twice: bool) -> None:
    torch.manual_seed(0)
    operation, shapes = OPERATIONS[name]
    exact = [(2.0 * torch.randn(shape, dtype=torch.float64)).requires_grad_() for shape in shapes]
    single = [one.detach().float().requires_grad_() for one in exact]
    expected = results_and_derivatives(operation, exact, twice=twice)
    found = results_and_derivatives(operation, single, twice=twice)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=2e-5, atol=1e-4 if twice else 1e-5)


@pytest.mark.parametrize("name", OPERATIONS)
def test_inputs_need_neither_gradients_nor_be_in_one_piece(name: str) -> None:
    torch.manual_seed(0)
    operation, shapes = OPERATIONS[name]
    inputs = [torch.randn(*shape[::-1]).permute(*reversed(range(len(shape)))) for shape in shapes]  # strided
    exact = [one.detach().double() for one in inputs]
    slopes = []
    for given in (inputs, exact):
        given[-1].requires_grad_()
        results = operation(*given)
        results = (results,) if isinstance(results, Tensor) else results
        slopes += torch.autograd.grad(torch.cat([one.flatten() for one in results]).sum(), given[-1])
    torch.testing.assert_close(slopes[0], slopes[1].float(), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("name", OPERATIONS)
def test_derivatives_where_one_input_is_made_of_another(name: str) -> None:
    torch.manual_seed(0)
    operation, shapes = OPERATIONS[name]
    factors = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    x = torch.randn(H, dtype=torch.float64)

    def both(dtype: torch.dtype, *, twice: bool) -> list[Tensor]:
        source = x.to(dtype).requires_grad_()

        def of_source(source: Tensor) -> Tensor | tuple[Tensor, ...]:
            inputs = [torch.sin(factors[-1].to(dtype) * source)]
            for factor in reversed(factors[:-1]):  # each is made of the one before
                inputs.insert(0, factor.to(dtype) * torch.cos(inputs[0].mean()))
            return operation(*inputs)

        return results_and_derivatives(of_source, [source], twice=twice)

    expected = both(torch.float64, twice=True)
    for twice in (False, True):
        tolerances = [1e-4] * (len(expected) - 1) + [5e-3]  # a second derivative goes with 1 / |v|
        for one, other, tolerance in zip(both(torch.float32, twice=twice), expected, tolerances, strict=False):
            torch.testing.assert_close(one, other.float(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_shapes_are_refused(dtype: torch.dtype) -> None:
    scalar, vector, message = (torch.zeros(shape, dtype=dtype) for shape in (SCALARS, (N, 4, H), (N, 4, H)))
    gates = Affine(*(torch.zeros(shape, dtype=dtype) for shape in linear(2 * H)))
    with pytest.raises(ValueError, match="expected tensors of shapes"):
        gated_update_vector(gates, scalar, vector, message)


def test_lengths_of_zero_have_derivatives() -> None:
    vectors = torch.zeros(*VECTORS, requires_grad=True)
    lengths, products = invariants(torch.zeros(SCALARS), torch.ones(VECTORS), vectors)
    assert (lengths <= 1e-6).all()
    (slope,) = torch.autograd.grad(lengths.sum() + products.sum(), vectors)
    torch.testing.assert_close(slope, torch.ones(VECTORS))


def identity(x: Tensor) -> Affine:
    return Affine(x, torch.eye(x.shape[1], dtype=x.dtype), torch.zeros(x.shape[1]))


def test_one_row_for_all() -> None:
    gate, update = torch.randn(1, H), torch.randn(SCALARS)
    state = torch.randn(1, H, requires_grad=True)
    expected = update + torch.sigmoid(gate) * (state - update)
    found = gated_update(identity(gate), state, identity(update))
    torch.testing.assert_close(found, expected)
    (slope,) = torch.autograd.grad(found.sum(), state)
    torch.testing.assert_close(slope, N * torch.sigmoid(gate))


def test_networks_of_lower_precision_leave_the_states_as_they_are() -> None:
    gate, state, update = torch.randn(SCALARS).bfloat16(), torch.randn(SCALARS), torch.randn(SCALARS).bfloat16()
    found = gated_update(identity(gate), state, identity(update))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, gated_update(identity(gate.float()), state, identity(update.float())))
