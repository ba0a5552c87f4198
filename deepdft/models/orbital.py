"""A density from learned orbitals: squares of sums of atom-centred functions, with hardly any work per query point.

    ρ(r) = ρ_atoms(r) + φ_0(r) + Σ_k w_k φ_k(r)²
    φ_k(r) = Σ_a Σ_n,l,m c_a,k,n,l,m R_n(|r - r_a|) S_lm(r - r_a)

ρ_atoms is a fitted superposition of spherical atoms, S_lm are solid harmonics r^l Y_lm, R_n Gaussians. The signs w are
fixed, half of them negative: with φ_k of a pair of opposite signs, w φ² + w' φ'² = (φ - φ') (φ + φ') is any product of
two orbitals. The coefficients c come from a network on the atoms alone, so a query point costs matrix products only.
Each channel of the density has orbitals of its own; ρ_atoms belongs to the total.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from deepdft import chunks
from deepdft.density import TOTAL
from deepdft.graph.batch import AtomGraph, Batch, ProbeGraph, Structures
from deepdft.graph.blocks import Blocks, compact_blocks
from deepdft.models.base import DensityModel, check_counts
from deepdft.models.orbital_encoder import EquivariantEncoder
from deepdft.models.superposition import Superposition
from deepdft.nn.activations import SiLU
from deepdft.nn.equivariant_linear import EquivariantLinear
from deepdft.nn.fast import Operation, enabled
from deepdft.nn.mlp import two_layers
from deepdft.nn.orbitals import OrbitalBasis
from deepdft.nn.spherical import MAX_L
from deepdft.nn.threads import in_parallel

__all__ = ["Orbital", "OrbitalStates"]


@dataclass(frozen=True)
class OrbitalStates:
    """The states of atoms that probes read."""

    positions: Tensor
    """(n_atoms, 3) Å."""
    coefficients: Tensor
    """(n_atoms, n_radial, (L + 1)², n_orbitals), c of all channels; φ_0 of the total includes ρ_atoms."""
    invariants: Tensor
    """(n_atoms, (1 + L) H), the encoder's scalars and the norms of its features of each degree; without gradients."""


