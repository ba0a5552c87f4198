"""A grid prediction in pieces: which part of the structure is encoded for which slab of the grid."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import ase
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from deepdft import chunks
from deepdft.density import Grid, Order
from deepdft.inference.box import Box
from deepdft.inference.domains import Domain, Domains
from deepdft.inference.encoded import EncodedStructure
from deepdft.inference.slabs import Slab, SlabFiles, cut_into_slabs, grid_of_slab
from deepdft.memory import available_memory, resident_memory
from deepdft.models.base import DensityModel

__all__ = ["Chunked", "Pieces", "density_in_domains", "domains_if_needed", "joined", "max_atoms_at_once", "scaled"]

Chunked = Callable[[], Iterable[NDArray[np.floating]]]
"""Gives the densities (n, n_channels) of a grid chunk after chunk, as often as it is called."""


RESERVED = 300_000_000
"""Bytes for decoding, and for what Python and torch keep to themselves."""
BYTES_PER_ATOM = 300
"""Bytes of a structure's arrays for each of its atoms, while domains are cut."""
SHARE = 0.5
"""Fraction of the free memory that is used by default."""
MIN_BUDGET = 1_000_000_000
"""Bytes; where less of it is free, the system may still find more."""


@cache
def _own_memory() -> int:
    """Bytes that this process had when it was first asked: what is encoded later takes the place of what was before."""
    return resident_memory()


def max_atoms_at_once(model: DensityModel, n_atoms: int, memory: int | None) -> int:
    """How many atoms may be encoded at once.

    Args:
        model: in evaluation mode.
        n_atoms: of the structure.
        memory: bytes that this process may have, or its GPU; None is half of what is free.

    Raises:
        ValueError: if the process needs more memory by itself.
    """
    device = next(model.parameters()).device
    if device.type == "cuda":
        budget = SHARE * torch.cuda.mem_get_info(device)[0] if memory is None else float(memory)
    else:
        own = _own_memory() + RESERVED + BYTES_PER_ATOM * n_atoms
        budget = max(SHARE * available_memory(), MIN_BUDGET) if memory is None else float(memory - own)
        if memory is not None and budget < model.encoding_bytes:
            raise ValueError(f"memory={memory / 1e9:.3g}GB: the process itself needs {own / 1e9:.2g} GB; allow more")
    return max(1, int(budget / model.encoding_bytes))


def domains_if_needed(
    model: DensityModel, atoms: ase.Atoms, memory: int | None, *, pbc: bool | None = None
) -> Domains | None:
    """What cuts a structure into domains; None if it is encoded as a whole.

    Args:
        model: in evaluation mode.
        atoms: the structure.
        memory: bytes that this process may have, or its GPU; None is half of what is free.
        pbc: of the model: None as the structure has it, True forced on, False ignored.

    Raises:
        ValueError: if memory was given, it is not enough, and the model does not say its receptive field.
    """
    limit = max_atoms_at_once(model, len(atoms), memory)
    if len(atoms) <= limit:
        return None
    if not np.isfinite(model.receptive_field):
        if memory is None:
            return None
        raise ValueError(
            f"{len(atoms)} atoms need more than memory={memory / 1e9:.3g}GB, and {type(model).__name__} cannot be "
            "cut into domains: its `receptive_field` is not set"
        )
    return Domains(atoms, model.receptive_field, limit, pbc=pbc)


def density_in_domains(model: DensityModel, domains: Domains, points: NDArray[np.floating]) -> NDArray[np.floating]:
    """Density (n, n_channels) in e/Å³ at points (n, 3) in Å, domain after domain."""
    density = np.empty((len(points), len(model.channels)), dtype=np.float32)
    for index, atoms in domains.of_points(points.astype(np.float64, copy=False)):
        density[index] = EncodedStructure(model, atoms).density(points[index])
    return density


