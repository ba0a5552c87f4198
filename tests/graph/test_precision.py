"""Far from the origin, from the cell and from each other, differences are those of double precision."""

import itertools

import ase
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deepdft.data.datamodule import collate
from deepdft.graph.blocks import compact_blocks
from deepdft.graph.neighbors import atom_edges, atom_graph, probe_graph, structures_from_atoms
from deepdft.graph.on_device import point_blocks
from deepdft.testing.contract import STRUCTURES

CUTOFF = 3.5
Array = NDArray[np.float64]


def lengths(atoms: ase.Atoms, points: Array) -> Array:
    """Distances below the cutoff from all images of atoms to points, ascending; in float64 by brute force.

    Points and atoms are moved into the cell by numbers of cells found in float64, then all images nearby are tried.
    """
    positions, cell, pbc = atoms.positions, atoms.cell.array, atoms.pbc
    if pbc.any():
        complete = atoms.cell.complete().array
        into_cell = lambda x: x - (np.floor(x @ np.linalg.inv(complete)) * pbc) @ complete  # noqa: E731
        positions, points = into_cell(positions), into_cell(points)
    shifts = np.array(list(itertools.product(*[range(-4, 5) if p else [0] for p in pbc]))) @ cell
    images = (positions[:, None] + shifts[None]).reshape(-1, 3)
    found = np.linalg.norm(points[:, None] - images[None], axis=-1).ravel()
    return np.sort(found[found < CUTOFF])


FAR = [0.0, 1e3, 1e4, 1e6, 1e8]
"""Å."""


def moved(name: str, far: float, cells: int) -> tuple[ase.Atoms, Array]:
    """A structure moved as a whole, then its atoms and points by lattice vectors of their own; and points near it."""
    rng = np.random.default_rng(3)
    atoms = STRUCTURES[name].copy()
    points = atoms.positions[rng.integers(len(atoms), size=60)] + rng.normal(0.0, 0.8, (60, 3))
    offset = far * np.array([0.7, -1.0, 0.3])
    own, others = (rng.integers(-cells, cells + 1, (n, 3)) * atoms.pbc for n in (len(atoms), 60))
    atoms.positions += offset + own @ atoms.cell.array
    return atoms, points + offset + others @ atoms.cell.array


@pytest.mark.parametrize("far", FAR)
@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("cells", [0, 1000, 100_000])
def test_edges_have_the_lengths_of_double_precision(name: str, far: float, cells: int) -> None:
    atoms, points = moved(name, far, cells)
    tolerance = 1e-6 + 20 * np.finfo(float).eps * max(far, np.abs(atoms.positions).max())
    union = structures_from_atoms([atoms])
    which = torch.zeros(len(points), dtype=torch.int64)
    probes = probe_graph(union, torch.from_numpy(points), which, CUTOFF)
    graph = atom_graph(union, CUTOFF)
    sample = {"numbers": atoms.numbers, "positions": atoms.positions, "cell": atoms.cell.array, "pbc": atoms.pbc}
    sample["moments"] = np.zeros(len(atoms))
    batch = collate([sample | {"points": points, "targets": np.zeros(len(points))}])
    in_batch = probe_graph(batch.structures, batch.probe_positions, batch.probe_structure, CUTOFF)
    assert probes.positions.dtype == graph.edge_vectors().dtype == torch.float32
    expected = lengths(atoms, points)
    for one in (probes, in_batch):
        found = np.sort(one.edge_vectors(graph.positions).double().norm(dim=1).numpy())
        assert len(found) == len(expected)
        assert np.abs(found - expected).max() < tolerance
    own = lengths(atoms, atoms.positions)
    found = np.sort(graph.edge_vectors().double().norm(dim=1).numpy())
    assert np.abs(np.concatenate([np.zeros(len(atoms)), found]) - own).max() < tolerance  # with each atom to itself


@pytest.mark.parametrize("far", FAR)
@pytest.mark.parametrize("name", STRUCTURES)
def test_blocks_have_the_lengths_of_double_precision(name: str, far: float) -> None:
    atoms, points = moved(name, far, 1000)
    tolerance = 1e-6 + 20 * np.finfo(float).eps * max(far, np.abs(atoms.positions).max())
    union, expected = structures_from_atoms([atoms]), lengths(atoms, points)
    found = []
    for group in compact_blocks(union, torch.from_numpy(points), CUTOFF, largest=7):
        assert group.points.dtype == torch.float32
        own, near = group.points.double(), group.atom_positions.double()
        found += [torch.cdist(own[block.points], near[block.images]).flatten() for block in group]
    distances = torch.cat(found).numpy()
    assert np.abs(np.sort(distances[distances < CUTOFF]) - expected).max() < tolerance

    blocks = point_blocks(union, torch.from_numpy(points), CUTOFF, size=6)  # what GPUs have; 60 points fill ten blocks
    grouped = blocks.points.double().unflatten(0, (10, 6))
    parts = [blocks.atom_positions[blocks.image_offsets[b] : blocks.image_offsets[b + 1]].double() for b in range(10)]
    distances = torch.cat([torch.cdist(own, near).flatten() for own, near in zip(grouped, parts, strict=True)]).numpy()
    assert np.abs(np.sort(distances[distances < CUTOFF]) - expected).max() < tolerance


@pytest.mark.parametrize("apart", [1e4, 1e6, 1e8])
def test_atoms_may_be_any_distance_apart(apart: float) -> None:
    pair = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.1]])
    atoms = ase.Atoms("H4", np.concatenate([pair, pair + apart]))
    graph = atom_graph(structures_from_atoms([atoms]), CUTOFF)
    assert graph.edge_index.tolist() == [[1, 0, 3, 2], [0, 1, 2, 3]]
    assert graph.edge_vectors().norm(dim=1).numpy() == pytest.approx(1.1, abs=1e-6 + 1e-15 * apart)


def test_a_large_sparse_crystal_has_the_edges_of_its_images() -> None:
    atoms = ase.Atoms("H2", [[0.1, 0.0, 0.0], [2e4 - 0.9, 0.0, 0.0]], cell=[2e4, 2e4, 2e4], pbc=True)
    graph = atom_graph(structures_from_atoms([atoms]), CUTOFF)
    assert graph.edge_index.tolist() == [[1, 0], [0, 1]]
    assert graph.edge_vectors()[:, 0].tolist() == pytest.approx([1.0, -1.0], abs=1e-6)


@pytest.mark.parametrize(
    "far", [(8e5, 0, 0), (0, 4e5, 0), (1200, 1200, 0), (3000, 3000, 8), (3000, 3000, 60), (4e5, 10, 10)]
)
def test_atoms_far_apart_along_some_axes_only_have_their_edges(far: tuple[float, float, float]) -> None:
    near = np.array([[0.0, 0, 0], [1, 0, 0]])
    positions = np.concatenate([near, near + far])
    edge_index, shift = atom_edges(positions, np.zeros((3, 3)), np.zeros(3, bool), 3.0)
    assert sorted(map(tuple, edge_index.T.tolist())) == [(0, 1), (1, 0), (2, 3), (3, 2)]
    assert not shift.any()
