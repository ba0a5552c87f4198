"""`DensityStore`: reads densities and atoms from a folder of HDF5 shards with one `index.json`.

Layout of a store, written by `deepdft.data.writer`:
    index.json        format, provenance, and names, formulas, atom counts, shapes and electron counts as columns
    split.json        names of the training, validation and test structures (optional)
    shard-00000.h5    structures one after the other; arrays that differ in length are concatenated, with offsets:
        offsets (n + 1,), shapes (n, 3), origins (n, 3), cells (n, 3, 3), pbc (n, 3), names (n,)
        atom_offsets (n + 1,), numbers (n_atoms,), positions (n_atoms, 3)
        density/LABEL            (n_points,) float32, contiguous and so mapped into memory; or, where compressed,
        density/LABEL/000000     (nx, ny, nz) float32, one dataset for each structure
Lengths are in Å, densities in e/Å³; points are counted in C order (z fastest).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from deepdft.data.index import INDEX, read_index, sha256_of_file
from deepdft.data.shards import CompressedShard, MappedShard, ShardTable
from deepdft.density import DensityGrid

__all__ = ["DensityStore", "elements_of"]

MAX_OPEN_SHARDS = 256
"""Files kept open at once, well below the usual limit of 1024 a process."""


def elements_of(formulas: Iterable[str]) -> list[int]:
    """Atomic numbers of the elements in chemical formulas, ascending."""
    symbols = {symbol for formula in set(formulas) for symbol in re.findall("[A-Z][a-z]?", formula)}
    return sorted(atomic_numbers[symbol] for symbol in symbols)


class DensityStore:
    """Densities on grids with their atoms, one or several (an ensemble) for each structure.

    Files are opened when they are first read, by the process that reads: a store may be handed to processes
    however they are started.

    Args:
        root: folder written by deepdft-convert.

    Raises:
        FileNotFoundError: if there is no store.
        ValueError: if it is damaged or of another format.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.index = read_index(self.root / INDEX)
        """The content of index.json without its columns: provenance, compression, shards, rejected members."""
        columns = self.index.pop("structures")
        self.labels: list[str] = self.index["labels"]
        """Names of the densities that each structure has, e.g. functionals; the first is the default."""
        self.names: list[str] = columns["name"]
        """Unique name of each structure."""
        self.formulas: list[str] = columns["formula"]
        """Chemical formula of each structure."""
        self.n_atoms: NDArray[np.int64] = np.array(columns["n_atoms"], dtype=np.int64)
        """(n,) atoms in each structure."""
        self.shapes: NDArray[np.int64] = np.array(columns["shape"], dtype=np.int64).reshape(-1, 3)
        """(n, 3) grid points along the edges of each box."""
        self._electrons = {label: np.array(columns["n_electrons"][label]) for label in self.labels}
        counts = [shard["n_structures"] for shard in self.index["shards"]]
        self._first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        if self._first[-1] != len(self.names):
            raise ValueError(
                f"{self.root / INDEX}: {len(self.names)} names but the shards hold {self._first[-1]} structures; "
                "the file is damaged, convert again"
            )
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._tables: dict[int, ShardTable] = {}
        self._open: OrderedDict[int, MappedShard | CompressedShard] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: nothing that is open."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_pid", "_tables", "_open")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In another process."""
        self.__dict__.update(state)
        self._forget()

    def __len__(self) -> int:
        """Number of structures."""
        return len(self.names)

    def __repr__(self) -> str:
        """Say where it is and how large."""
        return f"DensityStore({str(self.root)!r}: {len(self)} structures, {', '.join(self.labels)})"

    @property
    def n_electrons(self) -> NDArray[np.float64]:
        """(n,) integral of each structure's first density over its box."""
        return self._electrons[self.labels[0]]

    def electrons(self, label: str | None = None) -> NDArray[np.float64]:
        """Integrals (n,) of the densities of one label over their boxes; None is the first label."""
        return self._electrons[self._label(label)]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 that identifies the data: equal for stores with the same names, labels and shards."""
        data = [self.labels, self.names, [shard["sha256"] for shard in self.index["shards"]]]
        return hashlib.sha256(json.dumps(data).encode()).hexdigest()

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.names)}

    def index_of(self, name: str) -> int:
        """Position of the structure of that name.

        Raises:
            ValueError: if there is none.
        """
        try:
            return self._positions[name]
        except KeyError:
            raise ValueError(f"{self.root}: no structure is named {name!r}; names are like {self.names[0]!r}") from None

    def elements(self, positions: Iterable[int]) -> list[int]:
        """Atomic numbers of the elements in some structures, ascending."""
        return elements_of(self.formulas[i] for i in positions)

    def atoms(self, i: int) -> ase.Atoms:
        """Structure `i` with its cell and periodicity."""
        table, row = self._table(i)
        atoms = slice(table.atom_offsets[row], table.atom_offsets[row + 1])
        return ase.Atoms(
            numbers=table.numbers[atoms],
            positions=table.positions[atoms],
            cell=table.cells[row],
            pbc=table.pbc[row],
        )

    def origin(self, i: int) -> NDArray[np.float64]:
        """Position (3,) in Å of the first grid point of structure `i`."""
        table, row = self._table(i)
        return table.origins[row].copy()

    def shape(self, i: int) -> tuple[int, int, int]:
        """Grid points of structure `i` along the edges of its box."""
        nx, ny, nz = self.shapes[i].tolist()
        return nx, ny, nz

    def values(self, i: int, label: str | None = None) -> NDArray[np.float32]:
        """Density (nx, ny, nz) of structure `i` in e/Å³; None is the first label."""
        return self.planes(i, slice(None), label)

    def planes(self, i: int, planes: slice, label: str | None = None) -> NDArray[np.float32]:
        """Part of a density: the grid points [planes, :, :] of structure `i` in e/Å³, for work in little memory.

        Args:
            i: which structure.
            planes: slice along the first axis, without a step.
            label: which density; None is the first.

        Returns:
            (n_planes, ny, nz).
        """
        return self._values(i).planes(*self._table(i), planes, label=self._label(label))

    def sample(self, i: int, flat_indices: NDArray[np.integer], label: str | None = None) -> NDArray[np.float32]:
        """Density (n,) of structure `i` in e/Å³ at some grid points.

        Args:
            i: which structure.
            flat_indices: (n,) grid points in C order (z fastest); `density.grid_points` gives their positions.
            label: which density; None is the first.

        Raises:
            IndexError: if an index is outside the grid.
        """
        indices = np.asarray(flat_indices)
        n_points = int(self.shapes[i].prod())
        if indices.size and (indices.min() < 0 or indices.max() >= n_points):
            raise IndexError(f"{self.names[i]}: grid points are 0…{n_points - 1}, got {indices.min()}…{indices.max()}")
        return self._values(i).points(*self._table(i), indices, label=self._label(label))

    def density(self, i: int, label: str | None = None) -> DensityGrid:
        """Structure `i` with its density; None is the first label."""
        return DensityGrid(values=self.values(i, label), atoms=self.atoms(i), origin=self.origin(i))

    def verify(self) -> None:
        """Read all shards and compare their checksums with the index.

        Raises:
            ValueError: naming the shards that are damaged or missing.
        """
        damaged = []
        for shard in self.index["shards"]:
            path = self.root / shard["file"]
            if not path.is_file() or sha256_of_file(path) != shard["sha256"]:
                damaged.append(shard["file"])
        if damaged:
            raise ValueError(
                f"{self.root}: {', '.join(damaged)} damaged or missing (sha256 differs from {INDEX}); "
                "copy or convert the data again"
            )

    def _label(self, label: str | None) -> str:
        if label is None:
            return self.labels[0]
        if label not in self.labels:
            raise ValueError(f"{self.root}: no density is labelled {label!r}; expected one of {', '.join(self.labels)}")
        return label

    def _shard(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise IndexError(f"{self.root}: structure {i} of {len(self)}")
        if self._pid != os.getpid():  # after a fork: close what was inherited, then open anew
            self._forget()
        return int(np.searchsorted(self._first, i, side="right")) - 1

    def _table(self, i: int) -> tuple[ShardTable, int]:
        """The table of the shard of a structure, and the row of the structure in it."""
        shard = self._shard(i)
        if shard not in self._tables:
            entry = self.index["shards"][shard]
            self._tables[shard] = ShardTable.read(self.root / entry["file"], entry["bytes"])
        return self._tables[shard], i - int(self._first[shard])

    def _values(self, i: int) -> MappedShard | CompressedShard:
        """The densities of the shard of a structure, opened."""
        table, _ = self._table(i)
        shard = self._shard(i)
        if shard not in self._open:
            self._open[shard] = CompressedShard(table) if table.contiguous is None else MappedShard(table)
            if len(self._open) > MAX_OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(shard)
        return self._open[shard]
