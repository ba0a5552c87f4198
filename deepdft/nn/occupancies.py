"""PAW augmentation occupancies of atoms, read from equivariant features.

The occupancies of an atom are a symmetric matrix between its partial waves. VASP lists it pair by pair of channels
i ≤ j with degrees l_i, l_j, and each pair by degrees L = |l_i - l_j|, |l_i - l_j| + 2, …, l_i + l_j with 2L + 1 numbers
in the order m = -L…L of real harmonics. So "ssp", two s and a p channel, has 1 + 1 + 3 + 1 + 3 + (1 + 5) = 15 numbers.
Those of degree L rotate like the harmonics Y_LM.

Source: Kresse & Joubert 1999 (Phys. Rev. B 59, 1758), Eq. 27; the order of a CHGCAR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from deepdft.nn.activations import SiLU
from deepdft.nn.equivariant_linear import EquivariantLinear
from deepdft.nn.mlp import two_layers
from deepdft.nn.radial import safe_norm
from deepdft.nn.spherical import MAX_L, products_on_sphere

__all__ = ["WAVES", "Occupancies", "OccupancyHead", "degrees_of_pairs", "n_occupancies", "occupancy_errors"]

WAVES = "spdf"
"""Letters of partial waves of degree l = 0 to 3."""
MIN_SPREAD = 1e-4
"""Smallest spread that errors are measured by."""
N_NUMBERS = 119
"""Rows of a table indexed by atomic number, 0 to 118."""


class Occupancies(NamedTuple):
    """Occupancies of atoms; numbers beyond those of an element are NaN."""

    values: Tensor
    """(n_atoms, n_channels, width)."""
    spread: Tensor
    """(n_atoms, n_channels, width), their standard deviation among the training atoms of the element."""


class _Block(NamedTuple):
    """The 2L + 1 numbers of a pair of partial waves and a degree, of one element and channel of the density."""

    number: int
    channel: int
    degree: int
    first: int


def degrees_of_pairs(waves: str) -> list[int]:
    """The degree L of each block of 2L + 1 occupancies, in VASP's order.

    Args:
        waves: channels of an element's partial waves, as "sspp".

    Raises:
        ValueError: if there are other letters than s, p, d and f.
    """
    if not isinstance(waves, str) or not waves or not set(waves) <= set(WAVES):
        raise ValueError(f"partial waves are letters among s, p, d, f, such as sspp; got {waves!r}")
    pairs = combinations_with_replacement([WAVES.index(wave) for wave in waves], 2)
    return [degree for l_i, l_j in pairs for degree in range(abs(l_i - l_j), l_i + l_j + 1, 2)]


def n_occupancies(waves: str) -> int:
    """Number of occupancies of an element with some partial waves."""
    return sum(2 * degree + 1 for degree in degrees_of_pairs(waves))


def occupancy_errors(predicted: Occupancies, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Errors and spreads (n,) of all occupancies that are known and predicted.

    Args:
        predicted: of a model.
        reference: (n_atoms, n_channels, any width), NaN beyond those of an element.
    """
    reference = pad(reference, (0, predicted.values.shape[-1] - reference.shape[-1]), value=torch.nan)
    known = reference.isfinite() & predicted.values.isfinite()
    return (predicted.values - reference)[known], predicted.spread[known]


