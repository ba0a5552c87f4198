"""A density from learned orbitals: squares of sums of atom-centred functions, and hardly any work per query point.

    ρ(r) = ρ_atoms(r) + φ_0(r) + Σ_k w_k φ_k(r)²
    φ_k(r) = Σ_a Σ_n,l,m c_a,k,n,l,m R_n(|r - r_a|) S_lm(r - r_a)

ρ_atoms is a fitted superposition of spherical atoms, S_lm are solid harmonics r^l Y_lm, R_n Gaussians. The signs w are
fixed, half of them negative: with φ_k of a pair of opposite signs, w φ² + w' φ'² = (φ - φ') (φ + φ') is any product of
two orbitals. The coefficients c come from a network on the atoms alone, so a query point costs matrix products only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn.functional import pad

from deepdft.graph.batch import AtomGraph, Batch, ProbeGraph, Structures
from deepdft.graph.blocks import Blocks, compact_blocks
from deepdft.models.base import DensityModel, check_counts
from deepdft.models.orbital_encoder import OrderEncoder, PerOrder
from deepdft.models.superposition import Superposition
from deepdft.nn.activations import SiLU
from deepdft.nn.mlp import two_layers
from deepdft.nn.orbitals import OrbitalBasis
from deepdft.nn.spherical import MAX_ORDER
from deepdft.nn.threads import in_parallel

__all__ = ["Orbital", "OrbitalStates"]

POINTS_ON_CPU, POINTS_ON_GPU = 250_000, 2_000_000
"""At a time; 0.2 kB each on a GPU."""
DENSE = 1000
"""Points in a block from which on blocks are faster than compiled loops over edges (measured: 900 to 1700)."""
NUMBERS_IN_CACHE = 500_000
"""Sums over atoms at the points of a block, which decide how many points these are (measured: fastest)."""
ATOMS_AT_A_TIME = 1024
"""Whose coefficients are computed at once: some 4 kB for each of their orbitals, of which a fifth is kept."""


@dataclass(frozen=True)
class OrbitalStates:
    """What probes read from atoms."""

    positions: Tensor
    """(n_atoms, 3) Å."""
    coefficients: Tensor
    """(n_atoms, n_radial, (L + 1)², n_orbitals), c; those of φ_0 include the superposition of atoms."""


class Orbital(DensityModel):
    """A superposition of atoms, one orbital, and the squares of others with both signs.

    Args:
        n_orbitals: K, orbitals whose squares are summed; an even number.
        n_radial: radial functions of the orbitals.
        max_order: L, largest order of the orbitals and of the features of atoms, 1 to 4.
        smallest_exponent: of the widest Gaussian, Å⁻².
        largest_exponent: of the narrowest Gaussian, Å⁻².
        hidden_size: channels of the atoms' features of every order.
        n_interactions: rounds of messages between atoms.
        n_basis: functions that expand distances between atoms.
        cutoff: length below which atoms are joined, and probes to atoms whose functions reach so far, Å.
        residual: False leaves out ρ_atoms and φ_0 and makes all w_k positive, and with them the density.

    Raises:
        ValueError: if the number of orbitals is odd, or a size or an exponent is out of range.
    """

    signs: Tensor

    def __init__(
        self,
        *,
        n_orbitals: int = 12,
        n_radial: int = 12,
        max_order: int = 3,
        smallest_exponent: float = 0.5,
        largest_exponent: float = 100.0,
        hidden_size: int = 64,
        n_interactions: int = 3,
        n_basis: int = 20,
        cutoff: float = 5.0,
        residual: bool = True,
    ) -> None:
        super().__init__(cutoff=cutoff)
        check_counts(n_radial=n_radial, hidden_size=hidden_size, n_interactions=n_interactions, n_basis=n_basis)
        if not 1 <= max_order <= MAX_ORDER:
            raise ValueError(f"max_order must be 1 to {MAX_ORDER}, got {max_order}")
        if not 0 < smallest_exponent <= largest_exponent:
            raise ValueError(
                f"exponents must be above zero, the smallest first; got smallest_exponent={smallest_exponent} and "
                f"largest_exponent={largest_exponent}"
            )
        if n_orbitals % 2:
            raise ValueError(f"n_orbitals must be even, half of them have a negative sign; got {n_orbitals}")
        radial = {
            "smallest_exponent": smallest_exponent,
            "largest_exponent": largest_exponent,
            "cutoff": cutoff,
        }
        self.basis = OrbitalBasis(n_radial, max_order=max_order, **radial)
        self.probe_cutoff = self.basis.reach
        self.baseline = Superposition(n_functions=n_radial, **radial).requires_grad_(False) if residual else None
        self.encoder = OrderEncoder(
            hidden_size=hidden_size,
            max_order=max_order,
            n_interactions=n_interactions,
            cutoff=cutoff,
            n_basis=n_basis,
        )
        self.n_linear = 1 if residual else 0
        signs = torch.ones(n_orbitals)
        if residual:
            signs[n_orbitals // 2 :] = -1.0
        self.register_buffer("signs", signs, persistent=False)
        self.n_radial = n_radial
        n_columns = n_radial * (self.n_linear + n_orbitals)
        self.scalar_readout = two_layers(hidden_size, hidden_size, n_columns, SiLU)
        self.order_readout = PerOrder(max_order, hidden_size, n_columns)
        if residual:
            self._begin_at_the_baseline()

    @torch.no_grad()
    def _begin_at_the_baseline(self) -> None:
        """φ_0 is zero and squares of opposite signs are equal: zero altogether, yet each has a gradient."""
        half = len(self.signs) // 2
        for parameter in (*self.scalar_readout[-1].parameters(), *self.order_readout.parameters()):
            columns = parameter.unflatten(0, (self.n_radial, -1))
            columns[:, 0] = 0.0
            columns[:, 1 + half :] = columns[:, 1 : 1 + half]

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Fit the superposition of atoms; it stays as it is from then on."""
        if self.baseline is not None:
            self.baseline.fit(batches)

    def encode(self, atoms: AtomGraph) -> OrbitalStates:
        """Compute the coefficients of all orbitals."""
        states = (atoms.numbers, *self.encoder(atoms))
        parts = zip(*(state.split(ATOMS_AT_A_TIME) for state in states), strict=True)
        return OrbitalStates(atoms.positions, torch.cat([self._coefficients(*part) for part in parts]))

    def _coefficients(self, numbers: Tensor, scalars: Tensor, features: Tensor) -> Tensor:
        """Coefficients c of some atoms (n_atoms, n_radial, (L + 1)², n_orbitals)."""
        amplitudes = torch.cat([self.scalar_readout(scalars)[:, None], self.order_readout(features)], dim=1)
        coefficients = self.basis.mixed(amplitudes.unflatten(-1, (self.n_radial, -1)))
        if self.baseline is not None:
            # the superposition of atoms is made of the same functions of order 0: it rides on φ_0
            atoms_alone = self.baseline.weights(numbers)[:, :, None, None]
            n_orders, n_orbitals = coefficients.shape[-2:]
            coefficients = coefficients + pad(atoms_alone, (0, n_orbitals - 1, 0, n_orders - 1))
        return coefficients

    def decode(self, states: OrbitalStates, probes: ProbeGraph) -> Tensor:
        """Density (n_probes,) in e/Å³."""
        return self._density(self.basis(states.coefficients, states.positions, probes))

    def decode_points(self, states: OrbitalStates, structures: Structures, points: Tensor) -> Tensor:
        """The same, where points are dense in compact blocks of them, without edges."""
        if points.device.type != "cpu":
            return self._decode_on_gpu(states, structures, points)
        groups = compact_blocks(
            structures,
            points,
            self.probe_cutoff,
            largest=max(64, NUMBERS_IN_CACHE // states.coefficients[0, 0].numel()),
            dense=DENSE if self.basis.has_fast_edges(points.to(structures.dtype)) else 0,
            least_groups=4 * torch.get_num_threads(),
        )

        def decode(group: Blocks) -> tuple[Tensor, Tensor]:
            values = self.basis.in_blocks if group.dense else self.basis.at_edges_of_blocks
            return group.index, self._density(values(states.coefficients, group))

        parts = in_parallel(decode, groups)
        density = points.new_zeros(len(points), dtype=structures.dtype)
        if not parts:
            return density
        index, densities = map(torch.cat, zip(*parts, strict=True))
        return density.index_copy(0, index, densities)

    def _decode_on_gpu(self, states: OrbitalStates, structures: Structures, points: Tensor) -> Tensor:
        derivatives = torch.is_grad_enabled() and (states.coefficients.requires_grad or points.requires_grad)
        if derivatives or len(points) == 0 or not self._has_kernel(points.device):
            return super().decode_points(states, structures, points)
        linear = torch.zeros(self.n_linear + len(self.signs), device=points.device)
        linear[: self.n_linear] = 1.0
        signs = pad(self.signs, (self.n_linear, 0))
        return self.basis.squares_on_gpu(states.coefficients, structures, points, linear, signs)

    def points_at_a_time(self, device: torch.device) -> int | None:
        """Points in blocks: hardly any memory each, but where a GPU has to go back to edges."""
        if device.type == "cpu":
            return POINTS_ON_CPU
        return POINTS_ON_GPU if self._has_kernel(device) else None

    def _has_kernel(self, device: torch.device) -> bool:
        """Whether a GPU can decode in blocks: in single precision, by Triton, which is not everywhere."""
        if not self.basis.compiled or self.basis.exponents.dtype != torch.float32 or find_spec("triton") is None:
            return False
        from deepdft.nn.orbital_kernels import works_on

        return works_on(device)

    def _density(self, orbitals: Tensor) -> Tensor:
        """Values of all orbitals (n_points, n_orbitals) → (n_points,) e/Å³."""
        if self.baseline is None:
            return orbitals.square().sum(dim=-1)
        return orbitals[:, 0] + orbitals[:, 1:].square() @ self.signs
