"""The graphs a model works on, as disjoint unions: concatenated arrays and a structure index, no padding.

Conventions:
    * `edge_index` has row 0 = sender, row 1 = receiver; edges are sorted by receiver.
    * `edge_shift` is added to the sender's position, so the vector of an edge from sender to receiver is
      positions[receiver] - (positions[sender] + edge_shift).
    * A probe edge goes from an atom (row 0 indexes atoms) to a probe (row 1 indexes probes).

Precision: structures and points are kept in float64. A graph has them in the precision of the model, wrapped into the
cell, and `edge_shift` holds, besides the lattice vector, what rounding took from the two positions. So edge vectors are
float64 differences rounded once, however far from the origin, from the cell or from each other the atoms are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["AtomGraph", "Batch", "ProbeGraph", "Structures", "joined_rows"]


@dataclass(frozen=True, eq=False)
class _Tensors:
    """Base of dataclasses of tensors: moves all of them together; floating-point ones can change their dtype."""

    def _map(self, function: Any) -> Self:
        changed = {
            f.name: function(value) for f in fields(self) if hasattr(value := getattr(self, f.name), "pin_memory")
        }
        return replace(self, **changed)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """A copy on another device."""
        return self._map(lambda value: value.to(device, non_blocking=non_blocking))

    def to_dtype(self, dtype: torch.dtype) -> Self:
        """A copy in another precision; structures stay in float64, and graphs made of them have the new one."""

        def convert(value: Any) -> Any:
            if isinstance(value, _Tensors):
                return value.to_dtype(dtype)
            return value.to(dtype) if value.is_floating_point() else value

        return self._map(convert)

    def pin_memory(self) -> Self:
        """A copy in page-locked memory, for asynchronous copies to a GPU."""
        return self._map(lambda value: value.pin_memory())

    def __getstate__(self) -> dict[str, Any]:
        """State for pickling: numpy arrays, because torch would open a shared file for each tensor (0.3 ms)."""
        return {name: _as_array(value) for name, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the tensors."""
        tensors = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in state.items()}
        vars(self).update(tensors)


def _as_array(value: Any) -> Any:
    is_plain = isinstance(value, Tensor) and value.device.type == "cpu" and not value.requires_grad
    return value.numpy() if is_plain and value.dtype != torch.bfloat16 else value


@dataclass(frozen=True, eq=False)
class Structures(_Tensors):
    """The atoms of one or several structures."""

    numbers: Tensor
    """(n_atoms,) int64, atomic numbers."""
    positions: Tensor
    """(n_atoms, 3) Å, float64; atoms may lie outside their cell."""
    structure: Tensor
    """(n_atoms,) int64, ascending: the structure of each atom."""
    cells: Tensor
    """(n_structures, 3, 3) Å, float64, rows are lattice vectors; zero where there is no cell."""
    pbc: Tensor
    """(n_structures, 3) bool, along which lattice vectors a structure repeats."""
    moments: Tensor
    """(n_atoms,) μ_B, float64, initial magnetic moments; zero where there are none."""
    dtype: torch.dtype = torch.float32
    """The precision of graphs of these structures, which is that of the model."""

    def to_dtype(self, dtype: torch.dtype) -> Self:
        """The structures, with another precision for graphs made of them."""
        return replace(self, dtype=dtype)

    @property
    def n_structures(self) -> int:
        """Number of structures in the union."""
        return self.cells.shape[0]


@dataclass(frozen=True, eq=False)
class AtomGraph(_Tensors):
    """Atoms with the edges between them: the input of `encode`."""

    structures: Structures
    """The atoms in float64."""
    positions: Tensor
    """(n_atoms, 3) Å, wrapped into the cell, in the model's precision."""
    edge_index: Tensor
    """(2, n_edges) int64, sender and receiver atom of each edge, sorted by receiver; no self edges within a cell."""
    edge_shift: Tensor
    """(n_edges, 3) Å, added to the sender's position."""

    @property
    def numbers(self) -> Tensor:
        """(n_atoms,) int64, atomic numbers."""
        return self.structures.numbers

    @property
    def n_atoms(self) -> int:
        """Number of atoms in all structures together."""
        return self.structures.numbers.shape[0]

    def edge_vectors(self) -> Tensor:
        """(n_edges, 3) Å, from sender to receiver; differentiable with respect to the positions."""
        sender, receiver = self.edge_index
        return self.positions[receiver] - self.positions[sender] - self.edge_shift


@dataclass(frozen=True, eq=False)
class ProbeGraph(_Tensors):
    """Query points with the edges from atoms to them: the input of `decode`."""

    positions: Tensor
    """(n_probes, 3) Å, wrapped into the cell, in the model's precision."""
    structure: Tensor
    """(n_probes,) int64, the structure of each probe."""
    edge_index: Tensor
    """(2, n_edges) int64, sender atom and receiver probe of each edge, sorted by receiver."""
    edge_shift: Tensor
    """(n_edges, 3) Å, added to the sender's position."""

    @property
    def n_probes(self) -> int:
        """Number of query points."""
        return self.positions.shape[0]

    def edge_vectors(self, atom_positions: Tensor) -> Tensor:
        """(n_edges, 3) Å, from atom to probe; differentiable with respect to both positions.

        Args:
            atom_positions: (n_atoms, 3) Å, of the `AtomGraph` of the same structures.
        """
        sender, receiver = self.edge_index
        return self.positions[receiver] - atom_positions[sender] - self.edge_shift

    def chunks(self, max_edges: int) -> list[ProbeGraph]:
        """Consecutive probes with about `max_edges` edges at a time; a probe's edges stay together."""
        receiver, n_edges = self.edge_index[1], self.edge_index.shape[1]
        if n_edges <= max_edges:
            return [self]
        inner = receiver[max_edges::max_edges].unique_consecutive()  # the first probe of each part but the first
        inner = inner[inner > 0]
        first_edges = torch.searchsorted(receiver, inner).tolist()
        probes, edges = [0, *inner.tolist(), self.n_probes], [0, *first_edges, n_edges]
        return [
            ProbeGraph(
                self.positions[probe:next_probe],
                self.structure[probe:next_probe],
                self.edge_index[:, edge:next_edge] - torch.tensor([[0], [probe]], device=receiver.device),
                self.edge_shift[edge:next_edge],
            )
            for (probe, next_probe), (edge, next_edge) in zip(pairwise(probes), pairwise(edges), strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Batch(_Tensors):
    """Structures, query points in them, and the reference density there: one training step."""

    structures: Structures
    """The atoms."""
    probe_positions: Tensor
    """(n_probes, 3) Å, float64."""
    probe_structure: Tensor
    """(n_probes,) int64, ascending: the structure of each probe."""
    targets: Tensor
    """(n_probes, n_channels) e/Å³, the reference density."""
    weights: Tensor | None = None
    """(n_probes,) weights in the loss, 1 on average; None for uniform points, which have equal weights."""

    occupancies: Tensor | None = None
    """(n_atoms, n_channels, width) PAW augmentation occupancies, NaN beyond those of an element; None without."""

    @property
    def n_probes(self) -> int:
        """Number of query points."""
        return self.probe_positions.shape[0]


def joined_rows(parts: Sequence[Tensor]) -> Tensor:
    """Arrays (n, …, width) of different widths below each other, filled up with NaN."""
    width = max(part.shape[-1] for part in parts)
    return torch.cat([pad(part, (0, width - part.shape[-1]), value=torch.nan) for part in parts])
