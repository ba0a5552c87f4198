"""Neighbours on a GPU, where computing all distances is faster than a search: edges, and blocks of points.

Positions are compared in double precision, as on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from deepdft import chunks
from deepdft.graph.batch import Structures
from deepdft.graph.blocks import LARGEST_WIDTH, SMALLEST_EXTENT, Blocks
from deepdft.graph.images import complete_cell, periodic_images

__all__ = ["dense_edges", "point_blocks", "wrap_on_device"]


@dataclass(frozen=True, eq=False)
class _Images:
    """Atom images of all structures that can lie within the cutoff of a point in the cell, concatenated."""

    positions: Tensor
    """(n_images, 3) Å, float64."""
    atom: Tensor
    """(n_images,) int64, the atom of the union that an image repeats."""
    shift: Tensor
    """(n_images, 3) Å, lattice vector from the atom to its image."""
    counts: Tensor
    """(n_structures,) int64, number of images of each structure."""
    cells: Tensor
    """(n_structures, 3, 3) Å, cells completed by unit vectors."""
    inverses: Tensor
    """(n_structures, 3, 3) 1/Å, their inverses."""
    pbc: Tensor
    """(n_structures, 3) float64, 1 along periodic axes, else 0."""
    most: int
    """The largest number of images of one structure."""
    repeats: bool
    """Whether any structure is periodic."""

    def wrap_shifts(self, points: Tensor, structure: Tensor) -> Tensor:
        """Lattice vectors (n, 3) that take points (n, 3) into the cells of their structures."""
        if not self.repeats:
            return torch.zeros_like(points)
        fractional = torch.einsum("ni,nij->nj", points, self.inverses[structure])
        return -torch.einsum("ni,nij->nj", fractional.floor() * self.pbc[structure], self.cells[structure])


_KNOWN: WeakKeyDictionary[Structures, dict[tuple[float, ...], _Images]] = WeakKeyDictionary()


def _images(structures: Structures, cutoff: float) -> _Images:
    """Images of the atoms, cached until the structures change, because a grid comes in many chunks."""
    known = _KNOWN.setdefault(structures, {})
    tensors = structures.positions, structures.cells, structures.pbc
    key = (cutoff, *(-1 if one.is_inference() else one._version for one in tensors))
    if key not in known:
        known.clear()
        known[key] = _find_images(structures, cutoff)
    return known[key]


def _find_images(structures: Structures, cutoff: float) -> _Images:
    device = structures.positions.device
    positions = structures.positions.detach().double().cpu().numpy()
    cells, pbc = structures.cells.detach().double().cpu().numpy(), structures.pbc.cpu().numpy()
    counts = torch.bincount(structures.structure.cpu(), minlength=structures.n_structures).numpy()
    complete = np.tile(np.eye(3), (len(counts), 1, 1))
    found, atoms, shifts = positions, np.arange(len(positions)), np.zeros_like(positions)
    if pbc.any():
        first = np.cumsum(counts) - counts
        own = []
        for s, count in enumerate(counts):
            complete[s] = complete_cell(cells[s], pbc[s])
            own.append(periodic_images(positions[first[s] : first[s] + count], complete[s], pbc[s], cutoff))
        found, shifts = (np.concatenate([getattr(one, name) for one in own]) for name in ("positions", "shift"))
        atoms = np.concatenate([one.atom + start for one, start in zip(own, first, strict=True)])
        counts = np.array([len(one.atom) for one in own])

    def there(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(device)

    return _Images(
        positions=there(found),
        atom=there(atoms),
        shift=there(shifts),
        counts=there(counts),
        cells=there(complete),
        inverses=there(np.linalg.inv(complete)),
        pbc=there(pbc.astype(np.float64)),
        most=int(counts.max(initial=0)),
        repeats=bool(pbc.any()),
    )


def wrap_on_device(structures: Structures, points: Tensor, point_structure: Tensor, cutoff: float) -> Tensor:
    """Lattice vectors (n, 3) in Å that take points (n, 3), float64, into the cells of their structures.

    The cutoff is that of the edges between them, whose search has found the cells already.
    """
    return _images(structures, cutoff).wrap_shifts(points, point_structure)


def dense_edges(
    structures: Structures, points: Tensor, point_structure: Tensor, cutoff: float
) -> tuple[Tensor, Tensor]:
    """Edges from atoms to points of their structure that are closer than the cutoff.

    Args:
        structures: the atoms.
        points: (n_points, 3) Å, also outside the cell.
        point_structure: (n_points,) int64, ascending.
        cutoff: Å.

    Returns:
        edge_index (2, n_edges), sorted by point and then by atom, and edge_shift (n_edges, 3) Å, float64.
    """
    images = _images(structures, cutoff)
    points = points.detach().double()
    wrap = images.wrap_shifts(points, point_structure)
    inside = points + wrap
    first = images.counts.cumsum(0) - images.counts
    size = max(1, chunks.GPU.distances // max(1, images.most))
    parts = [
        _edges_of(images, inside, point_structure, first, slice(start, start + size), cutoff)
        for start in range(0, max(1, len(points)), size)
    ]
    receiver, image = (torch.cat(part) for part in zip(*parts, strict=True))
    return torch.stack([images.atom[image], receiver]), images.shift[image] - wrap[receiver]


def _edges_of(
    images: _Images, inside: Tensor, point_structure: Tensor, first: Tensor, part: slice, cutoff: float
) -> tuple[Tensor, Tensor]:
    """Pairs of a point and an image within the cutoff, both (n_edges,) int64, for one chunk of points."""
    own = point_structure[part]
    if len(images.counts) == 1:  # images near none of these points are left out
        near = _near(images.positions, inside[part], cutoff)
        of_point = torch.full((len(own),), len(near), device=near.device)
        offset = torch.zeros_like(of_point)
    else:
        near, of_point, offset = None, images.counts[own], first[own]
    points = torch.arange(part.start, part.start + len(own), device=own.device)
    receiver = points.repeat_interleave(of_point)
    before = (offset - (of_point.cumsum(0) - of_point)).repeat_interleave(of_point)
    image = torch.arange(len(receiver), device=own.device) + before
    if near is not None:
        image = near[image]
    # differences rather than the quadratic expansion: exact at the cutoff
    squared = (inside[receiver] - images.positions[image]).square().sum(dim=-1)
    joined = (squared < cutoff**2).nonzero().squeeze(-1)
    return receiver[joined], image[joined]


def _near(positions: Tensor, points: Tensor, cutoff: float) -> Tensor:
    """Indices of positions that are closer than the cutoff to the box around the points."""
    if len(points) == 0:
        return torch.empty(0, dtype=torch.int64, device=points.device)
    low, high = points.aminmax(dim=0)
    return (_from_box(low, high, positions) < cutoff**2).nonzero().squeeze(-1)


def _from_box(low: Tensor, high: Tensor, positions: Tensor) -> Tensor:
    """Squared distances of positions from boxes, zero inside."""
    return torch.maximum(low - positions, positions - high).clamp(min=0.0).square().sum(dim=-1)


def point_blocks(structures: Structures, points: Tensor, cutoff: float, *, size: int) -> Blocks:
    """Sort points into compact blocks of equal size; the last block is filled up by repeating its last point.

    Args:
        structures: one structure.
        points: (n_points, 3) Å, at least one; also outside the cell.
        cutoff: Å.
        size: the number of points in a block.
    """
    images = _images(structures, cutoff)
    inside = points.double()
    if images.repeats:
        inside = inside + images.wrap_shifts(inside, torch.zeros(len(points), dtype=torch.int64, device=points.device))
    order = _by_cube(inside, size)
    n_blocks = -(-len(order) // size)
    index = torch.cat([order, order[-1:].expand(n_blocks * size - len(order))])
    grouped = inside[index].unflatten(0, (n_blocks, size))
    low, high = grouped.aminmax(dim=1)
    middle = (low + high) / 2
    near = _near(images.positions, inside, cutoff)
    candidates = images.positions[near]
    block, candidate = (
        torch.cat(part) for part in zip(*_blocks_and_images(low, high, candidates, cutoff), strict=True)
    )
    offsets = torch.arange(n_blocks + 1, device=points.device)
    return Blocks(
        index=index,
        points=(grouped - middle[:, None]).flatten(0, 1).to(structures.dtype),
        atom=images.atom[near[candidate]],
        atom_positions=(candidates[candidate] - middle[block]).to(structures.dtype),
        point_offsets=offsets * size,
        image_offsets=torch.searchsorted(block, offsets),
    )


def _blocks_and_images(low: Tensor, high: Tensor, positions: Tensor, cutoff: float) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(1, chunks.GPU.distances // max(1, len(positions)))
    for start in range(0, len(low), size):
        part = slice(start, start + size)
        block, image = (_from_box(low[part, None], high[part, None], positions) < cutoff**2).nonzero(as_tuple=True)
        yield block + start, image


def _by_cube(points: Tensor, size: int) -> Tensor:
    """An order (n,) of points by cubes that hold about `size` of them each."""
    low, high = points.aminmax(dim=0)
    volume = (high - low).clamp(min=SMALLEST_EXTENT).prod()
    width = (volume * (size / len(points))) ** (1 / 3)
    width = width.clamp(max=LARGEST_WIDTH)  # a few distant points must not make all blocks wide
    cubes = ((points - low) / width).long()
    x, y, z = cubes.unbind(dim=1)
    shape = ((high - low) / width).long() + 1
    return ((x * shape[1] + y) * shape[2] + z).argsort(stable=True)
