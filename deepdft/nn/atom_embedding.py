"""The state that an atom begins with: learned numbers of its element and, where they are an input, of its moment."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepdft.graph.batch import Structures

__all__ = ["AtomEmbedding", "needs_moments"]


class AtomEmbedding(nn.Embedding):
    """Scalars (n_atoms, H) of atoms: a row of the element, plus a linear function of m and |m| of the initial moment m.

    The function starts at zero, so that moments change nothing before training. The overall sign of a collinear state
    is arbitrary in a calculation; as an input, the moments choose it.

    Args:
        n_elements: rows, by atomic number.
        hidden_size: H.
        moments: whether initial moments are an input.
    """

    def __init__(self, n_elements: int, hidden_size: int, *, moments: bool) -> None:
        super().__init__(n_elements, hidden_size)
        self.of_moment = nn.Linear(2, hidden_size, bias=False) if moments else None
        if self.of_moment is not None:
            nn.init.zeros_(self.of_moment.weight)

    def of(self, structures: Structures) -> Tensor:
        """Scalars (n_atoms, H) of the atoms of structures."""
        scalars: Tensor = self(structures.numbers)
        if self.of_moment is None:
            return scalars
        moments = structures.moments.to(scalars.dtype)
        return scalars + self.of_moment(torch.stack([moments, moments.abs()], dim=1))


def needs_moments(model: nn.Module) -> bool:
    """Whether initial moments are an input of a model."""
    return any(isinstance(part, AtomEmbedding) and part.of_moment is not None for part in model.modules())
