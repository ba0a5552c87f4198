"""The contract of every model, as a test class: inherit, say how to make the model, and pytest runs the checks.

    class TestMyModel(ModelContract):
        def make_model(self) -> DensityModel:
            return MyModel(hidden_size=16)

All checks but two run in float64, so a tolerance of 1e-9 of the largest density is a statement about the mathematics,
not about rounding. The structures are a molecule without a cell and cells that break neighbour searches: far below the
cutoff, skewed, left-handed, and periodic along two axes only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import ase
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from deepdft.density import Grid
from deepdft.graph.batch import Structures
from deepdft.graph.neighbors import atom_graph, probe_graph, structures_from_atoms
from deepdft.inference.encoded import EncodedStructure
from deepdft.models.base import DensityModel

__all__ = ["STRUCTURES", "ModelContract", "densities"]

Array = NDArray[np.float64]
TOLERANCE = 1e-9
"""Tolerance in float64, relative to the largest density."""


def _structure(symbols: str, cell: list[list[float]] | None, pbc: bool | list[bool], seed: int) -> ase.Atoms:
    rng = np.random.default_rng(seed)
    n = len(ase.Atoms(symbols))
    if cell is None:
        return ase.Atoms(symbols, positions=rng.uniform(0.0, 3.5, (n, 3)))
    spread = np.array(cell) + np.diag(np.where(np.any(cell, axis=1), 0.0, 2.0))  # atoms of a slab lie in a layer
    return ase.Atoms(symbols, positions=rng.uniform(-0.3, 1.3, (n, 3)) @ spread, cell=cell, pbc=pbc)


STRUCTURES = {
    "molecule": _structure("CH3OH", None, False, 0),
    "small cell": _structure("LiCoO2", [[2.9, 0.0, 0.0], [0.0, 3.3, 0.0], [0.0, 0.0, 4.6]], True, 1),
    "skewed cell": _structure("NiO", [[4.7, 0.4, 0.3], [3.9, 2.6, 0.1], [3.8, 1.2, 2.4]], True, 2),
    "left-handed cell": _structure("C2H2", [[0.0, 4.4, 0.3], [5.1, 0.0, 0.0], [0.2, 0.1, 6.2]], True, 3),
    "slab": _structure("C2O", [[4.1, 0.0, 0.0], [1.4, 3.6, 0.0], [0.0, 0.0, 0.0]], [True, True, False], 4),
}
"""Structures of the checks; atoms lie inside and outside their cells."""


def densities(model: DensityModel, structures: list[ase.Atoms], points: list[Array]) -> Tensor:
    """Density (n, n_channels) at points (n_i, 3) in Å of each structure, in one batch and the model's precision."""
    dtype = next(model.parameters()).dtype
    union = structures_from_atoms(structures, dtype=dtype)
    which = torch.arange(len(points)).repeat_interleave(torch.tensor([len(p) for p in points]))
    return _densities(model, union, torch.from_numpy(np.concatenate(points)), which)


def _in_pieces(encoded: EncodedStructure, points: Tensor, size: int) -> Tensor:
    encoded.points_per_thread = size
    return torch.from_numpy(encoded.density(points.numpy()))


def _densities(model: DensityModel, union: Structures, points: Tensor, which: Tensor) -> Tensor:
    with torch.no_grad():
        return model(atom_graph(union, model.cutoff), probe_graph(union, points, which, model.probe_cutoff))


