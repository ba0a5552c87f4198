"""What all query points without neighbours have in common is computed once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deepdft.graph.batch import ProbeGraph

__all__ = ["decode_unique_probes"]


def decode_unique_probes(decode: Callable[[Tensor, int], Tensor], probes: ProbeGraph) -> Tensor:
    """Decode only probes with neighbours, and one for all that have none: their answer is the same.

    About half the grid points of a molecule's box have no atom within 4 Å.

    Args:
        decode: maps receiver indices (n_edges,) and a number of receivers n to their densities (n, n_channels).
        probes: the query points.

    Returns:
        (n_probes, n_channels) densities.
    """
    receiver = probes.edge_index[1]
    # edges are sorted by receiver, so that each reached probe is one run of equal indices
    reached, compact = torch.unique_consecutive(receiver, return_inverse=True)
    if len(reached) == probes.n_probes:
        return decode(receiver, probes.n_probes)
    density = decode(compact, len(reached) + 1)  # the last one is the lonely probe
    return density[-1].expand(probes.n_probes, -1).index_copy(0, reached, density[:-1])
