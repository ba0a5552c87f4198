"""The orbital model with exponents that are learned, or own ones for each element: ablations of `run.py` only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from deepdft.models.orbital import Orbital


class Exponential(nn.Module):
    """Keeps a parameter positive, and makes its steps relative ones."""

    def forward(self, logarithm: Tensor) -> Tensor:
        return logarithm.exp()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.log()


class LearnedExponents(Orbital):
    """The exponents of the Gaussians are learned with the network; their reaches and mixing stay as they begin.

    The fitted atoms are made of the same Gaussians, so they change with the exponents too.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        exponents = self.basis.exponents.clone()
        del self.basis.exponents
        self.basis.exponents = nn.Parameter(exponents)
        parametrize.register_parametrization(self.basis, "exponents", Exponential())


class ElementContractions(Orbital):
    """Coefficients are mixed by a matrix of each element's own, which begins as the identity.

    With it the radial functions that an element's orbitals are made of are its own combinations of the Gaussians:
    contracted functions, the usual way to own exponents for each element in quantum chemistry.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        n, orders = self.n_radial, self.basis.max_order + 1
        self.contractions = nn.Parameter(torch.eye(n).repeat(119, orders, 1, 1))
        self.numbers: Tensor | None = None
        plain = self.basis.mixed

        def mixed(amplitudes: Tensor) -> Tensor:  # (n_atoms, (L + 1)², n_radial, n_orbitals)
            own = self.contractions[self.numbers][:, self.basis.order_of]
            return plain(own @ amplitudes)

        self.basis.mixed = mixed

    def encode(self, atoms: Any) -> Any:
        self.numbers = atoms.numbers
        return super().encode(atoms)
