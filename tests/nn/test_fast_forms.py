"""Compiled forms agree with the plain ones, also in their gradients: soft-plus, networks side by side, messages."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from deepdft import chunks
from deepdft.nn.activations import Activation, ShiftedSoftplus, SiLU, Softplus, softplus
from deepdft.nn.affine import Affine
from deepdft.nn.equivariant import equivariant_sum
from deepdft.nn.interpolation import Interpolation, Tabulated
from deepdft.nn.mlp import side_by_side, two_layers
from deepdft.nn.scatter import filtered_sum, softplus_of_pairs

N_KNOTS, N_EDGES, N_ATOMS, N_PROBES, H = 20, 30, 4, 6, 3


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def edges() -> tuple[Interpolation, Tensor, Tensor]:
    """Where the filters are looked up, senders and receivers; the last receiver has no edge."""
    torch.manual_seed(0)
    at = Interpolation(2.0 + 15.0 * torch.rand(N_EDGES, dtype=torch.float64), N_KNOTS)
    receiver = torch.randint(N_PROBES - 1, (N_EDGES,)).sort().values
    return at, torch.randint(N_ATOMS, (N_EDGES,)), receiver


@pytest.mark.parametrize("largest", [5.0, 60.0, 300.0])
def test_soft_plus_is_torch_s_up_to_the_rounding_of_one(largest: float) -> None:
    x = torch.linspace(-largest, largest, 1001, requires_grad=True)
    expected = functional.softplus(x.double())
    assert ((softplus(x) - expected).abs() <= 1.3e-7 * (1.0 + expected)).all()
    (slope,) = torch.autograd.grad(softplus(x).sum(), x)
    assert (slope - torch.sigmoid(x)).abs().max() < 2e-7


def test_soft_plus_has_the_derivatives_of_its_values_also_the_second() -> None:
    x = random(40)
    assert torch.autograd.gradcheck(softplus, x)
    assert torch.autograd.gradgradcheck(softplus, x)
    second = []
    for dtype in (torch.float32, torch.float64):
        y = x.detach().to(dtype).requires_grad_()
        (first,) = torch.autograd.grad(softplus(y).sum(), y, create_graph=True)
        second += torch.autograd.grad(first.square().sum(), y)
    torch.testing.assert_close(second[0], second[1].float(), rtol=1e-5, atol=1e-6)
    assert softplus(torch.empty(0, 3)).shape == (0, 3)


def test_soft_plus_is_exact_where_it_is_small() -> None:
    x = torch.linspace(-60.0, 5.0, 1001)
    expected = functional.softplus(x.double(), threshold=100.0)
    assert ((softplus(x).double() - expected).abs() <= (1e-6 + 6e-8 * x.abs()) * expected).all()
    assert torch.equal(softplus(x.view(7, 11, 13).mT), softplus(x).view(7, 11, 13).mT)


def test_soft_plus_of_what_is_not_finite() -> None:
    x = torch.tensor([torch.nan, torch.inf, -torch.inf], requires_grad=True)
    values = softplus(x)
    (slopes,) = torch.autograd.grad(values.sum(), x)
    for found, expected in ((values, [torch.nan, torch.inf, 0.0]), (slopes, [torch.nan, 1.0, 0.0])):
        torch.testing.assert_close(found, torch.tensor(expected), rtol=0.0, atol=1e-30, equal_nan=True)


ACTIVATIONS = {
    Softplus: functional.softplus,
    ShiftedSoftplus: lambda x: functional.softplus(x) - math.log(2.0),
    SiLU: functional.silu,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_of_numbers_and_of_linear_maps_are_torch_s(activation: type[Activation]) -> None:
    torch.manual_seed(0)
    exact = [2.0 * random(11, 5), random(7, 5), random(7)]
    single = [one.detach().float().requires_grad_() for one in exact]
    expected = ACTIVATIONS[activation](functional.linear(*exact))
    weights = torch.randn(11, 7, dtype=torch.float64)
    first = torch.autograd.grad(expected, exact, weights, create_graph=True)
    second = torch.autograd.grad(sum(one.square().sum() for one in first), exact)
    for given in (single, exact):
        of_map, of_numbers = activation()(Affine(*given)), activation()(functional.linear(*given))
        by_inputs = torch.autograd.grad(of_map, given, weights.to(of_map), retain_graph=True)
        twice = torch.autograd.grad(of_map, given, weights.to(of_map), create_graph=True)
        squares = torch.autograd.grad(sum(one.square().sum() for one in twice), given)
        with torch.no_grad():
            without = activation()(Affine(*given))
        found = [of_map, of_numbers, without, *by_inputs, *twice, *squares]
        for one, other in zip(found, [expected] * 3 + [*first, *first, *second], strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5 if given is single else 1e-10)


def test_soft_plus_of_pairs_is_that_of_their_sums(edges: tuple[Interpolation, Tensor, Tensor]) -> None:
    _, sender, receiver = edges
    inputs = [random(N_ATOMS, H), random(N_PROBES, H)]

    def plain(sent: Tensor, received: Tensor) -> Tensor:
        return functional.softplus(sent[sender] + received[receiver], threshold=100.0) - 0.5

    def ours(sent: Tensor, received: Tensor) -> Tensor:
        return softplus_of_pairs(sent, received, sender, receiver, shift=0.5)

    torch.testing.assert_close(ours(*inputs), plain(*inputs), rtol=0.0, atol=1e-14)
    weights = torch.randn(N_EDGES, H)
    single = [tensor.detach().float().requires_grad_() for tensor in inputs]
    expected = [plain(*inputs), *torch.autograd.grad(plain(*inputs), inputs, weights.double(), create_graph=True)]
    found = [ours(*single), *torch.autograd.grad(ours(*single), single, weights)]
    twice = torch.autograd.grad(ours(*single), single, weights, create_graph=True)
    for one, other, with_graph in zip(found, expected, [ours(*single), *twice], strict=True):
        torch.testing.assert_close(one, other.float(), rtol=0.0, atol=2e-6)
        torch.testing.assert_close(with_graph, other.float(), rtol=0.0, atol=2e-6)
    second = [
        torch.autograd.grad(sum(d.square().sum() for d in by), of)[0]
        for by, of in ((twice, single[0]), (expected[1:], inputs[0]))
    ]
    torch.testing.assert_close(second[0], second[1].float(), rtol=0.0, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(ours(*single), plain(*inputs).float(), rtol=0.0, atol=1e-6)


def test_networks_side_by_side_are_each_network_alone() -> None:
    torch.manual_seed(0)
    first, second = (two_layers(5, 7, n_out, Softplus).double() for n_out in (2, 3))
    x = random(11, 5)
    for found, network in zip(side_by_side(first, second, x), (first, second), strict=True):
        torch.testing.assert_close(found.value(), network(x), rtol=0.0, atol=1e-14)


def test_filtered_sums_in_one_pass_are_those_of_messages(edges: tuple[Interpolation, Tensor, Tensor]) -> None:
    at, sender, receiver = edges

    def fast(sent: Tensor, table: Tensor) -> Tensor:
        return filtered_sum(sent, Tabulated(table, at), sender, receiver, N_PROBES)

    sent, table = random(N_ATOMS, H), random(N_KNOTS, H)
    plain = filtered_sum(sent, at(table), sender, receiver, N_PROBES)
    torch.testing.assert_close(fast(sent, table), plain, rtol=0.0, atol=1e-13)
    assert torch.autograd.gradcheck(fast, (sent, table))


@pytest.mark.parametrize("order", [1, 3])
def test_equivariant_sums_in_one_pass_are_those_of_messages(
    order: int, edges: tuple[Interpolation, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    at, sender, receiver = edges
    n_harmonics = (order + 1) ** 2 - 1
    harmonics = torch.randn(N_EDGES, n_harmonics, dtype=torch.float64)

    def fast(sent: Tensor, table: Tensor) -> Tensor:
        return equivariant_sum(sent, Tabulated(table, at), harmonics, sender, receiver, N_PROBES)

    monkeypatch.setattr(chunks.CPU, "edges_encoded", 13)
    sent, table = random(N_ATOMS, 1 + order + n_harmonics, H), random(N_KNOTS, (1 + 2 * order) * H)
    plain = equivariant_sum(sent, at(table), harmonics, sender, receiver, N_PROBES)
    torch.testing.assert_close(fast(sent, table), plain, rtol=0.0, atol=1e-13)
    assert torch.autograd.gradcheck(fast, (sent, table))


def test_equivariant_sums_are_their_formula(edges: tuple[Interpolation, Tensor, Tensor]) -> None:
    _, sender, receiver = edges
    sent, filters = random(N_ATOMS, 1 + 2 + 8, H), random(N_EDGES, 5 * H)
    harmonics = torch.randn(N_EDGES, 8, dtype=torch.float64)
    expected = torch.zeros(N_PROBES, 9, H, dtype=torch.float64)
    for w, v, (c, b1, b2, a1, a2), y in zip(sender, receiver, filters.unflatten(1, (5, H)), harmonics, strict=True):
        expected[v, 0] += c * sent[w, 0]
        for m in range(8):
            along, kept = (b1 * sent[w, 1], a1) if m < 3 else (b2 * sent[w, 2], a2)
            expected[v, 1 + m] += along * y[m] + kept * sent[w, 3 + m]
    found = equivariant_sum(sent, filters, harmonics, sender, receiver, N_PROBES)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-13)


def test_sums_are_made_in_full_precision_whatever_the_networks_have(
    edges: tuple[Interpolation, Tensor, Tensor],
) -> None:
    at, sender, receiver = edges
    sent, table, harmonics = random(N_ATOMS, 5, H).bfloat16(), random(N_KNOTS, 3 * H).bfloat16(), random(N_EDGES, 3)
    tabulated, plain = (
        equivariant_sum(sent, filters, harmonics, sender, receiver, N_PROBES)
        for filters in (Tabulated(table, at), at(table.double()))
    )
    assert tabulated.dtype == plain.dtype == torch.float64
    torch.testing.assert_close(tabulated, plain, rtol=0.0, atol=1e-13)
    summed = filtered_sum(sent[:, 0], Tabulated(table[:, :H], at), sender, receiver, N_PROBES)
    expected = filtered_sum(sent[:, 0].double(), at(table[:, :H].double()), sender, receiver, N_PROBES)
    torch.testing.assert_close(summed, expected, rtol=0.0, atol=1e-13)


def test_loops_are_compiled_also_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code = (
        "import torch; from deepdft.nn.interpolation import Interpolation, Tabulated;"
        "from deepdft.nn.scatter import filtered_sum;"
        "table = Tabulated(torch.ones(9, 2), Interpolation(torch.ones(3), 9));"
        "print(filtered_sum(torch.ones(1, 2), table, torch.zeros(3).long(), torch.tensor([0, 0, 1]), 2).tolist())"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "file" / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert np.allclose(json.loads(done.stdout), [[2.0, 2.0], [1.0, 1.0]])


@pytest.mark.parametrize(("variable", "value"), [("NUMBA_CPU_FEATURES", "+sse2"), ("NUMBA_ENABLE_AVX", "0")])
def test_what_the_user_says_of_the_processor_has_precedence(variable: str, value: str) -> None:
    code = "import deepdft.compiled, numba; print(numba.config.CPU_FEATURES)"
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {variable: value}, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == ("+sse2" if variable == "NUMBA_CPU_FEATURES" else "None")
