"""Densities at many points of one structure: encode once, decode slice by slice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import ase
import numpy as np
import torch
from numpy.typing import NDArray

from deepdft.graph.batch import ProbeGraph, Structures
from deepdft.graph.neighbors import atom_graph, probe_graph, structures_from_atoms
from deepdft.models.base import AtomStates, DensityModel

__all__ = ["EncodedStructure", "check_points", "periodicity"]

EDGES_PER_SLICE = {"cpu": 200_000, "cuda": 2_000_000}
"""Edges from atoms to points that are held at a time, about 0.1 kB × hidden size each.

CPU: with SchNet (hidden size 128) on one thread, 10 000 edges gave 24 000 points/s on a QM9 molecule and 6700 on
NMC, 100 000 edges 17 000 and 3900: the smaller ones stay in the cache.
"""
SMALLEST_SLICE, LARGEST_SLICE = 256, 200_000


def periodicity(atoms: ase.Atoms, pbc: bool | None) -> bool | None:
    """The periodicity to force on a structure: a structure without a cell cannot be made to repeat.

    Args:
        atoms: the structure.
        pbc: of the model: None as the structure has it, True forced on, False ignored.

    Raises:
        ValueError: if the structure says that it repeats, and its cell has no vectors for it.
    """
    if pbc is not False and np.linalg.matrix_rank(atoms.cell.array[atoms.pbc]) < atoms.pbc.sum():
        axes = "".join(axis for axis, repeats in zip("abc", atoms.pbc, strict=True) if repeats)
        raise ValueError(
            f"{atoms.get_chemical_formula()} is periodic along {axes} but its cell has no such lattice vectors: "
            "give them, or make it a molecule (pbc=false)"
        )
    return None if pbc is True and atoms.cell.rank < 3 else pbc


def check_points(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """The points as an array.

    Raises:
        ValueError: if they are not (n, 3).
    """
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points are (n, 3) in Å, got shape {points.shape}")
    return points


class EncodedStructure:
    """A structure whose atoms have been encoded by a model, ready for any number of query points.

    Args:
        model: the model; its device and precision are used.
        atoms: the structure.
        pbc: None keeps the periodicity of `atoms`; True or False forces it along all axes. A structure
            without a cell never repeats.

    Raises:
        ValueError: if there are no atoms, or the structure repeats without lattice vectors.
    """

    def __init__(self, model: DensityModel, atoms: ase.Atoms, *, pbc: bool | None = None) -> None:
        if len(atoms) == 0:
            raise ValueError("a structure needs at least one atom")
        if not np.isfinite(atoms.positions).all():
            raise ValueError(f"{atoms.get_chemical_formula()}: some atom positions are not finite numbers")
        parameter = next(model.parameters())
        self.model = model
        self.structures: Structures = structures_from_atoms(
            [atoms], pbc=periodicity(atoms, pbc), dtype=parameter.dtype
        ).to(parameter.device)
        with torch.no_grad():
            self.states: AtomStates = model.encode(atom_graph(self.structures, model.cutoff))
        self.graph_size = self._graph_size()
        """Points to make edges for at a time, so that memory stays bounded."""
        self.slice_size = model.points_at_a_time or self.graph_size
        """Points to ask for at a time."""

    def _graph_size(self) -> int:
        """From the atoms' own surroundings, where a point has the most edges."""
        positions = self.structures.positions
        chosen = positions[torch.linspace(0, len(positions) - 1, min(len(positions), 64)).long()]
        structure = torch.zeros(len(chosen), dtype=torch.int64, device=positions.device)
        edges = probe_graph(self.structures, chosen, structure, self.model.cutoff).edge_index
        per_point = max(1.0, edges.shape[1] / len(chosen))
        most = EDGES_PER_SLICE.get(positions.device.type, EDGES_PER_SLICE["cpu"])
        return int(np.clip(most / per_point, SMALLEST_SLICE, LARGEST_SLICE))

    @torch.no_grad()
    def density(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """Density (n,) in e/Å³ at points (n, 3) in Å, `slice_size` of them at a time."""
        points = check_points(points)
        parts = [self._decode(points[start : start + self.slice_size]) for start in self.starts(len(points))]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    def densities(self, slices: Iterable[NDArray[np.floating]]) -> Iterator[NDArray[np.floating]]:
        """Densities of slice after slice of points; memory is bounded by the largest slice."""
        for points in slices:
            yield self.density(points)

    def starts(self, n_points: int) -> range:
        """Where slices of `slice_size` begin in a list of points."""
        return range(0, n_points, self.slice_size)

    def probes(self, points: NDArray[np.floating]) -> ProbeGraph:
        """Points (n, 3) in Å with the edges that reach them, in the model's precision on its device."""
        positions = torch.as_tensor(points).to(self.structures.positions)
        structure = torch.zeros(len(positions), dtype=torch.int64, device=positions.device)
        return probe_graph(self.structures, positions, structure, self.model.cutoff)

    def _decode(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        positions = torch.as_tensor(points).to(self.structures.positions)
        return self.model.decode_points(self.states, self.structures, positions).cpu().numpy()
