"""A model for tests that stop a prediction in the middle: it takes its time, and may kill its process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepdft import chunks
from deepdft.graph.batch import AtomGraph, ProbeGraph, Structures
from deepdft.models.base import DensityModel
from deepdft.nn.scatter import sum_over_neighbours

chunks.CPU.points_in_slab_by_edges = 20_000  # in the command and in its workers, which load this model


class SlowGaussians(DensityModel):
    """Each atom within the cutoff adds Z exp(-d²), a little later."""

    def __init__(self) -> None:
        super().__init__(cutoff=3.0)
        self.width = torch.nn.Parameter(torch.ones(1))
        self.receptive_field = self.cutoff

    def encode(self, atoms: AtomGraph) -> AtomGraph:
        """Nothing to compute; where the environment names a file, the first to remove it dies."""
        fuse = os.environ.get("DEEPDFT_TEST_FUSE")
        if fuse is not None:
            try:
                Path(fuse).unlink()
            except FileNotFoundError:
                return atoms
            os.kill(os.getpid(), signal.SIGKILL)
        return atoms

    def decode(self, states: AtomGraph, probes: ProbeGraph) -> Tensor:
        """Density (n_probes, 1)."""
        sender, receiver = probes.edge_index
        squares = probes.edge_vectors(states.positions).square().sum(dim=1)
        each = states.numbers[sender] * torch.exp(-squares / self.width**2)
        return sum_over_neighbours(each, receiver, probes.n_probes)[:, None]

    def decode_points(self, states: Any, structures: Structures, points: Tensor) -> Tensor:
        """The same, slowly."""
        time.sleep(0.3)
        return super().decode_points(states, structures, points)
