"""Blocks of points against all distances."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from deepdft.graph.blocks import LARGEST_WIDTH, SPARSE_WIDTH, compact_blocks, cut_into_cubes
from deepdft.graph.neighbors import structures_from_atoms
from deepdft.graph.on_device import dense_edges, point_blocks
from deepdft.testing.contract import STRUCTURES


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("largest", [7, 1000])
@pytest.mark.parametrize("dense", [0, 1000])
def test_every_point_is_in_one_block_with_all_atom_images_it_needs(name: str, largest: int, dense: int) -> None:
    atoms, cutoff = STRUCTURES[name], 3.1
    points = np.random.default_rng(0).uniform(-9.0, 9.0, (300, 3))
    structures = structures_from_atoms([atoms], dtype=torch.float64)
    own = torch.zeros(len(points), dtype=torch.int64)
    edge_index, edge_shift = dense_edges(structures, torch.from_numpy(points), own, cutoff)
    expected = torch.from_numpy(points)[edge_index[1]] - torch.from_numpy(atoms.positions)[edge_index[0]] - edge_shift

    seen, pairs = [], 0
    for group in compact_blocks(structures, torch.from_numpy(points), cutoff, largest=largest, dense=dense):
        assert group.dense == (dense == 0)
        near, point = group.pairs_within(cutoff)
        pairs += len(near)
        lengths = (group.points[point] - group.atom_positions[near]).norm(dim=1)
        assert (lengths < cutoff).all()
        for block in group:
            index, own_points = group.index[block.points].tolist(), group.points[block.points]
            assert 0 < len(index) <= largest
            width = (own_points.amax(dim=0) - own_points.amin(dim=0)).max()
            assert width <= (LARGEST_WIDTH if group.dense else SPARSE_WIDTH)
            seen += index
            vectors = own_points[:, None] - group.atom_positions[block.images]  # (n_points, n_near, 3)
            for i, own in zip(index, vectors, strict=True):
                near = own.norm(dim=-1) < cutoff
                wanted = edge_index[1] == i
                assert sorted(group.atom[block.images][near].tolist()) == sorted(edge_index[0][wanted].tolist())
                found, reference = (v.numpy()[np.lexsort(v.numpy().round(6).T)] for v in (own[near], expected[wanted]))
                assert found == pytest.approx(reference, abs=1e-9)
    assert pairs == edge_index.shape[1]
    assert len(seen) == len(set(seen))
    assert set(edge_index[1].tolist()) <= set(seen)


def test_points_that_nothing_reaches_are_in_no_block_however_far_they_are() -> None:
    structures = structures_from_atoms([STRUCTURES["molecule"]], dtype=torch.float64)
    points = torch.tensor([[0.0, 0, 0], [0, 0, 1e9], [1e30, 0, 0], [0.1, 0, 0], [0, -20.0, 0]], dtype=torch.float64)
    (group,) = compact_blocks(structures, points, 3.1, largest=10)
    assert sorted(group.index.tolist()) == [0, 3]


def test_points_too_far_apart_to_count_the_cubes_between_them_are_cut() -> None:
    points = np.array([[0.0, 0, 0], [1e12, 1e12, 1e12], [0.1, 0, 0], [1e300, 0, -1e300], [1e12, 1e12, 1e12]])
    order, first = cut_into_cubes(points, 2)
    pieces = [sorted(order[begin:end].tolist()) for begin, end in pairwise(first)]
    assert sorted(pieces) == [[0, 2], [1, 4], [3]]


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("size", [7, 64])
def test_blocks_of_a_device_hold_every_point_with_all_atom_images_it_needs(name: str, size: int) -> None:
    atoms, cutoff = STRUCTURES[name], 3.1
    points = torch.from_numpy(np.random.default_rng(0).uniform(-9.0, 9.0, (300, 3)))
    structures = structures_from_atoms([atoms], dtype=torch.float64)
    edge_index, edge_shift = dense_edges(structures, points, torch.zeros(300, dtype=torch.int64), cutoff)
    expected = points[edge_index[1]] - structures.positions[edge_index[0]] - edge_shift

    blocks = point_blocks(structures, points, cutoff, size=size)
    assert sorted(set(blocks.index.tolist())) == list(range(300))
    for b, (first, last) in enumerate(pairwise(blocks.image_offsets.tolist())):
        for i, point in zip(blocks.index.view(-1, size)[b], blocks.points.view(-1, size, 3)[b], strict=True):
            vectors = point - blocks.atom_positions[first:last]
            near, wanted = vectors.norm(dim=1) < cutoff, edge_index[1] == i
            assert sorted(blocks.atom[first:last][near].tolist()) == sorted(edge_index[0][wanted].tolist())
            found, reference = (v.numpy()[np.lexsort(v.numpy().round(6).T)] for v in (vectors[near], expected[wanted]))
            assert found == pytest.approx(reference, abs=1e-9)


def test_no_points_are_no_blocks() -> None:
    structures = structures_from_atoms([STRUCTURES["molecule"]])
    assert list(compact_blocks(structures, torch.empty(0, 3), 3.0, largest=10)) == []


@pytest.mark.parametrize("reach", [0.0, 0.8, 2.0, 3.1])
def test_the_first_images_of_a_block_are_those_within_a_reach(reach: float) -> None:
    points = np.random.default_rng(1).uniform(-4.0, 9.0, (2000, 3))
    structures = structures_from_atoms([STRUCTURES["skewed cell"]], dtype=torch.float64)
    for group in compact_blocks(structures, torch.from_numpy(points), 3.1, largest=50):
        counts = group.counts_within(reach)
        for block, count in zip(group, counts, strict=True):
            distances = torch.cdist(group.atom_positions[block.images], group.points[block.points])
            assert (distances[count:] >= reach).all()
            assert (np.diff(group.distance[block.images]) >= 0).all()
        assert reach == 0.0 or counts.sum() > 0


def test_dense_points_make_blocks_that_are_nearly_full() -> None:
    points = torch.from_numpy(np.indices((40, 40, 40)).reshape(3, -1).T * 0.1)
    structures = structures_from_atoms([STRUCTURES["molecule"]], dtype=torch.float64)
    sizes = [
        len(group.index[block.points])
        for group in compact_blocks(structures, points, 3.0, largest=500)
        for block in group
    ]
    assert np.mean(sizes) > 250


def test_groups_of_sparse_points_are_small_as_each_of_them_has_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    structures = structures_from_atoms([STRUCTURES["skewed cell"].repeat(2)], dtype=torch.float64)
    points = torch.rand(2000, 3, dtype=torch.float64) @ structures.cells[0]
    sizes = {}
    for largest in (10**9, 200):
        monkeypatch.setattr("deepdft.chunks.CPU.points_per_sparse_group", largest)
        groups = compact_blocks(structures, points, 3.1, largest=50, dense=1000)
        sizes[largest] = [len(group.index) for group in groups]
    assert sum(sizes[200]) == sum(sizes[10**9]) == 2000
    assert max(sizes[200]) <= 300 < max(sizes[10**9])


def test_images_are_found_again_after_a_change_in_place() -> None:
    structures = structures_from_atoms([STRUCTURES["molecule"]])
    points, own = structures.positions.clone(), torch.zeros(len(structures.positions), dtype=torch.int64)
    assert dense_edges(structures, points, own, 3.0)[0].shape[1] >= len(points)
    structures.positions.add_(100.0)
    assert dense_edges(structures, points, own, 3.0)[0].shape[1] == 0


def test_a_far_point_does_not_make_all_blocks_wide() -> None:
    structures = structures_from_atoms([STRUCTURES["molecule"]], dtype=torch.float64)
    points = torch.rand(3000, 3, dtype=torch.float64) * 12.0
    alone = point_blocks(structures, points, 3.1, size=64)
    far = point_blocks(structures, torch.cat([points, torch.full((1, 3), 1e5, dtype=torch.float64)]), 3.1, size=64)
    assert len(far.atom) <= 2 * len(alone.atom)
