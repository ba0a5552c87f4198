"""Densities at many points of one structure: encode once, decode chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator

import ase
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepdft import chunks
from deepdft.chunks import Chunks
from deepdft.density import Grid, Order, occupancies_of
from deepdft.graph.batch import ProbeGraph, Structures
from deepdft.graph.neighbors import atom_graph, probe_graph, structures_from_atoms
from deepdft.models.base import AtomStates, DensityModel
from deepdft.nn.threads import in_parallel

__all__ = ["EncodedStructure", "check_points", "periodicity"]


def periodicity(atoms: ase.Atoms, pbc: bool | None) -> bool | None:
    """The periodicity to impose on a structure; one without a cell cannot be made periodic.

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
    """The points as a contiguous array of real numbers in native byte order, which torch accepts.

    Raises:
        ValueError: if they are not (n, 3), or not finite real numbers.
    """
    points = np.asarray(points)
    if points.dtype.kind not in "fiu":
        raise ValueError(f"points are real numbers in Å, got an array of {points.dtype}")
    points = np.require(points, np.float32 if points.dtype == np.float32 else np.float64, ["C", "W"])
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points are (n, 3) in Å, got shape {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError(
            f"{int((~np.isfinite(points)).any(axis=1).sum())} of {len(points)} points are not finite numbers"
        )
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
        device = parameter.device
        sizes, per_point = chunks.on(device.type), self._edges_per_point()
        self.points_per_graph = _points(sizes, sizes.edges_differentiated, per_point)
        """Largest number of points whose edges go through the model at once, which bounds the memory."""
        in_blocks = model.chunk_size(device)
        self.points_per_thread = in_blocks or _points(sizes, sizes.edges_searched, per_point)
        """Points per call of the model on one thread, where there are several chunks."""
        on_threads = device.type == "cpu" and not in_blocks and torch.get_num_threads() > 1
        n_chunks = sizes.chunks_per_thread * torch.get_num_threads() if on_threads else 1
        points = min(n_chunks * self.points_per_thread, sizes.max_points_of_threads)
        self.chunk_size = max(self.points_per_thread, points)
        """Best number of points to request at once; memory grows with the number of threads, 10 to 40 MB each."""

    def _edges_per_point(self) -> float:
        """Edges of a point near the atoms, where there are most."""
        positions = self.structures.positions
        chosen = positions[torch.linspace(0, len(positions) - 1, min(len(positions), 64)).long()]
        structure = torch.zeros(len(chosen), dtype=torch.int64, device=positions.device)
        edges = probe_graph(self.structures, chosen, structure, self.model.probe_cutoff).edge_index
        return max(1.0, edges.shape[1] / len(chosen))

    @torch.no_grad()
    def density(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """Density (n, n_channels) in e/Å³ at points (n, 3) in Å, `chunk_size` or more for speed."""
        points = check_points(points)
        size = self.points_per_thread
        of_threads = [points[start : start + size] for start in range(0, len(points), size)]
        parts = in_parallel(self._decode, of_threads, device=self.structures.positions.device)
        return np.concatenate(parts) if parts else np.empty((0, len(self.model.channels)), dtype=np.float32)

    @torch.no_grad()
    def invariants(self) -> NDArray[np.floating] | None:
        """`DensityModel.invariants` of the atoms, (n_atoms, n); None if the model has none."""
        found = self.model.invariants(self.states)
        return None if found is None else found.detach().cpu().numpy()

    @torch.no_grad()
    def occupancies(self) -> dict[str, NDArray[np.floating]]:
        """PAW occupancies of the atoms as `DensityGrid.atom_arrays` holds them; empty if the model predicts none."""
        found = self.model.occupancies(self.states)
        if found is None:
            return {}
        names = map(occupancies_of, self.model.channels)
        return dict(zip(names, found.values.double().cpu().numpy().swapaxes(0, 1), strict=True))

    def total(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """The total density alone (n,) in e/Å³ at points (n, 3) in Å."""
        return self.density(points)[:, 0]

    @torch.no_grad()
    def density_on_grid(self, grid: Grid, flat: slice, *, order: Order = "C") -> NDArray[np.floating]:
        """Density (n, n_channels) in e/Å³ at points of a grid; a GPU computes the points itself, which is faster.

        Args:
            grid: the points.
            flat: which points, `chunk_size` or more for speed.
            order: how they are counted: "C" for z fastest, "F" for x fastest.
        """
        device = self.structures.positions.device
        if device.type == "cpu":
            return self.density(grid.points(flat, order=order))
        start, stop, _ = flat.indices(grid.n_points)
        parts = []
        for first in range(start, max(stop, start + 1), self.points_per_thread):
            chunk = slice(first, min(first + self.points_per_thread, stop))
            parts.append(self._decode(_points_of_grid(grid, chunk, order, device)))
        return np.concatenate(parts)

    def chunks(self, n_points: int) -> Iterator[slice]:
        """Split a number of points into chunks of `chunk_size`."""
        for start in range(0, n_points, self.chunk_size):
            yield slice(start, min(start + self.chunk_size, n_points))

    def probes(self, points: NDArray[np.floating]) -> ProbeGraph:
        """Points (n, 3) in Å with the edges from the atoms, in the model's precision and on its device."""
        positions = torch.as_tensor(points).to(self.structures.positions.device)
        structure = torch.zeros(len(positions), dtype=torch.int64, device=positions.device)
        return probe_graph(self.structures, positions, structure, self.model.probe_cutoff)

    def _decode(self, points: NDArray[np.floating] | Tensor) -> NDArray[np.floating]:
        positions = torch.as_tensor(points).to(self.structures.positions.device)
        density = self.model.decode_points(self.states, self.structures, positions)
        return self.model.checked(density, len(positions)).to(self.structures.dtype).cpu().numpy()


def _points_of_grid(grid: Grid, flat: slice, order: Order, device: torch.device) -> Tensor:
    """`grid_points` on a device: (n, 3) Å, float64."""
    index = torch.arange(*flat.indices(grid.n_points), device=device)
    ijk = torch.unravel_index(index, grid.shape) if order == "C" else torch.unravel_index(index, grid.shape[::-1])[::-1]
    steps, origin = (torch.from_numpy(one).to(device) for one in (grid.steps, grid.origin))
    return torch.stack(ijk, dim=-1).double() @ steps + origin


def _points(sizes: Chunks, n_edges: int, edges_per_point: float) -> int:
    """Number of points that have about so many edges together."""
    return int(np.clip(n_edges / edges_per_point, sizes.min_points, sizes.max_points))
