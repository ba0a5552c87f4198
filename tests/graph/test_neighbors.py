"""Edges against a brute-force loop over periodic images, for every kind of cell that ever broke a neighbour list."""

import itertools

import ase
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepdft.graph.neighbors import (
    atom_edges,
    atom_graph,
    probe_edges,
    probe_graph,
    structures_from_atoms,
)
from deepdft.graph.on_device import dense_edges

CUTOFF = 3.987  # no lattice below has vectors of just this length, where rounding decides


def rhombohedral(length: float, angle: float) -> np.ndarray:
    c = np.cos(np.radians(angle))
    return length * np.linalg.cholesky(np.full((3, 3), c) + (1 - c) * np.eye(3))


CELLS = {
    "large": (np.diag([11.0, 12.0, 13.0]), [True] * 3),
    "below 2x the cutoff": (np.diag([5.0, 6.0, 7.0]), [True] * 3),
    "below 1x the cutoff": (np.diag([2.0, 2.5, 3.0]), [True] * 3),
    "skewed, 33 degrees": (rhombohedral(5.6, 33.0), [True] * 3),
    "left-handed": (np.array([[0, 4.5, 0.3], [5, 0, 0], [0.2, 0, 6.0]]), [True] * 3),
    "slab": (np.array([[4.0, 0, 0], [1.5, 3.5, 0], [0, 0, 9.0]]), [True, True, False]),
    "slab without a third vector": (np.array([[4.0, 0, 0], [1.5, 3.5, 0], [0, 0, 0.0]]), [True, True, False]),
    "slab with a slanted third vector": (
        np.array([[4.0, 0, 0], [0, 4.5, 0], [3.0, 2.0, 5.0]]),
        [True, True, False],
    ),
    "wire": (np.array([[9.0, 0, 0], [0, 3.0, 1.0], [0, 0, 9.0]]), [False, True, False]),
    "molecule with a zero cell": (np.zeros((3, 3)), [False] * 3),
    "molecule in a box": (np.diag([8.0, 8.0, 8.0]), [False] * 3),
}


def brute_force(atoms: np.ndarray, points: np.ndarray, cell: np.ndarray, pbc: list[bool], *, same: bool) -> set:
    """All (sender, receiver, rounded vector) with a distance below the cutoff, by trying images in a wide range."""
    periodic = [k for k in range(3) if pbc[k]]
    reach = np.zeros(3, dtype=int)
    if periodic:
        heights = 1 / np.linalg.norm(np.linalg.pinv(cell[periodic]), axis=0)
        spread = np.abs(np.linalg.pinv(cell[periodic]).T @ (atoms[:, None] - points[None]).reshape(-1, 3).T).max(axis=1)
        reach[periodic] = np.ceil(CUTOFF / heights + spread).astype(int) + 1
    edges = set()
    for n in itertools.product(*(range(-r, r + 1) for r in reach)):
        shift = np.array(n) @ cell
        for i, atom in enumerate(atoms):
            vectors = points - (atom + shift)
            for j in np.flatnonzero(np.linalg.norm(vectors, axis=1) < CUTOFF):
                if not (same and i == j and n == (0, 0, 0)):
                    edges.add((i, int(j), *np.round(vectors[j], 6) + 0.0))
    return edges


def as_set(edge_index, edge_shift, atoms: np.ndarray, points: np.ndarray) -> set:
    edge_index, edge_shift = np.asarray(edge_index), np.asarray(edge_shift)
    vectors = points[edge_index[1]] - atoms[edge_index[0]] - edge_shift
    found = [(int(i), int(j), *np.round(v, 6) + 0.0) for (i, j), v in zip(edge_index.T, vectors, strict=True)]
    assert len(found) == len(set(found)), "an edge appears twice"
    assert (np.diff(edge_index[1]) >= 0).all(), "edges are sorted by receiver"
    return set(found)


