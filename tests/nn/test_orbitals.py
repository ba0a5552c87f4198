"""Sums of atom-centred functions: blocks, shells, and how the functions end."""

from dataclasses import replace

import pytest
import torch
from ase.build import molecule

from deepdft.graph.batch import ProbeGraph, Structures
from deepdft.graph.blocks import compact_blocks
from deepdft.graph.neighbors import atom_graph, structures_from_atoms
from deepdft.models.orbital import Orbital
from deepdft.nn import fast
from deepdft.nn.orbital_blocks import radial_about, with_harmonics
from deepdft.nn.orbitals import OrbitalBasis
from deepdft.nn.spherical import solid_harmonics


def basis(**options) -> OrbitalBasis:
    settings = {"l_max": 2, "smallest_exponent": 0.3, "largest_exponent": 40.0, "cutoff": 4.0}
    return OrbitalBasis(**{"n_radial": 6} | settings | options).double()


def all_edges(n_atoms: int, points: torch.Tensor, atoms: torch.Tensor, cutoff: float) -> ProbeGraph:
    distance = (points[:, None] - atoms).norm(dim=-1)
    receiver, sender = (distance < cutoff).nonzero(as_tuple=True)
    shift = points.new_zeros(len(sender), 3)
    return ProbeGraph(points, torch.zeros(len(points), dtype=torch.long), torch.stack([sender, receiver]), shift)


@pytest.mark.parametrize("n_probes", [0, 1, 700])
def test_orbitals_are_the_sums_over_atoms(n_probes: int) -> None:
    torch.manual_seed(0)
    functions = basis()
    atoms = torch.rand(5, 3, dtype=torch.float64) * torch.tensor([3.0, 3.0, 30.0])  # unequal numbers of edges
    points = torch.rand(n_probes, 3, dtype=torch.float64) * 4
    coefficients = torch.randn(5, 6, 9, 3, dtype=torch.float64)
    with torch.no_grad():
        found = functions(coefficients, atoms, all_edges(5, points, atoms, 4.0))

    exponents = functions.exponents
    assert torch.allclose(exponents, 0.3 * (40 / 0.3) ** (torch.arange(6, dtype=torch.float64) / 5), rtol=1e-6)
    vectors = points[:, None] - atoms
    squared = vectors.square().sum(dim=-1, keepdim=True)
    reach = torch.empty(6, dtype=torch.float64)
    for shell in functions.shells:
        reach[shell.radials] = shell.reach
    radial = torch.exp(-exponents * squared) * (1 - squared / reach**2).clamp(min=0) ** 3
    expected = torch.einsum("pan,pai,anik->pk", radial, solid_harmonics(vectors, 2), coefficients)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("l_max", "n_radial", "n_orbitals"), [(0, 1, 1), (0, 6, 2), (1, 5, 2), (2, 7, 21), (3, 12, 13), (4, 3, 4)]
)
@pytest.mark.parametrize(("n_atoms", "n_probes"), [(1, 0), (3, 1), (5, 700)])
def test_compiled_sums_are_those_of_torch_and_so_are_their_derivatives(
    l_max: int, n_radial: int, n_orbitals: int, n_atoms: int, n_probes: int
) -> None:
    torch.manual_seed(0)
    functions = basis(l_max=l_max, n_radial=n_radial).float()
    atoms, points = torch.rand(n_atoms, 3) * 3.0, torch.rand(n_probes, 3) * 5.0
    edges = all_edges(n_atoms, points, atoms, 4.0)
    shift = torch.rand(len(edges.edge_shift), 3)  # some edges are longer than every reach
    probes = ProbeGraph(points, edges.structure, edges.edge_index, shift)
    shape = n_atoms, n_radial, (l_max + 1) ** 2, n_orbitals
    coefficients = torch.randn(shape, requires_grad=True)
    weights, others = torch.randn(n_probes, n_orbitals, requires_grad=True), torch.randn(shape)

    def with_derivatives(values: torch.Tensor) -> list[torch.Tensor]:
        (first,) = torch.autograd.grad(values, coefficients, weights, create_graph=True)
        return [values, first, *torch.autograd.grad(first, weights, others)]

    found = with_derivatives(functions(coefficients, atoms, probes))
    with fast.disabled():
        expected = with_derivatives(functions(coefficients, atoms, probes))
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert one.dtype == torch.float32
        largest = other.abs().max().item() if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=0.0, atol=3e-6 * largest)
    assert found[0].abs().sum() > 0.0 or n_probes == 0

    moved = replace(probes, positions=points.clone().requires_grad_())  # which compiled sums have no derivatives by
    (slope,) = torch.autograd.grad(functions(coefficients, atoms, moved).sum(), moved.positions)
    assert slope.shape == points.shape


class Lorentzian(OrbitalBasis):
    compiled = False

    def radial(self, squared: torch.Tensor, shell: object) -> torch.Tensor:
        end = (1.0 - squared / shell.reach**2).clamp(min=0.0) ** 3
        return end / (1.0 + self.exponents[shell.radials, None] * squared)


