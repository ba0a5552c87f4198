"""Blocks of points against all distances."""

import numpy as np
import pytest
import torch

from deepdft.graph.blocks import BLOCK_WIDTH, compact_blocks
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
    for block in compact_blocks(structures, torch.from_numpy(points), cutoff, largest=largest):
        assert 0 < len(block.index) <= largest
        assert (block.points.amax(dim=0) - block.points.amin(dim=0)).max() <= BLOCK_WIDTH
        seen += block.index.tolist()
        vectors = block.points[:, None] - block.atom_positions  # (n_points, n_near, 3)
        for i, own in zip(block.index.tolist(), vectors, strict=True):
            near = own.norm(dim=-1) < cutoff
            wanted = edge_index[1] == i
            assert sorted(block.atom[near].tolist()) == sorted(edge_index[0][wanted].tolist())
            found, reference = (v.numpy()[np.lexsort(v.numpy().round(6).T)] for v in (own[near], expected[wanted]))
            assert found == pytest.approx(reference, abs=1e-9)
    assert sorted(seen) == list(range(300))


def test_no_points_are_no_blocks() -> None:
    structures = structures_from_atoms([STRUCTURES["molecule"]])
    assert list(compact_blocks(structures, torch.empty(0, 3), 3.0, largest=10)) == []