def _by_weights(model: DensityModel, atoms: ase.Atoms, points: Array, device: str) -> Tensor:
    """Gradient of the sum of squared densities with respect to all weights, in one vector on the CPU."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        return torch.ones(1)
    union = structures_from_atoms([atoms], dtype=trained[0].dtype).to(device)
    which = torch.zeros(len(points), dtype=torch.int64, device=device)
    probes = probe_graph(union, torch.from_numpy(points).to(device), which, model.probe_cutoff)
    squares = model(atom_graph(union, model.cutoff), probes).square().sum()
    found = torch.autograd.grad(squares, trained, allow_unused=True)
    return torch.cat([one.flatten() for one in found if one is not None]).double().cpu()


def _points(atoms: ase.Atoms, n: int = 7) -> Array:
    """Points near the atoms; the first coincides with an atom."""
    rng = np.random.default_rng(5)
    near = atoms.positions[rng.integers(len(atoms), size=n)] + rng.normal(0.0, 0.8, (n, 3))
    near[0] = atoms.positions[0]
    return near


def _moved(atoms: ase.Atoms, matrix: Array, shift: Array) -> ase.Atoms:
    """The structure after x → matrix x + shift."""
    return ase.Atoms(
        atoms.numbers, positions=atoms.positions @ matrix.T + shift, cell=atoms.cell.array @ matrix.T, pbc=atoms.pbc
    )


def _rotation() -> Array:
    return Rotation.from_rotvec([0.7, -1.1, 0.4]).as_matrix()


def _assert_equal(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert torch.isfinite(found).all(), "a density is not finite"
    scale = expected.abs().amax(dim=0)  # (n_channels,)
    assert (scale > 0).all(), "the model predicts zero everywhere: nothing is tested"
    error = ((found - expected).abs() / scale).max().item()
    assert error < TOLERANCE, f"differs by {error:.1e} of the largest density"


class ModelContract(ABC):
    """Requirements on every `DensityModel`; each test states one."""

    @abstractmethod
    def make_model(self) -> DensityModel:
        """A small model with random weights that predicts something other than zero."""

    @pytest.fixture(name="model")
    def _model(self) -> DensityModel:
        torch.manual_seed(0)
        return self.make_model().double().eval()

    @pytest.fixture(name="atoms", params=STRUCTURES)
    def _atoms(self, request: pytest.FixtureRequest) -> ase.Atoms:
        return STRUCTURES[request.param].copy()

    def test_a_rotated_structure_has_the_rotated_density(self, model: DensityModel, atoms: ase.Atoms) -> None:
        """ρ(Rx; R atoms) = ρ(x; atoms)."""
        self._invariant(model, atoms, _rotation(), np.zeros(3))

    def test_a_mirrored_structure_has_the_mirrored_density(self, model: DensityModel, atoms: ase.Atoms) -> None:
        """A reflected structure has the reflected density."""
        self._invariant(model, atoms, np.diag([1.0, -1.0, 1.0]), np.zeros(3))

    def test_a_moved_structure_has_the_moved_density(self, model: DensityModel, atoms: ase.Atoms) -> None:
        """A translated structure has the translated density."""
        self._invariant(model, atoms, np.eye(3), np.array([2.3, -1.7, 0.9]))

    def test_the_order_of_atoms_does_not_matter(self, model: DensityModel, atoms: ase.Atoms) -> None:
        """Atoms are a set."""
        points, order = _points(atoms), np.random.default_rng(6).permutation(len(atoms))
        _assert_equal(densities(model, [atoms[order]], [points]), densities(model, [atoms], [points]))

    def test_lattice_vectors_may_be_added_to_atoms_and_points(self, model: DensityModel, atoms: ase.Atoms) -> None:
        """The density does not depend on which image of an atom or a point is given."""
        points, rng = _points(atoms), np.random.default_rng(7)
        expected = densities(model, [atoms], [points])
        shifted = atoms.copy()
        shifted.positions += (rng.integers(-2, 3, (len(atoms), 3)) * atoms.pbc) @ atoms.cell.array
        elsewhere = points + (rng.integers(-2, 3, (len(points), 3)) * atoms.pbc) @ atoms.cell.array
        _assert_equal(densities(model, [shifted], [elsewhere]), expected)

    def test_a_supercell_has_the_density_of_its_cell(self, model: DensityModel, atoms: ase.Atoms) -> None:
        """A supercell of a crystal has the same density."""
        points = _points(atoms)
        repeated = atoms.repeat([2 if repeats else 1 for repeats in atoms.pbc])
        _assert_equal(densities(model, [repeated], [points]), densities(model, [atoms], [points]))

    def test_a_batch_gives_what_its_structures_give_alone(self, model: DensityModel) -> None:
        """Structures in a batch do not influence each other."""
        structures = list(STRUCTURES.values())
        points = [_points(atoms, 3 + i) for i, atoms in enumerate(structures)]
        alone = torch.cat([densities(model, [a], [p]) for a, p in zip(structures, points, strict=True)])
        _assert_equal(densities(model, structures, points), alone)

    def test_slices_of_points_give_what_the_whole_gives(self, model: DensityModel, atoms: ase.Atoms) -> None:
        """Points do not influence each other, and atoms are encoded once for all slices."""
        points = torch.from_numpy(_points(atoms, 9))
        union = structures_from_atoms([atoms], dtype=torch.float64)
        zeros = torch.zeros(9, dtype=torch.int64)
        whole = _densities(model, union, points, zeros)
        with torch.no_grad():
            states = model.encode(atom_graph(union, model.cutoff))
            parts = [
                model.decode(states, probe_graph(union, part, zeros[: len(part)], model.probe_cutoff))
                for part in points.split([1, 5, 3])
            ]
        _assert_equal(torch.cat(parts), whole)
        encoded = EncodedStructure(model, atoms)
        in_one, *in_pieces = (_in_pieces(encoded, points, size) for size in (9, 10, 4, 2))
        for density in in_pieces:
            _assert_equal(density, in_one)

    def test_any_points_of_a_structure_have_the_density_that_edges_give(
        self, model: DensityModel, atoms: ase.Atoms
    ) -> None:
        """However `decode_points` is implemented, it agrees with `decode`: near atoms, far away, outside the cell."""
        points = np.concatenate([_points(atoms, 40), 9.0 * _points(atoms, 5)])
        union = structures_from_atoms([atoms], dtype=torch.float64)
        with torch.no_grad():
            states = model.encode(atom_graph(union, model.cutoff))
            found = model.decode_points(states, union, torch.from_numpy(points))
            assert model.decode_points(states, union, torch.empty(0, 3, dtype=torch.float64)).shape == (
                0,
                len(model.channels),
            )
        _assert_equal(found, densities(model, [atoms], [points]))

    def test_one_atom_and_points_without_neighbours_have_a_density(self, model: DensityModel) -> None:
        """All points without neighbours have the same finite density."""
        atom = ase.Atoms("O", positions=[[1.0, 1.0, 1.0]])
        near, far = np.array([[1.5, 1.0, 1.0]]), np.array([[50.0, 0.0, 0.0], [0.0, -70.0, 3.0]])
        found = densities(model, [atom], [np.concatenate([far[:1], near, far[1:]])])
        assert torch.isfinite(found).all()
        assert torch.equal(found[0], found[2])
        assert (found[1] != found[0]).any(), "the density near an atom is that of empty space"
        _assert_equal(found[1:2], densities(model, [atom], [near]))
        assert torch.allclose(densities(model, [atom], [far]), found[0], rtol=0.0, atol=1e-12)
        assert densities(model, [atom], [np.empty((0, 3))]).shape == (0, len(model.channels))

    def test_atoms_beyond_the_receptive_field_do_not_matter(self, model: DensityModel) -> None:
        """A structure can be encoded in domains: a point sees what `receptive_field` says, or less."""
        if not np.isfinite(model.receptive_field):
            pytest.skip("the model does not say its receptive field: its structures are encoded as a whole")
        step = 0.45 * model.cutoff
        n_atoms = int(model.receptive_field / step) + 6
        positions = np.array([[i * step, 0.3 * np.sin(i), 0.2 * np.cos(2 * i)] for i in range(n_atoms)])
        point = np.array([[-0.4, 0.2, 0.1]])
        near = np.linalg.norm(positions - point, axis=1) < model.receptive_field
        assert 0 < near.sum() < n_atoms
        atoms = ase.Atoms([(8, 6, 1)[i % 3] for i in range(n_atoms)], positions=positions)
        whole, part = densities(model, [atoms], [point]), densities(model, [atoms[near]], [point])
        assert torch.allclose(part, whole, rtol=1e-13, atol=1e-15)

    def test_the_density_is_smooth_where_a_probe_crosses_the_cutoff(self, model: DensityModel) -> None:
        """The jump is no larger than the weight that, according to the model, an edge has at the cutoff."""
        atom = ase.Atoms("O", positions=[[0.0, 0.0, 0.0]])

        def at(distances: list[float]) -> Tensor:
            return densities(model, [atom], [np.array([[d, 0.0, 0.0] for d in distances])])

        end = model.probe_cutoff
        before, after = at([end - 1e-9, end + 1e-9])
        effect = (at(list(np.linspace(0.1, 0.9, 17) * end)) - after).abs().amax(dim=0)
        self._small_jump(before, after, effect, model.cutoff_value)

    def test_the_density_is_smooth_where_an_atom_crosses_the_cutoff(self, model: DensityModel) -> None:
        """The density is also smooth where an edge between atoms breaks, seen by a probe that reads one of them."""

        def at(distance: float) -> Tensor:
            atoms = ase.Atoms("CO", positions=[[0.0, 0.0, 0.0], [distance, 0.0, 0.0]])
            return densities(model, [atoms], [np.array([[-0.7, 0.2, 0.0]])])[0]  # (n_channels,)

        before, after = at(model.cutoff - 1e-9), at(model.cutoff + 1e-9)
        # the second atom is out of the probe's reach beyond cutoff - 0.7 Å; closer, its effect is only larger
        effect = torch.stack([(at(d) - after).abs() for d in np.linspace(0.3, 0.95, 9) * model.cutoff]).amax(dim=0)
        self._small_jump(before, after, effect, model.cutoff_value)

    def test_derivatives_at_probes_are_those_of_finite_differences(self, model: DensityModel, atoms: ase.Atoms) -> None:
        """The gradient ∇ρ by automatic differentiation is right, also for a probe on an atom."""
        union = structures_from_atoms([atoms], dtype=torch.float64)
        points = torch.from_numpy(_points(atoms, 4))[1:]
        probes = probe_graph(union, points, torch.zeros(3, dtype=torch.int64), model.probe_cutoff)
        states = model.encode(atom_graph(union, model.cutoff))

        def density(positions: Tensor) -> Tensor:
            return model.decode(states, replace(probes, positions=positions))

        positions = probes.positions.clone().requires_grad_()
        assert torch.autograd.gradcheck(density, positions, eps=1e-5, atol=1e-6, rtol=1e-5)
        on_atom = torch.from_numpy(_points(atoms, 1))
        probes = probe_graph(union, on_atom, torch.zeros(1, dtype=torch.int64), model.probe_cutoff)
        on_atom = probes.positions.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(density(on_atom).sum(), on_atom)
        assert torch.isfinite(gradient).all()

    def test_single_precision_is_close_to_double(self, model: DensityModel, atoms: ase.Atoms) -> None:
        """float32 on the device is accurate to 1e-4 of the largest density, in training and in prediction."""
        points = np.concatenate([_points(atoms), _points(atoms, 500)])
        expected = densities(model, [atoms], [points])
        in_steps = densities(model.float(), [atoms], [points]).double()
        predicted = torch.from_numpy(EncodedStructure(model, atoms).density(points)).double()
        for found in (in_steps, predicted):
            assert (found - expected).abs().max() < 1e-4 * expected.abs().max()

    def test_a_structure_far_from_the_origin_has_the_density_it_has_there(
        self, model: DensityModel, atoms: ase.Atoms
    ) -> None:
        """In single precision, 10⁶ Å away and 10⁵ cells apart, as near the origin: 1e-4 of the largest density."""
        points, rng = _points(atoms, 100), np.random.default_rng(8)
        expected = densities(model, [atoms], [points])
        far = atoms.copy()
        cells, offset = 100_000, np.array([1e6, -7e5, 3e5])
        far.positions += offset + (rng.integers(-cells, cells, (len(atoms), 3)) * atoms.pbc) @ atoms.cell.array
        moved = points + offset + (rng.integers(-cells, cells, (len(points), 3)) * atoms.pbc) @ atoms.cell.array
        in_steps = densities(model.float(), [far], [moved]).double()
        predicted = torch.from_numpy(EncodedStructure(model, far).density(moved)).double()
        for found in (in_steps, predicted):
            assert (found - expected).abs().max() < 1e-4 * expected.abs().max()

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_a_gpu_gives_what_the_cpu_gives(self, model: DensityModel, atoms: ase.Atoms) -> None:
        """In single precision, densities of training steps and of predictions, also on grids, and derivatives agree."""
        points = np.concatenate([_points(atoms, 200), 9.0 * _points(atoms, 5)])
        grid = Grid(ase.Atoms(cell=[6.0, 5.0, 7.0]), (5, 6, 7), np.array([-1.0, 0.5, -2.0]))
        expected = [densities(model, [atoms], [some]) for some in (points, grid.points(slice(None), order="F"))]
        by_weights = _by_weights(model, atoms, points, "cpu")
        model.float().cuda()
        encoded = EncodedStructure(model, atoms)
        found = _by_weights(model, atoms, points, "cuda")
        assert (found - by_weights).norm() < 1e-3 * by_weights.norm()
        encoded.points_per_thread = 100
        on_grid = encoded.density_on_grid(grid, slice(None), order="F")
        for density, known in zip((encoded.density(points), on_grid), expected, strict=True):
            assert (torch.from_numpy(density).double() - known).abs().max() < 1e-4 * known.abs().max()

    def test_networks_may_run_in_half_precision(self, model: DensityModel, atoms: ase.Atoms) -> None:
        """`trainer.precision=bf16-mixed` trains: results are close to single precision, and gradients finite."""
        model.float()
        points, structure = torch.from_numpy(_points(atoms)), torch.zeros(7, dtype=torch.int64)
        union = structures_from_atoms([atoms])
        graphs = atom_graph(union, model.cutoff), probe_graph(union, points, structure, model.probe_cutoff)
        expected = model(*graphs)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(*graphs).float()
        assert (found - expected).abs().max() < 0.1 * expected.abs().max()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if found.requires_grad:
            for gradient in torch.autograd.grad(found.square().sum(), trained, allow_unused=True):
                assert gradient is None or torch.isfinite(gradient).all()

    @staticmethod
    def _invariant(model: DensityModel, atoms: ase.Atoms, matrix: Array, shift: Array) -> None:
        points = _points(atoms)
        moved = densities(model, [_moved(atoms, matrix, shift)], [points @ matrix.T + shift])
        _assert_equal(moved, densities(model, [atoms], [points]))

    @staticmethod
    def _small_jump(before: Tensor, after: Tensor, effect: Tensor, cutoff_value: float) -> None:
        # a network may amplify a small message, hence the factor
        bound = (10.0 * cutoff_value + 1e-6) * effect
        assert ((before - after).abs() <= bound).all(), (
            f"the density jumps by {(before - after).abs().max():.1e} at the cutoff; {bound.max():.1e} is what the "
            f"model's cutoff_value {cutoff_value:.1e} allows"
        )
