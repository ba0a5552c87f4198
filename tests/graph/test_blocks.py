"""Blocks of points against all distances."""

import numpy as np
import pytest
import torch

from deepdft.graph.blocks import LARGEST_WIDTH, compact_blocks
from deepdft.graph.neighbors import dense_probe_edges, structures_from_atoms
from deepdft.testing.contract import STRUCTURES


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("largest", [7, 1000])
def test_every_point_is_in_one_block_with_all_atom_images_it_needs(name: str, largest: int) -> None:
    atoms, cutoff = STRUCTURES[name], 3.1
    points = np.random.default_rng(0).uniform(-9.0, 9.0, (300, 3))
    structures = structures_from_atoms([atoms], dtype=torch.float64)
    edge_index, edge_shift = dense_probe_edges(atoms.positions, atoms.cell.array, atoms.pbc, points, cutoff)
    expected = torch.from_numpy(points)[edge_index[1]] - torch.from_numpy(atoms.positions)[edge_index[0]] - edge_shift

    seen = []
    for group in compact_blocks(structures, torch.from_numpy(points), cutoff, largest=largest):
        for block in group:
            index, own_points = group.index[block.points].tolist(), group.points[block.points]
            assert 0 < len(index) <= largest
            assert (own_points.amax(dim=0) - own_points.amin(dim=0)).max() <= LARGEST_WIDTH
            seen += index
            vectors = own_points[:, None] - group.atom_positions[block.near]  # (n_points, n_near, 3)
            for i, own in zip(index, vectors, strict=True):
                near = own.norm(dim=-1) < cutoff
                wanted = edge_index[1] == i
                assert sorted(group.atom[block.near][near].tolist()) == sorted(edge_index[0][wanted].tolist())
                found, reference = (v.numpy()[np.lexsort(v.numpy().round(6).T)] for v in (own[near], expected[wanted]))
                assert found == pytest.approx(reference, abs=1e-9)
    assert sorted(seen) == list(range(300))


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
            distances = torch.cdist(group.atom_positions[block.near], group.points[block.points])
            assert (distances[count:] >= reach).all()
            assert (np.diff(group.distance[block.near]) >= 0).all()
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
