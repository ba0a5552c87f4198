"""A model whose density is known in closed form."""

import pytest
import torch

from deepdft.models.base import DensityModel


class Gaussians(DensityModel):
    """Each atom within the cutoff of a probe adds Z·exp(-d²): brute force over images gives the same."""

    def __init__(self):
        super().__init__(cutoff=4.0)
        self.width = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
        self.encoded = 0

    def encode(self, atoms):
        self.encoded += 1
        return atoms

    def decode(self, states, probes):
        sender, receiver = probes.edge_index
        distance2 = probes.edge_vectors(states.positions).square().sum(dim=1)
        density = torch.zeros(probes.n_probes, dtype=distance2.dtype, device=distance2.device)
        density = density.index_add(0, receiver, states.numbers[sender] * torch.exp(-distance2 / self.width**2))
        return density[:, None]


@pytest.fixture
def gaussians():
    return Gaussians()