def test_other_radial_functions_and_learned_exponents_are_not_taken_for_gaussians() -> None:
    torch.manual_seed(0)
    options = {"l_max": 1, "smallest_exponent": 0.3, "largest_exponent": 40.0, "cutoff": 4.0}
    functions = Lorentzian(6, **options)
    atoms, points = torch.rand(3, 3) * 2.0, torch.rand(40, 3) * 3.0
    edges, coefficients = all_edges(3, points, atoms, 4.0), torch.randn(3, 6, 4, 2)
    structure = Structures(
        torch.ones(3, dtype=torch.int64),
        atoms,
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(1, 3, 3),
        torch.zeros(1, 3) > 0,
        torch.zeros(3),
    )
    with torch.no_grad():
        found = functions(coefficients, atoms, edges)
        (group,) = compact_blocks(structure, points, 4.0, largest=100)
        in_blocks = torch.empty_like(found).index_copy(0, group.index, functions.in_blocks(coefficients, group))
        exact = functions.double()(*(t.double() for t in (coefficients, atoms)), edges.to_dtype(torch.float64))
    for values in (found, in_blocks):
        assert (values - exact).abs().max() < 1e-5 * exact.abs().max()

    gaussians = OrbitalBasis(6, **options)
    gaussians.exponents.requires_grad_()
    (slope,) = torch.autograd.grad(gaussians(coefficients, atoms, edges).sum(), gaussians.exponents)
    assert slope.abs().min() > 0.0


def test_shells_hold_all_radial_functions_and_leave_little_of_a_gaussian_outside() -> None:
    functions = basis(n_radial=10)
    shells = functions.shells
    assert [n for shell in shells for n in range(10)[shell.radials]] == list(range(10))
    assert shells[0].reach == 4.0
    assert len(shells) == 3
    for shell in shells[1:]:
        assert (functions.exponents[shell.radials] * shell.reach**2).min() >= 10.0 * (1 - 1e-5)


def test_functions_are_twice_differentiable_where_they_end_and_on_an_atom() -> None:
    functions = basis()
    atoms = torch.zeros(1, 3, dtype=torch.float64)
    coefficients = torch.ones(1, 6, 9, 1, dtype=torch.float64)
    graph = all_edges(1, torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64), atoms, 4.0)

    def derivatives(x: float) -> torch.Tensor:
        point = torch.tensor([[x, 0.0, 0.0]], dtype=torch.float64)

        def value(p: torch.Tensor) -> torch.Tensor:
            probes = ProbeGraph(p, graph.structure, graph.edge_index, graph.edge_shift)
            return functions(coefficients, atoms, probes).sum()

        return torch.cat(
            [
                value(point)[None],
                torch.autograd.functional.jacobian(value, point).flatten(),
                torch.autograd.functional.hessian(value, point).flatten(),
            ]
        ).detach()

    for end in [shell.reach for shell in functions.shells]:
        assert torch.allclose(derivatives(end - 1e-9), derivatives(end + 1e-9), atol=1e-6)
    assert derivatives(functions.shells[0].reach).abs().max() == 0
    assert torch.allclose(derivatives(0.0), derivatives(1e-9), atol=1e-5)


def test_amplitudes_are_of_functions_that_hardly_overlap() -> None:
    functions = basis(l_max=4)
    r = torch.linspace(0, 4, 8001, dtype=torch.float64)[:, None]
    reach = torch.cat([torch.full((len(range(6)[shell.radials]),), shell.reach) for shell in functions.shells])
    radial = torch.exp(-functions.exponents * r**2) * (1 - r**2 / reach**2).clamp(min=0) ** 3

    def overlaps(values: torch.Tensor) -> torch.Tensor:
        values = values / (r * values).norm(dim=0)
        return (values.T @ (r**2 * values) - torch.eye(6)).abs()

    for order, first in enumerate([0, 1, 4, 9, 16]):
        # one amplitude at a time, for one m of this degree
        amplitudes = torch.zeros(6, 25, 6, 1, dtype=torch.float64)
        amplitudes[range(6), first, range(6), 0] = 1.0
        coefficients = functions.mixed(amplitudes)[:, :, first, 0]  # (amplitude, n)
        assert overlaps(r**order * radial).max() > 0.7
        assert overlaps(r**order * radial @ coefficients.T).max() < 0.05
        others = [i for i in range(25) if i != first]
        assert not functions.mixed(amplitudes)[:, :, others].any()


def test_compiled_loops_over_a_block_are_the_plain_forms() -> None:
    torch.manual_seed(0)
    exact, single = basis(), basis().float()
    positions, points = torch.randn(6, 3), 3.0 * torch.randn(3, 300)
    points[:, :6] = positions.T + 0.1
    sums, harmonics, rest = torch.randn(9, 4, 300), torch.randn(9, 300), torch.randn(4, 300)
    for shell in exact.shells:
        expected = radial_about(positions.double(), points.double(), shell, exact)
        assert (expected == 0.0).any()
        assert (expected > 0.1).any()
        with torch.no_grad():
            found = radial_about(positions, points, shell, single)
        torch.testing.assert_close(found.double(), expected, rtol=0.0, atol=2e-6)
    expected = rest.double() + torch.einsum("jkp,jp->kp", sums.double(), harmonics.double())
    with_gradients = with_harmonics(sums, harmonics, rest.clone())
    with torch.no_grad():
        found = with_harmonics(sums, harmonics, rest)
    for one in (found, with_gradients):
        torch.testing.assert_close(one.double(), expected, rtol=0.0, atol=1e-5)


def test_blocks_that_use_the_same_memory_do_not_know_of_each_other() -> None:
    torch.manual_seed(0)
    atoms, points = molecule("C6H6"), torch.randn(3000, 3)
    model = Orbital(hidden_size=8, n_interactions=1, n_orbitals=4)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    structures = structures_from_atoms([atoms])
    states = model.encode(atom_graph(structures, model.cutoff))
    with_gradients = model.decode_points(states, structures, points)
    with torch.no_grad():
        found = model.decode_points(states, structures, points)
    torch.testing.assert_close(found, with_gradients.detach(), rtol=1e-4, atol=1e-5 * found.abs().max().item())