class OccupancyHead(nn.Module):
    """Occupancies from the features of an encoder.

    Products of features, as functions on the sphere, reach twice the degree that the encoder has. Within each degree
    they are mixed linearly behind gates that depend on invariants, with outputs of its own for each element.
    Occupancies of degrees above 4, which only two f waves have, are predicted as zero.

    Args:
        partial_waves: atomic number → channels of partial waves, as {8: "sspp", 1: "ssp"}.
        l_max: L, largest degree of the features.
        hidden_size: H, channels of the features.
        n_channels: channels of the density, each of which has occupancies.
    """

    place: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(self, partial_waves: Mapping[int, str], *, l_max: int, hidden_size: int, n_channels: int) -> None:
        super().__init__()
        self.blocks = blocks = _blocks(partial_waves, n_channels)
        degrees = sorted({block.degree for block in blocks if 0 < block.degree <= MAX_L})
        self.l_max = max(l_max, *degrees, 1)
        self.width = max(map(n_occupancies, partial_waves.values()))
        self.mixed = EquivariantLinear(self.l_max, hidden_size, 2 * hidden_size)
        self.hidden = two_layers((1 + 2 * self.l_max) * hidden_size, hidden_size, hidden_size, SiLU)
        self.gates = nn.Linear(hidden_size, 2 * self.l_max * hidden_size)
        counts = {degree: sum(block.degree == degree for block in blocks) for degree in (0, *degrees)}
        self.scalar_output = nn.Linear(hidden_size, counts[0])
        self.outputs = nn.ModuleDict(
            {str(degree): nn.Linear(2 * hidden_size, counts[degree], bias=False) for degree in degrees}
        )
        shape = (N_NUMBERS, n_channels, self.width)
        self.register_buffer("place", _places(blocks, counts, shape), persistent=False)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("spread", torch.ones(shape))

    @torch.no_grad()
    def fit(self, numbers: Tensor, occupancies: Tensor) -> None:
        """Take means and spreads from training atoms.

        Args:
            numbers: (n_atoms,) atomic numbers.
            occupancies: (n_atoms, n_channels, width), NaN beyond those of an element.
        """
        for number, channel, degree, first in self.blocks:
            numbers_of_block = slice(first, first + 2 * degree + 1)
            own = occupancies[numbers == number, channel, numbers_of_block].double()
            own = own[own.isfinite().all(dim=1)]
            if len(own):
                mean = own.mean() if degree == 0 else 0.0
                self.mean[number, channel, numbers_of_block] = mean
                self.spread[number, channel, numbers_of_block] = (own - mean).square().mean().sqrt().clamp(MIN_SPREAD)

    def forward(self, numbers: Tensor, scalars: Tensor, features: Tensor) -> Occupancies:
        """Occupancies of atoms.

        Args:
            numbers: (n_atoms,) atomic numbers.
            scalars: (n_atoms, H).
            features: (n_atoms, Σ(2l + 1), H) of degrees 1…L, in the order of `deepdft.nn.spherical`.
        """
        features = pad(features, (0, 0, 0, (self.l_max + 1) ** 2 - 1 - features.shape[1]))
        left, right = self.mixed(features).chunk(2, dim=-1)
        both = torch.cat([features, products_on_sphere(left, right, self.l_max)], dim=-1)
        parts = both.split(self.mixed.sizes, dim=1)  # per degree (n_atoms, 2l + 1, 2H)
        norms = [safe_norm(part, dim=1) for part in parts]
        hidden = self.hidden(torch.cat([scalars, *norms], dim=1))
        gates = self.gates(hidden).unflatten(1, (self.l_max, 1, -1))
        found = [self.scalar_output(hidden)]
        for degree, output in self.outputs.items():
            i = int(degree) - 1
            found.append(output(gates[:, i] * parts[i]).transpose(1, 2).flatten(1))
        zero = scalars.new_zeros(len(scalars), 1)
        flat = torch.cat([zero, torch.full_like(zero, torch.nan), *found], dim=1)
        place = self.place[numbers]  # (n_atoms, n_channels, width)
        values = flat.gather(1, place.flatten(1)).view(place.shape)
        spread = self.spread[numbers]
        return Occupancies(self.mean[numbers] + spread * values, spread)


def _blocks(partial_waves: Mapping[int, str], n_channels: int) -> list[_Block]:
    found = []
    for number, waves in sorted(partial_waves.items()):
        for channel in range(n_channels):
            first = 0
            for degree in degrees_of_pairs(waves):
                found.append(_Block(number, channel, degree, first))
                first += 2 * degree + 1
    return found


def _places(blocks: Sequence[_Block], counts: Mapping[int, int], shape: tuple[int, int, int]) -> Tensor:
    """Where each occupancy is among all outputs side by side; 0 is a zero, 1 a NaN."""
    place = torch.ones(shape, dtype=torch.int64)
    start = 2
    for degree, count in counts.items():
        size = 2 * degree + 1
        of_degree = [block for block in blocks if block.degree == degree]
        for k, block in enumerate(of_degree):
            at = start + k * size
            place[block.number, block.channel, block.first : block.first + size] = torch.arange(at, at + size)
        start += count * size
    for block in blocks:
        if block.degree not in counts:
            place[block.number, block.channel, block.first : block.first + 2 * block.degree + 1] = 0
    return place
