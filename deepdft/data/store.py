"""`Store`: reads densities and atoms from a folder of HDF5 shards with one `index.json`.

Layout of a store, written by `deepdft.data.writer`, format version 2:
    index.json        format, provenance, kind of density, channels, and names, formulas, atom counts, shapes and
                      integrals as columns
    split.json        names of the training, validation and test structures (optional)
    shard-00000.h5    n structures; arrays that differ in length are concatenated:
        names (n,), shapes (n, 3), origins (n, 3), cells (n, 3, 3), pbc (n, 3)
        atom_offsets (n + 1,), numbers (n_atoms,), positions (n_atoms, 3)
        density/LABEL/CHANNEL/000000     (nx, ny, nz) float32, one dataset for each structure that has the channel
        checksums/LABEL/CHANNEL          (n,) CRC-32 of these values as they are read; -1 without the channel
        stored_checksums/LABEL/CHANNEL   (n,) CRC-32 of the compressed bytes, checked before they are decompressed
        byte_offsets/LABEL/CHANNEL       (n,) where they begin in the file, to map them into memory; if not compressed
        atom_arrays/LABEL/NAME           numbers per atom, (n_atoms, width) of each structure one after another
        atom_array_widths/LABEL/NAME     (n,) their widths; -1 without the array
Version 1 has the channel "total" alone, without its level of names, and no checksums; densities that are not
compressed are one dataset density/LABEL. Lengths are in Å, densities in e/Å³; points are counted in C order
(z fastest).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from deepdft.data.index import INDEX, read_index
from deepdft.data.kind import DensityKind
from deepdft.data.shards import Expected, ShardTable, ShardValues
from deepdft.data.verify import find_damage
from deepdft.density import INITIAL_MOMENTS, TOTAL, DensityGrid, occupancies_of

__all__ = ["DensityStore", "Store", "elements_of"]

MAX_OPEN_SHARDS = 256
"""Files kept open at once, well below the usual limit of 1024 per process."""

MAX_DAMAGE_SHOWN = 20
"""Largest number of damaged structures that an error names."""


def elements_of(formulas: Iterable[str]) -> list[int]:
    """Atomic numbers of the elements in chemical formulas, ascending."""
    symbols = {symbol for formula in set(formulas) for symbol in re.findall("[A-Z][a-z]?", formula)}
    return sorted(atomic_numbers[symbol] for symbol in symbols)


class Store:
    """Densities on grids with their atoms, one or several (an ensemble) for each structure.

    Structures are counted from zero; `labels` names the densities of an ensemble, `channels` the fields of a density
    ("total", and "difference" of spin-polarised ones). Files are opened when they are first read, by the process that
    reads, so a store can be passed to other processes however they are started. Whole grids are compared with their
    checksums when they are read.

    Example:
        store = deepdft.Store("data/qm9")
        density = store.density(store.index_of("000001"))  # a DensityGrid

    Args:
        root: folder written by deepdft-convert or deepdft-generate.

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
        self.channels: tuple[str, ...] = tuple(self.index["channels"])
        """Names of the channels that any structure has, "total" first."""
        self.kind = DensityKind.of_index(self.index)
        """Kind of the densities, as far as it is known."""
        self.names: list[str] = columns["name"]
        """Unique name of each structure."""
        self.formulas: list[str] = columns["formula"]
        """Chemical formula of each structure."""
        self.n_atoms: NDArray[np.int64] = np.array(columns["n_atoms"], dtype=np.int64)
        """(n,) number of atoms in each structure."""
        self.shapes: NDArray[np.int64] = np.array(columns["shape"], dtype=np.int64).reshape(-1, 3)
        """(n, 3) grid points along the edges of each box."""
        self._integrals: dict[str, dict[str, NDArray[np.float64]]] = {
            label: {channel: np.array(column, dtype=np.float64) for channel, column in own.items()}
            for label, own in columns["integrals"].items()
        }
        counts = [shard["n_structures"] for shard in self.index["shards"]]
        self._first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._tables: dict[int, ShardTable] = {}
        self._open: OrderedDict[int, ShardValues] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """State for pickling, without open files."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_pid", "_tables", "_open")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state in another process."""
        self.__dict__.update(state)
        self._forget()

    def __len__(self) -> int:
        """Number of structures."""
        return len(self.names)

    def __repr__(self) -> str:
        """One line: path, size, labels and channels."""
        labels, channels = ", ".join(self.labels), ", ".join(self.channels)
        return f"Store({str(self.root)!r}: {len(self)} structures, {labels}; {channels})"

    @property
    def n_electrons(self) -> NDArray[np.float64]:
        """(n,) integral of each structure's first density over its box."""
        return self.electrons()

    def electrons(self, label: str | None = None) -> NDArray[np.float64]:
        """Integrals (n,) of the total densities of one label over their boxes; None is the first label."""
        return self.integrals(TOTAL, label)

    def integrals(self, channel: str, label: str | None = None) -> NDArray[np.float64]:
        """Integrals (n,) of a channel over the boxes, NaN for structures without it; None is the first label.

        That of "total" is the number of electrons, that of "difference" the magnetic moment in μ_B.
        """
        own = self._integrals[self._label(label)]
        return own[channel] if channel in own else np.full(len(self), np.nan)

    def channels_of(self, i: int, label: str | None = None) -> tuple[str, ...]:
        """The channels that structure `i` has, "total" first."""
        return tuple(channel for channel in self.channels if not np.isnan(self.integrals(channel, label)[i]))

    def require_channels(
        self, channels: Sequence[str], indices: Iterable[int] | None = None, label: str | None = None
    ) -> None:
        """Check that structures have all of some channels.

        Args:
            channels: their names.
            indices: of the structures; None for all.
            label: which density; None is the first.

        Raises:
            ValueError: in one line, if a structure lacks one.
        """
        if all(channel == TOTAL for channel in channels):
            return  # every structure has it
        chosen = np.arange(len(self)) if indices is None else np.fromiter(indices, dtype=np.int64)
        for channel in channels:
            missing = chosen[np.isnan(self.integrals(channel, label)[chosen])]
            if missing.size:
                raise ValueError(
                    f"channel {channel}: {missing.size} of {len(chosen)} structures of {self.root} have no such "
                    f"channel, e.g. {self.names[missing[0]]}; the store has {', '.join(self.channels)}"
                )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 that identifies the data: equal for stores with the same names, labels and shards."""
        data = [self.labels, self.names, [shard["sha256"] for shard in self.index["shards"]]]
        return hashlib.sha256(json.dumps(data).encode()).hexdigest()

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    def index_of(self, name: str) -> int:
        """Index of the structure of that name.

        Raises:
            ValueError: if there is none.
        """
        try:
            return self._indices[name]
        except KeyError:
            raise ValueError(f"{self.root}: no structure is named {name!r}; names are like {self.names[0]!r}") from None

    def elements(self, indices: Iterable[int]) -> list[int]:
        """Atomic numbers of the elements in some structures, ascending."""
        return elements_of(self.formulas[i] for i in indices)

    def atoms(self, i: int) -> ase.Atoms:
        """Structure `i` with its cell, periodicity and the moments that its calculation started from, if recorded."""
        table, row = self._table(i)
        atoms = table.atoms(row)
        moments = table.per_atom(row, self._label(None)).get(INITIAL_MOMENTS)
        if moments is not None:
            atoms.set_initial_magnetic_moments(moments[:, 0])
        return atoms

    def origin(self, i: int) -> NDArray[np.float64]:
        """Position (3,) in Å of the first grid point of structure `i`."""
        table, row = self._table(i)
        return table.origins[row].copy()

    def shape(self, i: int) -> tuple[int, int, int]:
        """Grid points of structure `i` along the edges of its box."""
        nx, ny, nz = self.shapes[i].tolist()
        return nx, ny, nz

    def values(self, i: int, label: str | None = None, *, channel: str = TOTAL) -> NDArray[np.float32]:
        """Density (nx, ny, nz) of structure `i` in e/Å³; None is the first label.

        Raises:
            ValueError: if the values differ from their checksum, or the structure has no such channel.
        """
        return self.planes(i, slice(None), label, channel=channel)

    def planes(self, i: int, planes: slice, label: str | None = None, *, channel: str = TOTAL) -> NDArray[np.float32]:
        """Part of a density: the grid points [planes, :, :] of structure `i` in e/Å³, for work in little memory.

        Args:
            i: which structure.
            planes: slice along the first axis, without a step.
            label: which density; None is the first.
            channel: which channel of it.

        Returns:
            (n_planes, ny, nz).
        """
        label = self._label(label)
        self.require_channels([channel], [i], label)
        values, row = self._values(i)
        return values.planes(row, planes, label, channel)

    def sample(
        self,
        i: int,
        flat_indices: NDArray[np.integer],
        label: str | None = None,
        *,
        channels: Sequence[str] = (TOTAL,),
    ) -> NDArray[np.float32]:
        """Density (n, n_channels) of structure `i` in e/Å³ at some grid points, which are not compared with a checksum.

        Args:
            i: which structure.
            flat_indices: (n,) grid points in C order (z fastest); `density.grid_points` gives their positions.
            label: which density; None is the first.
            channels: which channels of it.

        Raises:
            IndexError: if an index is outside the grid.
            ValueError: if the structure has no such channel.
        """
        label = self._label(label)
        indices = np.asarray(flat_indices)
        n_points = int(self.shapes[i].prod())
        if indices.size and (indices.min() < 0 or indices.max() >= n_points):
            raise IndexError(f"{self.names[i]}: grid points are 0…{n_points - 1}, got {indices.min()}…{indices.max()}")
        self.require_channels(channels, [i], label)
        values, row = self._values(i)
        columns = [values.points(row, indices, label, channel) for channel in channels]
        return np.stack(columns, axis=-1) if len(columns) > 1 else columns[0][:, None]

    def density(self, i: int, label: str | None = None, *, channels: Sequence[str] | None = None) -> DensityGrid:
        """Structure `i` with its density.

        Args:
            i: which structure.
            label: which density; None is the first.
            channels: which channels beside "total"; None for all that the structure has.

        Raises:
            ValueError: if the values differ from their checksums, or the structure has no such channel.
        """
        label = self._label(label)
        wanted = self.channels_of(i, label) if channels is None else channels
        table, row = self._table(i)
        return DensityGrid(
            values=self.values(i, label),
            atoms=self.atoms(i),
            origin=self.origin(i),
            channels={name: self.values(i, label, channel=name) for name in wanted if name != TOTAL},
            atom_arrays=table.per_atom(row, label),
        )

    def occupancies(self, i: int, label: str | None = None, channels: Sequence[str] = (TOTAL,)) -> NDArray[np.float64]:
        """PAW augmentation occupancies (n_atoms, n_channels, width) of structure `i`, NaN beyond those of an element.

        Raises:
            ValueError: if the structure has none.
        """
        table, row = self._table(i)
        found = table.per_atom(row, self._label(label))
        if missing := [name for name in map(occupancies_of, channels) if name not in found]:
            raise ValueError(f"{self.root}: {self.names[i]} has no {', '.join(missing)}, which a CHGCAR can have")
        return np.stack([found[occupancies_of(channel)] for channel in channels], axis=1)

    def verify(self) -> None:
        """Read everything and compare it with the checksums.

        Raises:
            ValueError: naming the shards and structures that are damaged or missing.
        """
        if damaged := list(find_damage(self)):
            shown = "; ".join(damaged[:MAX_DAMAGE_SHOWN]) + ("; …" if len(damaged) > MAX_DAMAGE_SHOWN else "")
            raise ValueError(f"{self.root}: {shown}; copy the store or convert the data again")

    def check_shard(self, number: int) -> None:
        """Check the table of a shard.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged.
        """
        self._table(int(self._first[number]))

    def structures_of_shard(self, number: int) -> range:
        """Indices of the structures in a shard."""
        return range(int(self._first[number]), int(self._first[number + 1]))

    def _label(self, label: str | None) -> str:
        if label is None:
            return self.labels[0]
        if label not in self.labels:
            raise ValueError(f"{self.root}: no density is labelled {label!r}; expected one of {', '.join(self.labels)}")
        return label

    def _shard(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise IndexError(f"{self.root}: structure {i} of {len(self)}")
        if self._pid != os.getpid():  # after a fork: close what was inherited, and open it again
            self._forget()
        return int(np.searchsorted(self._first, i, side="right")) - 1

    def _table(self, i: int) -> tuple[ShardTable, int]:
        """The table of the shard of a structure, and the structure's row in it."""
        number = self._shard(i)
        if number not in self._tables:
            shard = self.index["shards"][number]
            own = slice(self._first[number], self._first[number + 1])
            self._tables[number] = ShardTable.read(
                Expected(
                    path=self.root / shard["file"],
                    version=self.index["format_version"],
                    bytes=shard["bytes"],
                    table_crc32=shard.get("table_crc32"),
                    labels=tuple(self.labels),
                    shapes=self.shapes[own],
                    n_atoms=self.n_atoms[own],
                )
            )
        return self._tables[number], i - int(self._first[number])

    def _values(self, i: int) -> tuple[ShardValues, int]:
        """The opened densities of the shard of a structure, and the structure's row."""
        table, row = self._table(i)
        number = self._shard(i)
        if number not in self._open:
            self._open[number] = ShardValues(table)
            if len(self._open) > MAX_OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number], row


DensityStore = Store
"""Name of `Store` in earlier versions."""