class Pieces:
    """The slabs of a grid, and the density of each; what was encoded last is kept for the next slab.

    Args:
        model: in evaluation mode.
        box: the structure with its grid.
        memory: bytes that this process may have, or its GPU; None is half of what is free.
        pbc: of the model: None as the structure has it, True forced on, False ignored.
        order: in which the slabs will be joined.
        cut: domains that were found before; None finds them.
        points_in_slab: at most; None as it suits the model.

    Raises:
        ValueError: if the memory is not enough, or the structure makes no sense.
    """

    def __init__(
        self,
        model: DensityModel,
        box: Box,
        *,
        memory: int | None = None,
        pbc: bool | None = None,
        order: Order = "C",
        cut: Sequence[Domain] | None = None,
        points_in_slab: int | None = None,
    ) -> None:
        self.model, self.box, self.pbc, self.order = model, box, pbc, order
        self.structure = box.structure()
        self._domains: Domains | None = None
        if cut is None:
            self._domains = domains_if_needed(model, self.structure, memory, pbc=pbc)
            cut = [self._whole()] if self._domains is None else self._domains.of_grid(box)
        by_edges = model.chunk_size(next(model.parameters()).device) is None
        largest = chunks.CPU.points_in_slab_by_edges if by_edges else chunks.CPU.points_in_slab
        self.recut(cut, largest if points_in_slab is None else points_in_slab)

    def recut(self, cut: Sequence[Domain], points_in_slab: int) -> None:
        """Take domains that were found before, and slabs of a size."""
        self.domains = list(cut)
        self.is_whole = self.domains == [self._whole()]
        """Whether the structure is encoded at once."""
        if self.is_whole:
            self._domains = None
        elif self._domains is None:
            limit = max(domain.n_atoms for domain in cut)
            self._domains = Domains(self.structure, self.model.receptive_field, limit, pbc=self.pbc)
        self.points_in_slab = points_in_slab
        self.slabs = cut_into_slabs(self.domains, points_in_slab, self.order)
        self._encoded: tuple[int, EncodedStructure] | None = None

    def _whole(self) -> Domain:
        return Domain((0, 0, 0), self.box.shape, len(self.structure))

    def density(self, slab: Slab) -> NDArray[np.floating]:
        """Density (n_points, n_channels) in e/Å³ of a slab, its points counted with z fastest."""
        encoded, grid = self.encoded(slab.domain), grid_of_slab(self.box, slab)
        parts = [encoded.density_on_grid(grid, chunk) for chunk in encoded.chunks(slab.n_points)]
        return np.concatenate(parts)

    def encoded(self, domain: int) -> EncodedStructure:
        """A domain with its atoms encoded; the one before is forgotten first."""
        if self._encoded is None or self._encoded[0] != domain:
            self._encoded = None
            if self._domains is None:
                encoded = EncodedStructure(self.model, self.structure, pbc=self.pbc)
            else:
                encoded = EncodedStructure(self.model, self._domains.atoms_of(self.box, self.domains[domain]))
            self._encoded = domain, encoded
        return self._encoded[1]

    def occupancies(self) -> dict[str, NDArray[np.floating]]:
        """PAW occupancies of all atoms as `DensityGrid.atom_arrays` holds them; empty if the model predicts none."""
        if self._domains is None:
            return self.encoded(0).occupancies()
        if not self.model.has_occupancies:
            return {}
        positions = self._domains.surroundings.positions
        found: dict[str, NDArray[np.floating]] = {}
        for index, atoms in self._domains.of_points(positions):
            _, own = cKDTree(atoms.positions).query(positions[index])
            for name, rows in EncodedStructure(self.model, atoms).occupancies().items():
                found.setdefault(name, np.full((len(positions), rows.shape[1]), np.nan))[index] = rows[own]
        return found

    def stream(self, order: Order, progress: Callable[[int, int], None] | None) -> Iterator[NDArray[np.floating]]:
        """Density (n, n_channels) of the whole grid, chunk after chunk in an order; of a structure encoded at once."""
        encoded = self.encoded(0)
        for chunk in encoded.chunks(self.box.n_points):
            yield encoded.density_on_grid(self.box, chunk, order=order)
            if progress is not None:
                progress(chunk.stop, self.box.n_points)


@contextmanager
def joined(pieces: Pieces, order: Order, progress: Callable[[int, int], None] | None = None) -> Iterator[Chunked]:
    """Yields what gives the density of a grid in an order; that of domains waits in a temporary folder meanwhile."""
    if pieces.is_whole:
        yield partial(pieces.stream, order, progress)
        return
    with tempfile.TemporaryDirectory(prefix="deepdft-") as folder:
        files = SlabFiles(Path(folder), pieces.slabs, pieces.box, len(pieces.model.channels))
        done = 0
        for slab in pieces.slabs:
            files.write(slab, pieces.density(slab))
            done += slab.n_points
            if progress is not None:
                progress(done, pieces.box.n_points)
        yield partial(files.chunks, order)


def scaled(chunks: Chunked, grid: Grid, n_electrons: float | None) -> Iterator[NDArray[np.floating]]:
    """Densities (n, n_channels) in e/Å³ of a grid, scaled so that their total sums to a number of electrons.

    Args:
        chunks: gives the densities; it is called twice, to count and to scale, where there is a number.
        grid: the points.
        n_electrons: the number; None leaves the densities as they are.

    Raises:
        ValueError: if the number is not above zero, or the density holds no electrons to scale.
    """
    if n_electrons is None:
        yield from chunks()
        return
    if not (n_electrons > 0 and np.isfinite(n_electrons)):
        raise ValueError(f"n_electrons={n_electrons}: expected a number above zero")
    found = sum(float(part[:, 0].sum(dtype=np.float64)) for part in chunks()) * grid.voxel_volume
    if not found > 0:
        raise ValueError(f"the predicted density holds {found:.3g} electrons: it cannot be scaled to {n_electrons}")
    for part in chunks():
        yield part * np.float32(n_electrons / found)
