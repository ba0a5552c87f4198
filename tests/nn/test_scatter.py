"""Sums over neighbours, and the shared answer of probes without any."""

import torch

from deepdft.graph.batch import ProbeGraph
from deepdft.nn.scatter import sum_over_neighbours
from deepdft.nn.unique_probes import decode_unique_probes


def probe_graph(receiver: list[int], n_probes: int) -> ProbeGraph:
    edge_index = torch.tensor([[0] * len(receiver), receiver], dtype=torch.int64)
    return ProbeGraph(torch.zeros(n_probes, 3), torch.zeros(n_probes).long(), edge_index, torch.zeros(len(receiver), 3))


def test_messages_are_summed_at_their_receivers() -> None:
    messages = torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    found = sum_over_neighbours(messages, torch.tensor([2, 0, 2]), 4)
    assert found.tolist() == [[10.0, 20.0], [0.0, 0.0], [101.0, 202.0], [0.0, 0.0]]


def test_lonely_probes_share_one_answer_that_is_computed_once() -> None:
    weight = torch.tensor(3.0, requires_grad=True)
    calls = []

    def decode(receiver: torch.Tensor, n: int) -> torch.Tensor:
        calls.append(n)
        return weight * (1.0 + torch.bincount(receiver, minlength=n))[:, None]

    receiver = [1, 1, 4]
    density = decode_unique_probes(decode, probe_graph(receiver, 6))
    assert density.squeeze(-1).tolist() == [3.0, 9.0, 3.0, 3.0, 6.0, 3.0]
    assert calls == [3]  # two reached probes and one for all others
    density.sum().backward()
    assert weight.grad == 1 + 3 + 1 + 1 + 2 + 1  # each lonely probe counts in the gradient


def test_without_lonely_probes_or_without_edges_nothing_is_different() -> None:
    def decode(receiver: torch.Tensor, n: int) -> torch.Tensor:
        return 1.0 + torch.bincount(receiver, minlength=n)[:, None]

    assert decode_unique_probes(decode, probe_graph([0, 1, 1], 2)).tolist() == [[2.0], [3.0]]
    assert decode_unique_probes(decode, probe_graph([], 3)).tolist() == [[1.0], [1.0], [1.0]]
    assert decode_unique_probes(decode, probe_graph([], 0)).tolist() == []
