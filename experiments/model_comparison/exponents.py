"""Variants of the orbital model, for the ablations of `run.py` only.

Without products of features, and with other radial functions: exponents that are learned, contractions of each
element's own, and Slater-like functions instead of Gaussians.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from deepdft.models.base import N_ELEMENTS
from deepdft.models.orbital import Orbital
from deepdft.nn.orbitals import OrbitalBasis
from deepdft.nn.shells import OVERLAP_RIDGE


class Exponential(nn.Module):
    """Keeps a parameter positive, and makes its updates relative."""

    def forward(self, logarithm: Tensor) -> Tensor:
        return logarithm.exp()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.log()


class NoProducts(Orbital):
    """Features are mixed within a degree only; degrees are combined in invariants alone."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for interaction in self.encoder.interactions:
            for parameter in interaction.products.parameters():
                nn.init.zeros_(parameter).requires_grad_(False)


class LearnedExponents(Orbital):
    """The exponents of the Gaussians are learned with the network; their reaches and mixing stay fixed.

    The fitted atoms are made of the same Gaussians, so they change with the exponents too.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        exponents = self.basis.exponents.clone()
        del self.basis.exponents
        self.basis.exponents = nn.Parameter(exponents)
        parametrize.register_parametrization(self.basis, "exponents", Exponential())


class ElementContractions(Orbital):
    """Coefficients are mixed by one matrix per element, which starts as the identity.

    With it the radial functions that an element's orbitals are made of are its own combinations of the Gaussians:
    contracted functions, the usual way to own exponents for each element in quantum chemistry.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        n, orders = self.n_radial, self.basis.l_max + 1
        self.contractions = nn.Parameter(torch.eye(n).repeat(N_ELEMENTS, orders, 1, 1))
        self.numbers: Tensor | None = None
        plain = self.basis.mixed

        def mixed(amplitudes: Tensor) -> Tensor:  # (n_atoms, (L + 1)², n_radial, n_orbitals)
            own = self.contractions[self.numbers][:, self.basis.order_of]
            return plain(own @ amplitudes)

        self.basis.mixed = mixed

    def encode(self, atoms: Any) -> Any:
        self.numbers = atoms.numbers
        return super().encode(atoms)


class SlaterBasis(OrbitalBasis):
    """R_n = exp(-ζ_n r) (1 - r²/reach_n²)³ with ζ = (10 α)^½: as far down as the Gaussian of α where both end.

    The cusp is rounded within 0.05 Å; the densities here are convolved with 0.1 Å and have none.
    """

    compiled = False
    ROUNDED = 0.05  # Å

    def become(self) -> SlaterBasis:
        """Compute the mixing again, as `OrbitalBasis` does for Gaussians."""
        r = torch.linspace(0.0, float(self.shells[0].reach), 4001, dtype=torch.float64)
        squared = r.square()[None, None]
        radials = [self.radial(squared, shell)[0] for shell in self.shells]
        for order in range(self.l_max + 1):
            functions = torch.cat(radials).T * r[:, None] ** order  # (n_points, n_radial)
            norms = torch.linalg.norm(r[:, None] * functions, dim=0)
            normalised = r[:, None] * functions / norms
            values, vectors = torch.linalg.eigh(normalised.T @ normalised)
            inverse_root = (vectors / (values + OVERLAP_RIDGE).sqrt()) @ vectors.T
            at_equal_maxima = norms / functions.amax(dim=0)
            self.mixing[order] = inverse_root / norms[:, None] * (at_equal_maxima * at_equal_maxima.mean()).sqrt()
        return self

    def radial(self, squared: Tensor, shell: Any) -> Tensor:
        end = (1.0 - squared / shell.reach**2).clamp(min=0.0) ** 3
        distance = (squared + self.ROUNDED**2).sqrt() - self.ROUNDED
        return torch.exp(-(10.0 * self.exponents[shell.radials, None]).sqrt() * distance) * end


class Slater(Orbital):
    """Slater-like functions, for the atoms below the orbitals too."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for basis in (self.basis, self.baseline.basis):
            basis.__class__ = SlaterBasis
            basis.become()
