"""The contract finds what is wrong with a model: each broken model fails the checks it breaks, and only those."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from deepdft.graph.batch import ProbeGraph, Structures
from deepdft.models.superposition import Superposition
from deepdft.nn.radial import safe_norm
from deepdft.nn.scatter import sum_over_neighbours
from deepdft.testing.contract import STRUCTURES, ModelContract

ROTATION = "test_a_rotated_structure_has_the_rotated_density"
REFLECTION = "test_a_mirrored_structure_has_the_mirrored_density"
TRANSLATION = "test_a_moved_structure_has_the_moved_density"
ORDER = "test_the_order_of_atoms_does_not_matter"
LATTICE = "test_lattice_vectors_may_be_added_to_atoms_and_points"
SUPERCELL = "test_a_supercell_has_the_density_of_its_cell"
BATCH = "test_a_batch_gives_what_its_structures_give_alone"
SLICES = "test_slices_of_points_give_what_the_whole_gives"
ANY_POINTS = "test_any_points_of_a_structure_have_the_density_that_edges_give"
LONELY = "test_one_atom_and_points_without_neighbours_have_a_density"
FIELD = "test_atoms_beyond_the_receptive_field_do_not_matter"
PROBE_CUTOFF = "test_the_density_is_smooth_where_a_probe_crosses_the_cutoff"
ATOM_CUTOFF = "test_the_density_is_smooth_where_an_atom_crosses_the_cutoff"
DERIVATIVES = "test_derivatives_at_probes_are_those_of_finite_differences"
FAR = "test_a_structure_far_from_the_origin_has_the_density_it_has_there"
PRECISION = "test_single_precision_is_close_to_double"
ON_GPU = "test_a_gpu_gives_what_the_cpu_gives"
CHECKS = [name for name in dir(ModelContract) if name.startswith("test_") and name != ON_GPU]


class Sound(Superposition):
    def __init__(self) -> None:
        super().__init__(n_functions=4, largest_exponent=4.0)
        torch.nn.init.uniform_(self.weights.weight)

    def vectors(self, states, probes: ProbeGraph) -> Tensor:
        return probes.edge_vectors(states.positions)


class Directional(Sound):
    """Prefers the x axis."""

    def decode(self, states, probes: ProbeGraph) -> Tensor:
        x = self.vectors(states, probes)[:, 0].square() * torch.exp(-safe_norm(self.vectors(states, probes)).square())
        return super().decode(states, probes) + sum_over_neighbours(x[:, None], probes.edge_index[1], probes.n_probes)


class Chiral(Sound):
    """Knows left from right: a triple product of three neighbour sums."""

    def decode(self, states, probes: ProbeGraph) -> Tensor:
        vectors, weights = self.vectors(states, probes), states.coefficients[probes.edge_index[0], :, 0, 0]
        sums = [
            sum_over_neighbours(
                vectors * (weights[:, k] * torch.exp(-(k + 1) * vectors.square().sum(-1)))[:, None],
                probes.edge_index[1],
                probes.n_probes,
            )
            for k in range(3)
        ]
        return super().decode(states, probes) + torch.linalg.det(torch.stack(sums, dim=-1))[:, None]


class Anchored(Sound):
    """Looks at absolute positions of probes."""

    def decode(self, states, probes: ProbeGraph) -> Tensor:
        return super().decode(states, probes) + 0.1 * probes.positions @ probes.positions.new_tensor(
            [[1.0], [2.0], [3.0]]
        )


class Ordered(Sound):
    """Numbers its atoms."""

    def encode(self, atoms):
        states = super().encode(atoms)
        states.coefficients.data *= 1 + 0.1 * (torch.arange(atoms.n_atoms) % 2)[:, None, None, None]
        return states


class Gossiping(Sound):
    """Lets structures of a batch see each other."""

    def encode(self, atoms):
        states = super().encode(atoms)
        states.coefficients.data *= atoms.structures.n_structures
        return states


class Crowded(Sound):
    """Lets probes see each other."""

    def decode(self, states, probes: ProbeGraph) -> Tensor:
        return super().decode(states, probes) * (1 + 0.1 * probes.n_probes)


class Abrupt(Sound):
    """Adds a function that has not ended at the cutoff."""

    def decode(self, states, probes: ProbeGraph) -> Tensor:
        wide = torch.exp(-0.1 * self.vectors(states, probes).square().sum(-1))
        return super().decode(states, probes) + sum_over_neighbours(
            wide[:, None], probes.edge_index[1], probes.n_probes
        )


class Careless(Sound):
    """Predicts something else where it goes without edges."""

    def decode_points(self, states, structures: Structures, points: Tensor) -> Tensor:
        return 1.001 * super().decode_points(states, structures, points)


class AbruptAtoms(Sound):
    """Counts neighbours of atoms."""

    def encode(self, atoms):
        states = super().encode(atoms)
        count = torch.bincount(atoms.edge_index[1], minlength=atoms.n_atoms)
        states.coefficients.data *= (1 + 0.1 * count)[:, None, None, None]
        return states


class Undivided(Sound):
    """Divides by the number of neighbours, which may be zero."""

    def decode(self, states, probes: ProbeGraph) -> Tensor:
        count = torch.bincount(probes.edge_index[1], minlength=probes.n_probes)
        return super().decode(states, probes) / count.clamp(max=1)[:, None]


class Detached(Sound):
    """Cuts the derivative with respect to probe positions."""

    def decode(self, states, probes: ProbeGraph) -> Tensor:
        density = super().decode(states, probes)
        return density.detach() + 0.0 * probes.positions.sum()


class Coarse(Sound):
    """Rounds to half precision where it is given single precision."""

    def decode(self, states, probes: ProbeGraph) -> Tensor:
        density = super().decode(states, probes)
        return density.half().float() if density.dtype == torch.float32 else density


class Intensive(Sound):
    """Shares a fixed amount among the atoms of the description."""

    def encode(self, atoms):
        states = super().encode(atoms)
        count = torch.bincount(atoms.structures.structure)[atoms.structures.structure]
        states.coefficients.data /= count[:, None, None, None]
        return states


class Imprecise(Sound):
    """Takes differences of positions that were rounded."""

    def decode(self, states, probes: ProbeGraph) -> Tensor:
        offset = 1e6 if probes.positions.dtype == torch.float32 else 0.0
        rounded = replace(probes, positions=(probes.positions + offset) - offset)
        return super().decode(states, rounded)


class Unwrapped(Sound):
    """Looks at where atoms are given, in the cell or outside."""

    def encode(self, atoms):
        states = super().encode(atoms)
        given = atoms.structures.positions - atoms.structures.positions.mean(dim=0)
        states.coefficients.data *= 1 + 0.1 * given.norm(dim=1)[:, None, None, None]
        return states


class Unshifted(Sound):
    """Forgets the lattice vector between an atom and its image."""

    def vectors(self, states, probes: ProbeGraph) -> Tensor:
        sender, receiver = probes.edge_index
        return probes.positions[receiver] - states.positions[sender]

    def decode(self, states, probes: ProbeGraph) -> Tensor:
        short = torch.exp(-self.vectors(states, probes).square().sum(-1))
        return super().decode(states, probes) + sum_over_neighbours(
            short[:, None], probes.edge_index[1], probes.n_probes
        )


def failures(make: Callable[[], Superposition]) -> set[str]:
    """The checks that a model fails, for any of the structures."""

    class Contract(ModelContract):
        def make_model(self) -> Superposition:
            return make()

    failed = set()
    for name in CHECKS:
        check = getattr(Contract(), name)
        takes_atoms = "atoms" in check.__annotations__
        for atoms in STRUCTURES.values() if takes_atoms else [None]:
            torch.manual_seed(0)
            model = make().double().eval()
            try:
                check(model, atoms.copy()) if takes_atoms else check(model)
            except (AssertionError, GradcheckError):
                failed.add(name)
                break
    return failed


def test_a_sound_model_fails_nothing() -> None:
    assert failures(Sound) == set()


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (Directional, {ROTATION, PROBE_CUTOFF}),
        (Chiral, {REFLECTION}),
        (Anchored, {ROTATION, REFLECTION, TRANSLATION, SUPERCELL, LONELY, FAR}),
        (Ordered, {ORDER, SUPERCELL}),
        (Gossiping, {BATCH}),
        (Crowded, {SLICES, BATCH, LONELY}),
        (Abrupt, {PROBE_CUTOFF}),
        (AbruptAtoms, {ATOM_CUTOFF, FIELD}),
        (Careless, {ANY_POINTS, PRECISION, FAR}),
        (Undivided, {LONELY, PROBE_CUTOFF, ANY_POINTS}),
        (Detached, {DERIVATIVES}),
        (Coarse, {PRECISION, FAR}),
        (Intensive, {SUPERCELL, FIELD}),
        (Unwrapped, {LATTICE, SUPERCELL, FAR, BATCH, FIELD}),
        (Imprecise, {FAR, PRECISION}),
        (Unshifted, {TRANSLATION, SUPERCELL, FAR}),
    ],
)
def test_a_broken_model_fails_what_it_breaks(broken: type[Sound], expected: set[str]) -> None:
    assert failures(broken) == expected
