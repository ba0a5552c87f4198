"""Query points in parts of about so many edges."""

import pytest
import torch

from deepdft.graph.batch import ProbeGraph


@pytest.mark.parametrize("receivers", [[1, 1, 1, 2, 4, 4, 4, 4, 4, 7], [0, 0, 0, 2, 4, 4, 4, 4, 4, 8]])
def test_parts_are_consecutive_probes_with_all_their_edges(receivers: list[int]) -> None:
    receiver = torch.tensor(receivers)
    sender = torch.arange(10)
    shift = torch.rand(10, 3)
    probes = ProbeGraph(torch.rand(9, 3), torch.zeros(9).long(), torch.stack([sender, receiver]), shift)
    parts = probes.chunks(2)
    most_of_one_probe = int(receiver.bincount().max())
    assert len(parts) > 1
    assert all(part.n_probes > 0 and part.edge_index.shape[1] < 2 + most_of_one_probe for part in parts)
    assert torch.equal(torch.cat([part.positions for part in parts]), probes.positions)
    assert torch.equal(torch.cat([part.edge_shift for part in parts]), shift)
    first = 0
    for part in parts:
        of_part = (receiver >= first) & (receiver < first + part.n_probes)
        assert torch.equal(part.edge_index, torch.stack([sender[of_part], receiver[of_part] - first]))
        first += part.n_probes
    assert probes.chunks(10) == [probes]
