"""Edges within a cutoff, across periodic boundaries: atom to atom, and atom to probe.

An edge is where the distance is strictly below the cutoff, compared in float64. No atom has an edge to itself, but its
own periodic images are neighbours like any other. Edges come sorted by receiver, then sender (see `graph.batch`).
On the CPU, atom edges come from vesin and probe edges from `graph.pairs`; on other devices both come from dense
distances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import ase
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from vesin import NeighborList

from deepdft.compiled import compiled
from deepdft.graph.batch import AtomGraph, ProbeGraph, Structures
from deepdft.graph.images import Array, complete_cell, periodic_images, wrap_shifts
from deepdft.graph.on_device import dense_edges
from deepdft.graph.pairs import pairs_within
from deepdft.vectors import matmul_single_threaded

__all__ = [
    "atom_edges",
    "atom_graph",
    "probe_edges",
    "probe_graph",
    "structures_from_atoms",
]

Indices = NDArray[np.int64]
Edges = tuple[Indices, Array]
"""edge_index (2, n_edges) and edge_shift (n_edges, 3) in Å of one structure."""


def structures_from_atoms(
    structures: Sequence[ase.Atoms], *, pbc: bool | None = None, dtype: torch.dtype = torch.float32
) -> Structures:
    """Join structures into a disjoint union, on the CPU.

    Args:
        structures: at least one.
        pbc: None keeps each structure's periodicity; True or False forces it along all axes.
        dtype: of positions and cells.
    """
    n_atoms = torch.tensor([len(atoms) for atoms in structures])
    repeats = [np.asarray(atoms.pbc) if pbc is None else np.full(3, pbc) for atoms in structures]
    return Structures(
        numbers=torch.from_numpy(np.concatenate([atoms.numbers for atoms in structures])).long(),
        positions=torch.from_numpy(np.concatenate([atoms.positions for atoms in structures])).to(dtype),
        structure=torch.arange(len(structures)).repeat_interleave(n_atoms),
        cells=torch.from_numpy(np.stack([atoms.cell.array for atoms in structures])).to(dtype),
        pbc=torch.from_numpy(np.stack(repeats)),
    )


def atom_graph(structures: Structures, cutoff: float) -> AtomGraph:
    """Join atoms closer than the cutoff (Å) by edges, in each structure on its own."""
    if structures.positions.device.type != "cpu":
        edge_index, edge_shift = dense_edges(structures, structures.positions, structures.structure, cutoff)
        other = (edge_index[0] != edge_index[1]) | (edge_shift.abs() > 1e-6).any(dim=1)  # not an atom to itself
        return AtomGraph(structures, edge_index[:, other], edge_shift[other].to(structures.positions.dtype))

    def search(atoms: Array, cell: Array, pbc: NDArray[np.bool_], _: Array) -> Edges:
        return atom_edges(atoms, cell, pbc, cutoff)

    edges = _union(structures, structures.positions, structures.structure, search)
    return AtomGraph(structures, *edges)


def probe_graph(structures: Structures, probe_positions: Tensor, probe_structure: Tensor, cutoff: float) -> ProbeGraph:
    """Join probes by edges to the atoms of their structure that are closer than the cutoff.

    Args:
        structures: the atoms.
        probe_positions: (n_probes, 3) Å, also outside the cell.
        probe_structure: (n_probes,) int64, ascending.
        cutoff: Å.
    """
    if probe_positions.device.type != "cpu":
        edge_index, edge_shift = dense_edges(structures, probe_positions, probe_structure, cutoff)
        return ProbeGraph(probe_positions, probe_structure, edge_index, edge_shift.to(structures.positions.dtype))

    def search(atoms: Array, cell: Array, pbc: NDArray[np.bool_], probes: Array) -> Edges:
        return probe_edges(atoms, cell, pbc, probes, cutoff)

    edges = _union(structures, probe_positions, probe_structure, search)
    return ProbeGraph(probe_positions, probe_structure, *edges)


def atom_edges(positions: Array, cell: Array, pbc: NDArray[np.bool_], cutoff: float) -> Edges:
    """Edges between the atoms of one structure.

    Args:
        positions: (n_atoms, 3) Å, float64.
        cell: (3, 3) Å, rows are lattice vectors; only those that repeat matter.
        pbc: (3,) bool.
        cutoff: Å.

    Raises:
        ValueError: if a periodic axis has no lattice vector.
    """
    complete = complete_cell(cell, pbc)
    neighbours = NeighborList(cutoff=cutoff, full_list=True)
    receiver, sender, cells = neighbours.compute(points=positions, box=complete, periodic=pbc, quantities="ijS")
    edge_index = np.stack([sender, receiver]).astype(np.int64)
    order = np.lexsort(edge_index)
    return edge_index[:, order], matmul_single_threaded(cells, complete)[order]


def probe_edges(positions: Array, cell: Array, pbc: NDArray[np.bool_], probes: Array, cutoff: float) -> Edges:
    """Edges from the atoms of one structure to probes.

    Args:
        positions: (n_atoms, 3) Å, float64.
        cell: (3, 3) Å, rows are lattice vectors; only those that repeat matter.
        pbc: (3,) bool.
        probes: (n_probes, 3) Å, float64.
        cutoff: Å.

    Raises:
        ValueError: if a periodic axis has no lattice vector.
    """
    complete = complete_cell(cell, pbc)
    images = periodic_images(positions, complete, pbc, cutoff)
    wrap = wrap_shifts(probes, complete, pbc)
    receiver, image = pairs_within(probes + wrap, images.positions, cutoff)  # images are in the order of atoms
    return _edges_from(image, receiver, images.atom, images.shift, wrap)


@compiled
def _edges_from(image: Indices, receiver: Indices, atoms: Indices, shifts: Array, wrap: Array) -> Edges:
    """Each edge's atom and receiver, and the lattice vector from that atom to where its image meets the receiver."""
    edge_index, shift = np.empty((2, len(image)), np.int64), np.empty((len(image), 3))
    for edge in range(len(image)):
        edge_index[0, edge], edge_index[1, edge] = atoms[image[edge]], receiver[edge]
        for c in range(3):
            shift[edge, c] = shifts[image[edge], c] - wrap[receiver[edge], c]
    return edge_index, shift


