"""Densities at many points of one structure: encode once, decode slice by slice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import ase
import numpy as np
import torch
from numpy.typing import NDArray

from deepdft.graph.batch import Structures
from deepdft.graph.neighbors import atom_graph, probe_graph, structures_from_atoms
from deepdft.models.base import AtomStates, DensityModel

__all__ = ["EncodedStructure"]


class EncodedStructure:
    """A structure whose atoms have been encoded by a model, ready for any number of query points.

    Args:
        model: the model; its device and precision are used.
        atoms: the structure.
        pbc: None keeps the periodicity of `atoms`; True or False forces it along all axes.
    """

    def __init__(self, model: DensityModel, atoms: ase.Atoms, *, pbc: bool | None = None) -> None:
        parameter = next(model.parameters())
        self.model = model
        self.structures: Structures = structures_from_atoms([atoms], pbc=pbc, dtype=parameter.dtype).to(
            parameter.device
        )
        with torch.no_grad():
            self.states: AtomStates = model.encode(atom_graph(self.structures, model.cutoff))

    @torch.no_grad()
    def density(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """Density (n,) in e/Å³ at points (n, 3) in Å; all of them in one go."""
        positions = torch.as_tensor(points).to(self.structures.positions)
        structure = torch.zeros(len(positions), dtype=torch.int64, device=positions.device)
        probes = probe_graph(self.structures, positions, structure, self.model.cutoff)
        return self.model.decode(self.states, probes).cpu().numpy()

    def densities(self, slices: Iterable[NDArray[np.floating]]) -> Iterator[NDArray[np.floating]]:
        """Densities of slice after slice of points; memory is bounded by the largest slice."""
        for points in slices:
            yield self.density(points)
