"""Atoms with features of all degrees l = 0…L that rotate like spherical harmonics: PaiNN's scheme beyond vectors.

Messages carry the sender's scalars times Y_lm of the edge, and the sender's features of the same degree. Updates mix
channels within a degree, and degrees through products of the features as functions on the sphere: where an atom's
neighbours are, seen together. Everything is exactly equivariant under rotations and reflections.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepdft import chunks
from deepdft.graph.batch import AtomGraph
from deepdft.models.base import N_ELEMENTS
from deepdft.nn.activations import SiLU
from deepdft.nn.atom_embedding import AtomEmbedding
from deepdft.nn.equivariant import equivariant_sum, sent_features
from deepdft.nn.equivariant_linear import EquivariantLinear
from deepdft.nn.interpolation import Tabulated
from deepdft.nn.mlp import Stack, two_layers
from deepdft.nn.radial import CosineCutoff, Radial, RadialFeatures, SincBasis, safe_norm
from deepdft.nn.spherical import degrees, products_on_sphere, solid_harmonics

__all__ = ["EquivariantEncoder"]

TYPICAL_NEIGHBOURS = 12.0
"""Messages are divided by its square root, so that their sums are of order one."""


class Interaction(nn.Module):
    """One round of messages and the update after it.

    Args:
        hidden_size: H, channels of every degree.
        l_max: L.
        n_basis: functions that expand distances.
        initial_moments: whether the atoms' initial magnetic moments are an input.
    """

    degree_of: Tensor

    def __init__(self, hidden_size: int, l_max: int, n_basis: int) -> None:
        super().__init__()
        self.hidden_size, self.l_max = hidden_size, l_max
        self.sent = two_layers(hidden_size, hidden_size, (1 + 2 * l_max) * hidden_size, SiLU)
        self.filter = nn.Linear(n_basis, (1 + 2 * l_max) * hidden_size)
        self.mixed = EquivariantLinear(l_max, hidden_size, 2 * hidden_size)
        self.products = EquivariantLinear(l_max, hidden_size, hidden_size)
        self.update = two_layers((1 + l_max) * hidden_size, hidden_size, (1 + 3 * l_max) * hidden_size, SiLU)
        self.register_buffer("degree_of", torch.tensor(degrees(l_max)[1:]) - 1, persistent=False)

    def filters(self, edges: RadialFeatures) -> Tensor:
        """Factors of messages that depend on the edge (n_edges, (1 + 2L) H)."""
        return self.filter(edges.basis) * (edges.cutoff / TYPICAL_NEIGHBOURS**0.5)

    def forward(
        self, scalars: Tensor, features: Tensor, filters: Tensor | Tabulated, harmonics: Tensor, edge_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New scalars (n_atoms, H) and features (n_atoms, Σ(2l + 1), H)."""
        sent, (sender, receiver) = self._sent(scalars, features), edge_index
        summed = equivariant_sum(sent, filters, harmonics, sender, receiver, len(scalars))
        states = (scalars + summed[:, 0], features + summed[:, 1:])
        parts = [self._update(*part) for part in zip(*(s.split(chunks.CPU.atoms_encoded) for s in states), strict=True)]
        scalars, features = map(torch.cat, zip(*parts, strict=True))
        return scalars, features

    def _sent(self, scalars: Tensor, features: Tensor) -> Tensor:
        """Factors of messages that depend on the sender's scalars and features (n_atoms, Σ(2l + 1), H)."""
        scalar, radial, gates = (
            self.sent(scalars).unflatten(-1, (1 + 2 * self.l_max, -1)).split([1, self.l_max, self.l_max], dim=1)
        )
        passthrough = gates.index_select(1, self.degree_of) * features
        return sent_features(scalar=scalar.squeeze(1), radial=radial, passthrough=passthrough)

    def _update(self, scalars: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Two mixtures U v and V v: their products are invariants and new features; gates let these and U v through."""
        left, right = self.mixed(features).split(self.hidden_size, dim=-1)
        invariants = self._per_degree(left * right)  # (n_atoms, L, H)
        norms = (self._per_degree(right * right) + 1e-8).sqrt()
        products = self.products(products_on_sphere(left, right, self.l_max))
        change = self.update(torch.cat([scalars, norms.flatten(1)], dim=-1)).unflatten(-1, (1 + 3 * self.l_max, -1))
        of_invariants, *gates = change[:, 1:].split(self.l_max, dim=1)
        of_left, of_products = (gate.index_select(1, self.degree_of) for gate in gates)
        scalars = scalars + change[:, 0] + (of_invariants * invariants).sum(dim=1)
        return scalars, features + of_left * left + of_products * products

    def _per_degree(self, products: Tensor) -> Tensor:
        """Mean over m: (n_atoms, Σ(2l + 1), H) → (n_atoms, L, H)."""
        return torch.stack([part.mean(dim=1) for part in products.split(self.mixed.sizes, dim=1)], dim=1)


class EquivariantEncoder(nn.Module):
    """Scalars and features of degrees 1…L of all atoms.

    Args:
        hidden_size: H, channels of every degree.
        l_max: L.
        n_interactions: rounds of messages.
        cutoff: length below which atoms are joined, Å.
        n_basis: functions that expand distances.

    Source: PaiNN, Schütt et al. 2021 (arXiv 2102.03150), Eq. 7 to 10, with every degree in place of vectors, and with
    products of features.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        l_max: int,
        n_interactions: int,
        cutoff: float,
        n_basis: int,
        initial_moments: bool = False,
    ) -> None:
        super().__init__()
        self.l_max = l_max
        self.radial = Radial(SincBasis(cutoff, size=n_basis), CosineCutoff(cutoff), cutoff)
        self.embedding = AtomEmbedding(N_ELEMENTS, hidden_size, moments=initial_moments)
        self.interactions: Stack[Interaction] = Stack(
            Interaction(hidden_size, l_max, n_basis) for _ in range(n_interactions)
        )

    def forward(self, atoms: AtomGraph) -> tuple[Tensor, Tensor]:
        """Scalars (n_atoms, H), features (n_atoms, Σ(2l + 1), H)."""
        vectors = atoms.edge_vectors()
        distances = safe_norm(vectors)
        harmonics = solid_harmonics(vectors / distances[:, None], self.l_max)[:, 1:]
        all_filters = self.radial.filters(distances, [interaction.filters for interaction in self.interactions])
        scalars = self.embedding.of(atoms.structures)
        features = scalars.new_zeros(atoms.n_atoms, harmonics.shape[1], scalars.shape[1])
        for interaction, filters in zip(self.interactions, all_filters, strict=True):
            scalars, features = interaction(scalars, features, filters, harmonics, atoms.edge_index)
        return scalars, features