def _union(
    structures: Structures,
    points: Tensor,
    point_structure: Tensor,
    search: Callable[[Array, Array, NDArray[np.bool_], Array], Edges],
) -> tuple[Tensor, Tensor]:
    """Search structure by structure on the CPU, and number atoms and points through."""
    edge_indices, edge_shifts = [], []
    for atoms, cell, pbc, own_points, offset in _each(structures, points, point_structure):
        edge_index, edge_shift = search(atoms, cell, pbc, own_points)
        edge_indices.append(torch.from_numpy(edge_index + offset))
        edge_shifts.append(torch.from_numpy(edge_shift))
    return torch.cat(edge_indices, dim=1), torch.cat(edge_shifts).to(structures.positions.dtype)


def _each(
    structures: Structures, points: Tensor, point_structure: Tensor
) -> Iterator[tuple[Array, Array, NDArray[np.bool_], Array, Indices]]:
    """Atoms, cell, periodicity and points of each structure in float64, with the offsets of their indices."""
    n = structures.n_structures
    n_atoms = torch.bincount(structures.structure, minlength=n).numpy()
    n_points = torch.bincount(point_structure, minlength=n).numpy()
    atoms, cells, pbc = (
        structures.positions.detach().double().numpy(),
        structures.cells.detach().double().numpy(),
        structures.pbc.numpy(),
    )
    positions = points.detach().double().numpy()
    first_atom, first_point = 0, 0
    for s in range(n):
        yield (
            atoms[first_atom : first_atom + n_atoms[s]],
            cells[s],
            pbc[s],
            positions[first_point : first_point + n_points[s]],
            np.array([[first_atom], [first_point]]),
        )
        first_atom += n_atoms[s]
        first_point += n_points[s]
