"""Fields derived from the density of a structure of any size: encoded as a whole, or domain after domain."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import ase
import numpy as np
from numpy.typing import NDArray

from deepdft.density import Grid, Order
from deepdft.inference.domains import Domain
from deepdft.inference.encoded import check_points
from deepdft.inference.field_files import COMPONENTS, check_names
from deepdft.inference.fields import EncodedFields
from deepdft.inference.pieces import domains_if_needed
from deepdft.inference.slabs import Slab, cut_into_slabs, grid_of_slab
from deepdft.models.base import DensityModel

__all__ = ["StructureFields"]

Fields = dict[str, NDArray[np.float64]]


class StructureFields:
    """A structure from which fields can be computed at any points; what was encoded last is kept.

    Args:
        model: of any precision; a copy in float64 is used.
        atoms: the structure.
        memory: bytes that this process may have, or its GPU; None is half of what is free.
        pbc: None keeps the periodicity of `atoms`; True or False forces it along all axes.

    Raises:
        ValueError: if there are no atoms, the structure repeats without lattice vectors, or the memory is not enough.
    """

    def __init__(
        self, model: DensityModel, atoms: ase.Atoms, *, memory: int | None = None, pbc: bool | None = None
    ) -> None:
        single = next(model.parameters()).element_size()
        self.model = copy.deepcopy(model).double().requires_grad_(False)
        self.model.encoding_bytes *= 8 / single
        self.domains = domains_if_needed(self.model, atoms, memory, pbc=pbc)
        self._whole = EncodedFields(self.model, atoms, pbc=pbc) if self.domains is None else None

    def at(
        self,
        points: NDArray[np.floating],
        names: Sequence[str],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Fields:
        """Fields at points (n, 3) in Å; see `EncodedFields.at`."""
        if self._whole is not None:
            return self._whole.at(points, names, progress=progress)
        assert self.domains is not None
        check_names(names)
        coordinates: NDArray[np.float64] = check_points(points).astype(np.float64, copy=False)
        components = {name: (len(COMPONENTS[name]),) if name in COMPONENTS else () for name in names}
        fields = {name: np.empty((len(points), *shape)) for name, shape in components.items()}
        done = 0
        for index, atoms in self.domains.of_points(coordinates):
            for name, values in EncodedFields(self.model, atoms).at(coordinates[index], names).items():
                fields[name][index] = values
            done += len(index)
            if progress is not None:
                progress(done, len(points))
        return fields

    def on_grid(self, grid: Grid, names: Sequence[str], *, order: Order = "C") -> Iterator[tuple[Slab, Fields]]:
        """Fields on a grid, slab after slab: the values of a slab are counted with z fastest.

        Args:
            grid: the points.
            names: which fields, of those in `deepdft.inference.field_files.UNITS`.
            order: of the file that they are for, so that slabs are whole planes of it.

        Raises:
            ValueError: if a name is unknown, or the memory is not enough.
        """
        check_names(names)
        cut = [Domain((0, 0, 0), grid.shape, 0)] if self.domains is None else self.domains.of_grid(grid)
        for domain in cut:
            encoded = self._whole
            if encoded is None:
                assert self.domains is not None
                encoded = EncodedFields(self.model, self.domains.atoms_of(grid, domain))
            for slab in cut_into_slabs([domain], encoded.chunk_size, order):
                yield slab, encoded.at(grid_of_slab(grid, slab).points(), names)
