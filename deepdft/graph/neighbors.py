"""Edges within a cutoff, across periodic boundaries: atom to atom, and atom to probe.

An edge is where the distance is strictly below the cutoff, compared in float64. No atom has an edge to itself, but its
own periodic images are neighbours like any other. Edges come sorted by receiver, then sender (see `graph.batch`).
On the CPU, atom edges come from vesin and probe edges from `graph.pairs`; on other devices both come from dense
distances. Searches take positions as they are, in float64; the graphs made of them are in the model's precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ase
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from vesin import NeighborList

from deepdft.compiled import compiled
from deepdft.density import collinear_moments
from deepdft.graph.batch import AtomGraph, ProbeGraph, Structures
from deepdft.graph.images import Array, complete_cell, periodic_images, wrap_shifts
from deepdft.graph.on_device import dense_edges, wrap_on_device
from deepdft.graph.pairs import pairs_within
from deepdft.vectors import matmul_single_threaded

__all__ = [
    "atom_edges",
    "atom_graph",
    "probe_edges",
    "probe_graph",
    "structures_from_atoms",
]

MAX_CELLS = 10**8
"""Cubes as wide as the cutoff around all atoms above which vesin is not used: its counts overflow (SIGFPE) at 2³¹."""
MAX_CELLS_OF_VESIN = 10**5
"""Cubes above which vesin takes fewer along each axis, by the same factor; none along a short one ends the process."""

Indices = NDArray[np.int64]
Edges = tuple[Indices, Array]
"""edge_index (2, n_edges), and edge_shift (n_edges, 3) in Å, of one structure."""


def structures_from_atoms(
    structures: Sequence[ase.Atoms], *, pbc: bool | None = None, dtype: torch.dtype = torch.float32
) -> Structures:
    """Join structures into a disjoint union, on the CPU.

    Args:
        structures: at least one.
        pbc: None keeps each structure's periodicity; True or False forces it along all axes.
        dtype: precision of the model, and of graphs of these structures.
    """
    n_atoms = torch.tensor([len(atoms) for atoms in structures])
    repeats = [np.asarray(atoms.pbc) if pbc is None else np.full(3, pbc) for atoms in structures]
    return Structures(
        numbers=torch.from_numpy(np.concatenate([atoms.numbers for atoms in structures])).long(),
        positions=torch.from_numpy(np.concatenate([atoms.positions for atoms in structures])).double(),
        structure=torch.arange(len(structures)).repeat_interleave(n_atoms),
        cells=torch.from_numpy(np.stack([atoms.cell.array for atoms in structures])).double(),
        pbc=torch.from_numpy(np.stack(repeats)),
        moments=torch.from_numpy(np.concatenate([collinear_moments(atoms) for atoms in structures])),
        dtype=dtype,
    )


def atom_graph(structures: Structures, cutoff: float) -> AtomGraph:
    """Join atoms closer than the cutoff (Å) by edges, in each structure on its own."""
    atoms, which = structures.positions, structures.structure
    if atoms.device.type != "cpu":
        edge_index, edge_shift = dense_edges(structures, atoms, which, cutoff)
        other = (edge_index[0] != edge_index[1]) | (edge_shift.abs() > 1e-6).any(dim=1)  # no atom has an edge to itself
        edge_index, edge_shift = edge_index[:, other], edge_shift[other]
    else:
        edge_index, edge_shift = _union(
            structures, atoms, which, lambda atoms, cell, pbc, _: atom_edges(atoms, cell, pbc, cutoff)
        )
    positions, residue = _rounded(structures, atoms, which, cutoff)
    return AtomGraph(structures, positions, edge_index, _shifts(edge_index, edge_shift, residue, residue, positions))


def probe_graph(structures: Structures, probe_positions: Tensor, probe_structure: Tensor, cutoff: float) -> ProbeGraph:
    """Join probes by edges to the atoms of their structure that are closer than the cutoff.

    Args:
        structures: the atoms.
        probe_positions: (n_probes, 3) Å, also outside the cell; float64 where they are far from the origin.
        probe_structure: (n_probes,) int64, ascending.
        cutoff: Å.
    """
    if probe_positions.device.type != "cpu":
        edge_index, edge_shift = dense_edges(structures, probe_positions, probe_structure, cutoff)
    else:
        edge_index, edge_shift = _union(
            structures,
            probe_positions,
            probe_structure,
            lambda atoms, cell, pbc, probes: probe_edges(atoms, cell, pbc, probes, cutoff),
        )
    _, of_atoms = _rounded(structures, structures.positions, structures.structure, cutoff)
    positions, of_probes = _rounded(structures, probe_positions, probe_structure, cutoff)
    shifts = _shifts(edge_index, edge_shift, of_atoms, of_probes, positions)
    return ProbeGraph(positions, probe_structure, edge_index, shifts)


def _rounded(structures: Structures, points: Tensor, point_structure: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Points (n, 3) wrapped into their cells and rounded to the model's precision, and the rounding errors."""
    wrapped = points.double()
    if structures.pbc.any():
        wrapped = wrapped + _wraps(structures, wrapped.detach(), point_structure, cutoff)
    rounded = wrapped.to(structures.dtype)
    return rounded, points.detach().double() - rounded.detach().double()