class Orbital(DensityModel):
    """A superposition of atoms, one orbital, and the squares of others with both signs.

    Args:
        n_orbitals: K, orbitals whose squares are summed; an even number.
        n_radial: radial functions of the orbitals.
        l_max: L, largest degree l of the orbitals and of the features of atoms, 1 to 4.
        smallest_exponent: of the widest Gaussian, Å⁻².
        largest_exponent: of the narrowest Gaussian, Å⁻².
        hidden_size: channels of the atoms' features of every degree.
        n_interactions: rounds of messages between atoms.
        n_basis: functions that expand distances between atoms.
        cutoff: length below which atoms are joined, and probes to atoms whose functions reach so far, Å.
        residual: False leaves out ρ_atoms and φ_0 of the total and makes all its w_k positive, and with them it.
        channels: names of the densities that are predicted, "total" first.
        initial_moments: whether the atoms' initial magnetic moments are an input; they choose the magnetic state.
        max_order: former name of `l_max`, in configs of older checkpoints.

    Raises:
        ValueError: if the number of orbitals is odd, or a size or an exponent is out of range.
    """

    signs: Tensor

    def __init__(
        self,
        *,
        n_orbitals: int = 12,
        n_radial: int = 12,
        l_max: int = 3,
        smallest_exponent: float = 0.5,
        largest_exponent: float = 100.0,
        hidden_size: int = 64,
        n_interactions: int = 3,
        n_basis: int = 20,
        cutoff: float = 5.0,
        residual: bool = True,
        channels: Sequence[str] = (TOTAL,),
        initial_moments: bool = False,
        max_order: int | None = None,
    ) -> None:
        super().__init__(cutoff=cutoff, channels=channels)
        l_max = l_max if max_order is None else max_order
        check_counts(n_radial=n_radial, hidden_size=hidden_size, n_interactions=n_interactions, n_basis=n_basis)
        check_counts(n_orbitals=n_orbitals)
        if l_max not in range(1, MAX_L + 1):
            raise ValueError(f"l_max must be 1 to {MAX_L}, got {l_max}")
        if not 0 < smallest_exponent <= largest_exponent:
            raise ValueError(
                f"exponents must be above zero, the smallest first; got smallest_exponent={smallest_exponent} and "
                f"largest_exponent={largest_exponent}"
            )
        if n_orbitals % 2:
            raise ValueError(f"n_orbitals must be even, half of them have a negative sign; got {n_orbitals}")
        radial: dict[str, Any] = {
            "smallest_exponent": smallest_exponent,
            "largest_exponent": largest_exponent,
            "cutoff": cutoff,
        }
        self.basis = OrbitalBasis(n_radial, l_max=l_max, **radial)
        self.probe_cutoff = self.basis.reach
        self.receptive_field = n_interactions * cutoff + self.probe_cutoff
        self.feature_shape = l_max, hidden_size
        self.baseline = Superposition(n_functions=n_radial, **radial).requires_grad_(False) if residual else None
        self.encoder = EquivariantEncoder(
            hidden_size=hidden_size,
            l_max=l_max,
            n_interactions=n_interactions,
            cutoff=cutoff,
            n_basis=n_basis,
            initial_moments=initial_moments,
        )
        self.register_buffer("signs", torch.ones(2, n_orbitals // 2), persistent=False)
        self.signs[1] = -1.0
        self.n_radial, self.n_orbitals = n_radial, n_orbitals
        self.n_linear = [int(residual or name != TOTAL) for name in self.channels]
        self.n_columns = [n_linear + n_orbitals for n_linear in self.n_linear]
        n_columns = n_radial * sum(self.n_columns)
        # two copies of the coefficients, or several of the features
        self.encoding_bytes = 4.0 * (l_max + 1) ** 2 * (2 * n_columns + 4 * hidden_size) + 6000.0  # measured
        self.scalar_readout = two_layers(hidden_size, hidden_size, n_columns, SiLU)
        self.order_readout = EquivariantLinear(l_max, hidden_size, n_columns)
        self._start_at_the_baseline()

    @torch.no_grad()
    def _start_at_the_baseline(self) -> None:
        """Make φ_0 zero, and squares of opposite signs equal: the sum is zero, yet each has a gradient."""
        half = self.n_orbitals // 2
        for parameter in (*self.scalar_readout[-1].parameters(), *self.order_readout.parameters()):
            by_channel = parameter.unflatten(0, (self.n_radial, -1)).split(self.n_columns, dim=1)
            for n_linear, columns in zip(self.n_linear, by_channel, strict=True):
                if n_linear:
                    columns[:, 0] = 0.0
                    columns[:, 1 + half :] = columns[:, 1 : 1 + half]

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Fit the superposition of atoms to the total density; it stays fixed during training."""
        if self.baseline is not None:
            self.baseline.fit(replace(batch, targets=batch.targets[:, :1]) for batch in batches)

    def encode(self, atoms: AtomGraph) -> OrbitalStates:
        """Compute the coefficients of all orbitals."""
        return self.encode_with_features(atoms)[0]

    def encode_with_features(self, atoms: AtomGraph) -> tuple[OrbitalStates, tuple[Tensor, Tensor]]:
        """The coefficients of all orbitals, and the features of the encoder."""
        scalars, features = self.encoder(atoms)
        states = (atoms.numbers, scalars, features)
        parts = list(zip(*(state.split(chunks.CPU.atoms_encoded) for state in states), strict=True))
        coefficients = torch.cat([self._coefficients(*part) for part in parts])
        invariants = torch.cat([self._invariants(*part[1:]) for part in parts])
        return OrbitalStates(atoms.positions, coefficients, invariants), (scalars, features)

    @torch.no_grad()
    def _invariants(self, scalars: Tensor, features: Tensor) -> Tensor:
        """Scalars (n_atoms, H) and root mean squares over m of features (n_atoms, Σ(2l + 1), H) side by side."""
        norms = [part.square().mean(dim=1).sqrt() for part in features.split(self.order_readout.sizes, dim=1)]
        return torch.cat([scalars, *norms], dim=1)

    def invariants(self, states: OrbitalStates) -> Tensor:
        """Scalars and norms of the features of the encoder (n_atoms, (1 + L) H)."""
        return states.invariants

    def _coefficients(self, numbers: Tensor, scalars: Tensor, features: Tensor) -> Tensor:
        """Coefficients c of some atoms (n_atoms, n_radial, (L + 1)², n_orbitals)."""
        amplitudes = torch.cat([self.scalar_readout(scalars)[:, None], self.order_readout(features)], dim=1)
        coefficients = self.basis.mixed(amplitudes.unflatten(-1, (self.n_radial, -1)))
        if self.baseline is not None:
            # the superposition of atoms consists of the same functions of degree 0, so it is added to φ_0
            atoms_alone = self.baseline.coefficients(numbers)
            n_harmonics, n_orbitals = coefficients.shape[-2:]
            coefficients = coefficients + pad(atoms_alone, (0, n_orbitals - 1, 0, n_harmonics - 1))
        return coefficients

    def decode(self, states: OrbitalStates, probes: ProbeGraph) -> Tensor:
        """Density (n_probes, n_channels) in e/Å³."""
        return self._density(self.basis(states.coefficients, states.positions, probes))

    def decode_points(self, states: OrbitalStates, structures: Structures, points: Tensor) -> Tensor:
        """Density (n_points, n_channels) in e/Å³ at points; compact blocks of dense points need no edges."""
        if points.device.type != "cpu":
            return _DECODE_ON_GPU(self, states, structures, points, states.coefficients)
        groups = compact_blocks(
            structures,
            points,
            self.probe_cutoff,
            largest=max(64, chunks.CPU.numbers_in_block // states.coefficients[0, 0].numel()),
            dense=chunks.CPU.points_in_dense_block if self.basis.has_fast_edges(points.to(structures.dtype)) else 0,
            min_groups=4 * torch.get_num_threads(),
        )

        def decode(group: Blocks) -> tuple[Tensor, Tensor]:
            values = self.basis.in_blocks if group.dense else self.basis.at_edges_of_blocks
            return group.index, self._density(values(states.coefficients, group))

        parts = in_parallel(decode, groups)
        density = points.new_zeros(len(points), len(self.channels), dtype=structures.dtype)
        if not parts:
            return density
        index, densities = map(torch.cat, zip(*parts, strict=True))
        return density.index_copy(0, index, densities)

    def weights(self) -> tuple[Tensor, Tensor]:
        """Weights of φ_k and of φ_k² of all channels in each channel: both (n_channels, n_orbitals)."""
        linear = self.signs.new_zeros(len(self.channels), sum(self.n_columns))
        signs = torch.zeros_like(linear)
        first = 0
        for channel, n_linear in enumerate(self.n_linear):
            linear[channel, first : first + n_linear] = 1.0
            first += n_linear
            signs[channel, first : first + self.n_orbitals] = self.signs.flatten() if n_linear else 1.0
            first += self.n_orbitals
        return linear, signs

    def chunk_size(self, device: torch.device) -> int | None:
        """Points per call: blocks need hardly any memory, unless a GPU has to fall back to edges."""
        if device.type == "cpu":
            return chunks.CPU.points_in_blocks
        return chunks.GPU.points_in_blocks if self._has_kernel(device) else None

    def _has_kernel(self, device: torch.device) -> bool:
        """Whether a GPU can decode in blocks: in single precision, and only with Triton."""
        if not (enabled() and self.basis.compiled and self.basis.exponents.dtype == torch.float32):
            return False
        if find_spec("triton") is None:
            return False
        from deepdft.nn.fast.orbital_gpu import works_on

        return works_on(device)

    def _density(self, orbitals: Tensor) -> Tensor:
        """Values of all orbitals (n_points, n_orbitals) → (n_points, n_channels) e/Å³."""
        return torch.stack([self._of_channel(own) for own in orbitals.split(self.n_columns, dim=-1)], dim=-1)

    def _of_channel(self, orbitals: Tensor) -> Tensor:
        """Density (n_points,) of a channel from its orbitals (n_points, K), φ_0 first unless it is positive."""
        if orbitals.shape[-1] == self.n_orbitals:
            return orbitals.square().sum(dim=-1)
        return orbitals[:, 0] + orbitals[:, 1:].square() @ self.signs.flatten()


def _decode_on_gpu(
    model: Orbital, states: OrbitalStates, structures: Structures, points: Tensor, coefficients: Tensor
) -> Tensor:
    return model.basis.squares_on_gpu(coefficients, structures, points, *model.weights())


_DECODE_ON_GPU = Operation(
    lambda model, states, structures, points, _: DensityModel.decode_points(model, states, structures, points),
    lambda model, states, structures, points, _: len(points) > 0 and model._has_kernel(points.device),
    _decode_on_gpu,
)