def dense(atoms: np.ndarray, cell: np.ndarray, pbc: np.ndarray, points: np.ndarray) -> tuple:
    """What other devices than the CPU do."""
    structures = structures_from_atoms([ase.Atoms(["H"] * len(atoms), atoms, cell=cell, pbc=pbc)], dtype=torch.float64)
    return dense_edges(structures, torch.from_numpy(points), torch.zeros(len(points), dtype=torch.int64), CUTOFF)


def scattered(cell: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Points inside and outside the cell."""
    rng = np.random.default_rng(seed)
    return (
        rng.uniform(-6, 10, (n, 3))
        if not cell.any()
        else rng.uniform(-0.8, 1.8, (n, 3)) @ cell + rng.normal(0, 0.3, (n, 3))
    )


@pytest.mark.parametrize("trees", [False, True])
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("n_atoms", [1, 5])
def test_edges_are_those_of_brute_force(name: str, n_atoms: int, trees: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if trees:
        monkeypatch.setattr("deepdft.chunks.CPU.images_without_tree", -1)
        monkeypatch.setattr("deepdft.chunks.CPU.distances", -1)
    cell, pbc = CELLS[name]
    pbc_array = np.array(pbc)
    atoms, points = scattered(cell, n_atoms, 0), scattered(cell, 12, 1)

    expected = brute_force(atoms, atoms, cell, pbc, same=True)
    assert as_set(*atom_edges(atoms, cell, pbc_array, CUTOFF), atoms, atoms) == expected
    expected = brute_force(atoms, points, cell, pbc, same=False)
    assert as_set(*probe_edges(atoms, cell, pbc_array, points, CUTOFF), atoms, points) == expected
    assert as_set(*dense(atoms, cell, pbc_array, points), atoms, points) == expected


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.floats(2.0, 9.0),
    st.floats(0.0, 0.9),
)
def test_edges_are_those_of_brute_force_in_random_cells(seed: int, pbc: tuple, size: float, skew: float) -> None:
    rng = np.random.default_rng(seed)
    cell = size * (np.eye(3) + skew * rng.uniform(-1, 1, (3, 3)))
    if abs(np.linalg.det(cell)) < 0.15 * size**3:  # so flat that brute force itself needs minutes
        cell = size * np.eye(3)
    atoms, points = scattered(cell, 3, seed), scattered(cell, 6, seed + 1)
    expected = brute_force(atoms, points, cell, list(pbc), same=False)
    assert as_set(*probe_edges(atoms, cell, np.array(pbc), points, CUTOFF), atoms, points) == expected
    assert as_set(*dense(atoms, cell, np.array(pbc), points), atoms, points) == expected
    expected = brute_force(atoms, atoms, cell, list(pbc), same=True)
    assert as_set(*atom_edges(atoms, cell, np.array(pbc), CUTOFF), atoms, atoms) == expected


def test_an_edge_is_strictly_below_the_cutoff() -> None:
    atoms, none = np.array([[0.0, 0, 0]]), np.zeros(3, dtype=bool)
    points = np.array([[CUTOFF, 0, 0], [np.nextafter(CUTOFF, 0), 0, 0]])
    for edge_index, _ in (
        probe_edges(atoms, np.zeros((3, 3)), none, points, CUTOFF),
        dense(atoms, np.zeros((3, 3)), none, points),
    ):
        assert np.asarray(edge_index).tolist() == [[0], [1]]


def test_a_probe_on_an_atom_is_its_neighbour_and_an_atom_is_not_its_own() -> None:
    atoms, none = np.array([[1.0, 2, 3]]), np.zeros(3, dtype=bool)
    assert probe_edges(atoms, np.zeros((3, 3)), none, atoms, CUTOFF)[0].shape == (2, 1)
    assert atom_edges(atoms, np.zeros((3, 3)), none, CUTOFF)[0].shape == (2, 0)


def test_many_probes_are_searched_in_chunks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, pbc = CELLS["skewed, 33 degrees"]
    atoms, points = scattered(cell, 4, 0), scattered(cell, 50, 1)
    whole = as_set(*probe_edges(atoms, cell, np.array(pbc), points, CUTOFF), atoms, points)
    monkeypatch.setattr("deepdft.chunks.GPU.distances", 2000)
    assert as_set(*dense(atoms, cell, np.array(pbc), points), atoms, points) == whole


def test_a_periodic_axis_without_a_vector_is_refused() -> None:
    with pytest.raises(ValueError, match=r"repeats along a, c, but these lattice vectors"):
        atom_edges(np.zeros((1, 3)), np.diag([5.0, 5.0, 0.0]), np.array([True, False, True]), CUTOFF)


def test_graphs_of_a_union_are_the_graphs_of_its_structures() -> None:
    rng = np.random.default_rng(0)
    molecule = ase.Atoms("CO2", rng.uniform(0, 3, (3, 3)))
    crystal = ase.Atoms("LiO", rng.uniform(0, 3, (2, 3)), cell=CELLS["below 1x the cutoff"][0], pbc=True)
    points = [torch.rand(5, 3, dtype=torch.float64) * 6, torch.rand(4, 3, dtype=torch.float64) * 6]
    both = structures_from_atoms([molecule, crystal], dtype=torch.float64)
    which = torch.tensor([0] * 5 + [1] * 4)
    atoms, probes = atom_graph(both, CUTOFF), probe_graph(both, torch.cat(points), which, CUTOFF)

    offsets = [(0, 0), (3, 5)]
    alone = [structures_from_atoms([s], dtype=torch.float64) for s in (molecule, crystal)]
    expected = [atom_graph(s, CUTOFF) for s in alone]
    assert torch.equal(
        atoms.edge_index,
        torch.cat([g.edge_index + o[0] for g, o in zip(expected, offsets, strict=True)], dim=1),
    )
    assert torch.equal(atoms.edge_shift, torch.cat([g.edge_shift for g in expected]))
    expected_probes = [
        probe_graph(s, p, torch.zeros(len(p), dtype=torch.long), CUTOFF) for s, p in zip(alone, points, strict=True)
    ]
    assert torch.equal(
        probes.edge_index,
        torch.cat(
            [g.edge_index + torch.tensor(o)[:, None] for g, o in zip(expected_probes, offsets, strict=True)],
            1,
        ),
    )
    assert torch.allclose(probes.edge_vectors(atoms.positions).norm(dim=1).max(), torch.tensor(4.0).double(), atol=1.0)
    edge_index, edge_shift = dense_edges(both, torch.cat(points), which, CUTOFF)
    assert torch.equal(edge_index[1], probes.edge_index[1])
    assert as_set(edge_index, edge_shift, both.positions.numpy(), torch.cat(points).numpy()) == as_set(
        probes.edge_index, probes.edge_shift, atoms.positions.numpy(), probes.positions.numpy()
    )


def test_forcing_the_periodicity_changes_the_structures() -> None:
    atoms = ase.Atoms("H", [[0, 0, 0]], cell=[3, 3, 3], pbc=True)
    assert atom_graph(structures_from_atoms([atoms]), CUTOFF).edge_index.shape[1] > 0
    assert atom_graph(structures_from_atoms([atoms], pbc=False), CUTOFF).edge_index.shape[1] == 0
    assert structures_from_atoms([ase.Atoms("H", cell=[3, 3, 3])], pbc=True).pbc.all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU; the dense path itself is tested above")
def test_edges_on_another_device_take_the_dense_path() -> None:
    cell, pbc = CELLS["skewed, 33 degrees"]
    structure = ase.Atoms("C5", scattered(cell, 5, 0), cell=cell, pbc=pbc)
    there = structures_from_atoms([structure], dtype=torch.float64).to("cuda")
    here = structures_from_atoms([structure], dtype=torch.float64)
    graph, expected = atom_graph(there, CUTOFF), atom_graph(here, CUTOFF)
    positions = expected.positions.numpy()
    assert as_set(graph.edge_index.cpu(), graph.edge_shift.cpu(), positions, positions) == as_set(
        expected.edge_index, expected.edge_shift, positions, positions
    )