def _wraps(structures: Structures, points: Tensor, point_structure: Tensor, cutoff: float) -> Tensor:
    """Lattice vectors (n, 3) in Å that take points (n, 3) into the cells of their structures."""
    if points.device.type != "cpu":
        return wrap_on_device(structures, points, point_structure, cutoff)
    shifts = [
        wrap_shifts(own, complete_cell(cell, pbc), pbc) if pbc.any() else np.zeros_like(own)
        for _, cell, pbc, own, _ in _each(structures, points, point_structure)
    ]
    return torch.from_numpy(np.concatenate(shifts))


def _shifts(edge_index: Tensor, edge_shift: Tensor, of_senders: Tensor, of_receivers: Tensor, like: Tensor) -> Tensor:
    """Shifts that make differences of rounded positions equal to the exact differences, rounded once.

    Args:
        edge_index: (2, n_edges).
        edge_shift: (n_edges, 3) Å, lattice vectors in float64.
        of_senders: (n_senders, 3) Å, what rounding took from them.
        of_receivers: (n_receivers, 3) Å, the same.
        like: of the precision that is wanted.
    """
    if like.device.type != "cpu":
        sender, receiver = edge_index
        return (edge_shift + of_senders[sender] - of_receivers[receiver]).to(like.dtype)
    shifts = like.new_empty(edge_shift.shape, requires_grad=False)
    _fill_shifts(*(one.numpy() for one in (edge_index, edge_shift, of_senders, of_receivers, shifts)))
    return shifts


@compiled
def _fill_shifts(edge_index: Indices, shift: Array, senders: Array, receivers: Array, shifts: NDArray[Any]) -> None:
    for edge in range(len(shift)):
        for c in range(3):
            shifts[edge, c] = shift[edge, c] + senders[edge_index[0, edge], c] - receivers[edge_index[1, edge], c]


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
    if len(positions) and _is_sparse(positions, complete, pbc, cutoff):
        edge_index, shift = probe_edges(positions, cell, pbc, positions, cutoff)
        other = (edge_index[0] != edge_index[1]) | (np.abs(shift) > 1e-6).any(axis=1)  # no atom has an edge to itself
        return edge_index[:, other], shift[other]
    neighbours = NeighborList(cutoff=cutoff, full_list=True)
    receiver, sender, cells = neighbours.compute(points=positions, box=complete, periodic=pbc, quantities="ijS")
    edge_index = np.stack([sender, receiver]).astype(np.int64)
    order = np.lexsort(edge_index)
    return edge_index[:, order], matmul_single_threaded(cells, complete)[order]


def _is_sparse(positions: Array, complete: Array, pbc: NDArray[np.bool_], cutoff: float) -> bool:
    """Whether the atoms are so far apart, or so flat, that vesin cannot enumerate all cubes as wide as the cutoff."""
    inverse = np.linalg.inv(complete)
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    extents = np.where(
        pbc, heights, np.ptp(matmul_single_threaded(positions, inverse), axis=0) if len(positions) else 0.0
    )
    n_cells = np.prod(extents / cutoff + 1.0)
    if n_cells <= MAX_CELLS_OF_VESIN:
        return False
    along_shortest = max(1.0, extents.min() / cutoff) * np.cbrt(MAX_CELLS_OF_VESIN / n_cells)
    return bool(n_cells > MAX_CELLS or along_shortest < 2.0)


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
    wrap = wrap_shifts(probes, complete, pbc)
    wrapped = probes + wrap
    images = periodic_images(positions, complete, pbc, cutoff).around(wrapped, cutoff)
    receiver, image = pairs_within(wrapped, images.positions, cutoff)  # images are in the order of atoms
    return _edges_from(image, receiver, images.atom, images.shift, wrap)


@compiled
def _edges_from(image: Indices, receiver: Indices, atoms: Indices, shifts: Array, wrap: Array) -> Edges:
    """The atom and receiver of each edge, and the lattice vector from that atom to the image that is the sender."""
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
    """Search structure by structure on the CPU, and number atoms and points consecutively; shifts are float64."""
    edge_indices, edge_shifts = [], []
    for atoms, cell, pbc, own_points, offset in _each(structures, points, point_structure):
        edge_index, edge_shift = search(atoms, cell, pbc, own_points)
        edge_indices.append(torch.from_numpy(edge_index + offset))
        edge_shifts.append(torch.from_numpy(edge_shift))
    return torch.cat(edge_indices, dim=1), torch.cat(edge_shifts)


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
