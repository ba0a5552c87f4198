"""Writer of the shards of a density store; a shard appears only when it is complete."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from deepdft.data.index import FORMAT_VERSION
from deepdft.data.records import WORK_FOLDER, Rejected, ShardRecord, sha256_of_file, shard_name, write_record
from deepdft.data.shards import ABSENT, chunks_crc32, crc32, table_crc32
from deepdft.density import DensityGrid
from deepdft.files import atomic_write

__all__ = ["COMPRESSIONS", "Compression", "ShardWriter", "check_labels"]

COMPRESSIONS = ("none", "bitshuffle", "zfp")
ZFP_BLOCK = 4  # ZFP codes blocks of 4 × 4 × 4 values
MAX_CHUNK = 2**24  # values; HDF5 holds a whole chunk in memory and refuses 4 GiB
METADATA_BYTES = 2**16  # more than HDF5 needs for the header of a dataset and its place in a group
ALIGNMENT = 64  # bytes; densities are mapped into memory


@dataclass(frozen=True)
class Compression:
    """How densities are stored.

    Raises:
        ValueError: if the name is unknown or the accuracy not positive.
    """

    name: str = "none"
    """none: contiguous, mapped into memory; bitshuffle: lossless; zfp: lossy, within `zfp_accuracy`."""
    zfp_accuracy: float = 1e-5
    """Largest error of a value in e/Å³, for zfp."""

    def __post_init__(self) -> None:
        if self.name not in COMPRESSIONS:
            raise ValueError(f"compression={self.name}: expected one of {', '.join(COMPRESSIONS)}")
        if not self.zfp_accuracy > 0:
            raise ValueError(f"zfp_accuracy={self.zfp_accuracy}: a density error in e/Å³, above zero")

    def as_dict(self) -> dict[str, Any]:
        """Entry of the index."""
        return {"name": self.name} | ({"accuracy": self.zfp_accuracy} if self.name == "zfp" else {})

    def filter(self) -> Any:
        """Keyword arguments of `create_dataset`."""
        if self.name == "zfp":
            return hdf5plugin.Zfp(accuracy=self.zfp_accuracy)
        return hdf5plugin.Bitshuffle(cname="lz4")


class ShardWriter:
    """Writes one shard, structure by structure, in little memory.

    Use it as a context manager: the shard and its record appear when the block ends without an error.
    The bytes of the shard depend only on what is added and in which order.

    Args:
        folder: the store.
        number: of the shard.
        labels: the densities of each structure.
        compression: of the densities.
        made_from: what its record shall say it was made from.

    Raises:
        ValueError: if a label or channel cannot name a dataset.
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        *,
        labels: Sequence[str] = ("PBE",),
        compression: Compression | None = None,
        made_from: str = "",
    ) -> None:
        check_labels(labels)
        self.folder = folder
        self.number = number
        self.compression = compression or Compression()
        self.record = ShardRecord(shard_name(number), made_from, integrals={label: {} for label in labels})
        self._rows: dict[str, list[NDArray[Any]]] = {name: [] for name in _ROWS}
        self._columns: dict[str, list[int]] = {}
        self._atom_arrays: dict[str, list[NDArray[np.float64]]] = {}
        self._writing = self._written()

    def __enter__(self) -> Self:
        """Start the file, beside its final place."""
        self._writing.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Finish the shard, or leave nothing of it after an error."""
        return self._writing.__exit__(kind, error, trace)

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Context in which structures are added."""
        (self.folder / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
        with suppress(_NothingToWrite), atomic_write(self.folder / self.record.file) as path:
            file = _Hdf5File(path)
            try:
                file.root.attrs["format"] = "deepdft-density-shard"
                file.root.attrs["format_version"] = FORMAT_VERSION
                self._file = file
                yield
                if not self.record.name:
                    raise _NothingToWrite
                arrays = self._table()
                file.reserve(sum(array.nbytes + METADATA_BYTES for array in arrays.values()))
                for key, array in arrays.items():
                    *groups, name = key.split("/")
                    _group(file.root, *groups)[name] = array
            finally:
                file.close()
            self.record.table_crc32 = table_crc32(arrays)
            self.record.sha256 = sha256_of_file(path)
            self.record.bytes = path.stat().st_size
            # the record first: then every shard that has its name is known to be complete, and is not made again
            write_record(self.folder, self.number, self.record)
        if not self.record.name:
            self.record.file = ""
            write_record(self.folder, self.number, self.record)

    def add(self, name: str, densities: DensityGrid | Mapping[str, DensityGrid]) -> None:
        """Append a structure.

        Args:
            name: unique in the store.
            densities: its density with all channels, or with several labels one for each, on the same grid.

        Raises:
            ValueError: if labels are missing or the grids differ.
        """
        labels = list(self.record.integrals)
        if isinstance(densities, DensityGrid):
            densities = {labels[0]: densities}
        if set(densities) != set(labels):
            raise ValueError(f"{name}: densities labelled {', '.join(densities)}; expected {', '.join(labels)}")
        first = densities[labels[0]]
        row = len(self.record.name)
        for label in labels:
            density = densities[label]
            _same_grid(name, first, density)
            for channel in density.channel_names:
                self._add_channel(row, label, channel, density)
            for key, array in density.atom_arrays.items():
                self._add_atom_array(row, label, key, array)
        for key in sorted({key for density in densities.values() for key in density.atom_arrays}):
            self.record.atom_arrays[key] = self.record.atom_arrays.get(key, 0) + 1
        atoms = first.atoms
        self.record.name.append(name)
        self.record.formula.append(atoms.get_chemical_formula())
        self.record.n_atoms.append(len(atoms))
        self.record.shape.append(list(first.shape))
        values = (first.shape, first.origin, atoms.cell.array, atoms.pbc, atoms.numbers, atoms.positions)
        for column, value in zip(_ROWS, values, strict=True):
            self._rows[column].append(np.array(value, dtype=_ROWS[column]))

    def _add_channel(self, row: int, label: str, channel: str, density: DensityGrid) -> None:
        """Write the values of a channel and record their integral, checksum and offset."""
        _check_name("channel", channel)
        values = np.ascontiguousarray(density.channel(channel), dtype="<f4")
        self._file.reserve(2 * values.nbytes)  # compressed values are hardly ever larger than uncompressed ones
        group = _group(self._file.root, "density", label, channel)
        key = f"{row:06d}"
        if self.compression.name == "none":
            dataset = group.create_dataset(key, data=values)
            self._note(f"byte_offsets/{label}/{channel}", row, dataset.id.get_offset())
        else:
            options = self.compression.filter()
            group.create_dataset(key, data=values, chunks=_chunks(values.shape), **options)
            stored = group[key]  # read from the file after reopening it
            self._note(f"stored_checksums/{label}/{channel}", row, chunks_crc32(stored))
            values = stored[()]
        self._note(f"checksums/{label}/{channel}", row, crc32(values))
        column = self.record.integrals[label].setdefault(channel, [])
        column += [None] * (row - len(column))
        integral = float(density.channel(channel).sum(dtype=np.float64)) * density.voxel_volume
        column.append(integral)

    def _add_atom_array(self, row: int, label: str, name: str, array: NDArray[np.floating]) -> None:
        _check_name("array of the atoms", name)
        self._note(f"atom_array_widths/{label}/{name}", row, array.shape[1])
        self._atom_arrays.setdefault(f"atom_arrays/{label}/{name}", []).append(array.astype("<f8").ravel())

    def _note(self, column: str, row: int, value: int) -> None:
        """Set the entry of a structure in a column; earlier structures without one are marked as absent."""
        entries = self._columns.setdefault(column, [])
        entries += [ABSENT] * (row - len(entries))
        entries.append(value)

    def drop(self, what: str) -> None:
        """Count something in a structure's source that is not kept."""
        self.record.dropped[what] = self.record.dropped.get(what, 0) + 1

    def reject(self, member: Rejected) -> None:
        """Record a structure that is left out."""
        self.record.rejected.append(member)

    def _table(self) -> dict[str, NDArray[Any]]:
        """All arrays of the shard except the densities."""
        rows, n = self._rows, len(self.record.name)
        for columns in self.record.integrals.values():
            for column in columns.values():
                column.extend([None] * (n - len(column)))
        arrays: dict[str, NDArray[Any]] = {key: np.stack(rows[key]) for key in ("shapes", "origins", "cells", "pbc")}
        arrays["names"] = np.array([name.encode() for name in self.record.name])
        arrays["numbers"] = np.concatenate(rows["numbers"])
        arrays["positions"] = np.concatenate(rows["positions"]).reshape(-1, 3)
        arrays["atom_offsets"] = np.concatenate([[0], np.cumsum(self.record.n_atoms, dtype=np.int64)])
        for key, entries in self._columns.items():
            arrays[key] = np.array([*entries, *[ABSENT] * (n - len(entries))], dtype="<i8")
        return arrays | {key: np.concatenate(parts) for key, parts in self._atom_arrays.items()}


_ROWS: dict[str, Any] = {
    "shapes": np.int64,
    "origins": np.float64,
    "cells": np.float64,
    "pbc": np.bool_,
    "numbers": np.int64,
    "positions": np.float64,
}
"""Arrays of a shard that are collected structure by structure, with their types."""


class _NothingToWrite(Exception):  # noqa: N818  not an error
    """Every structure of a shard was rejected."""


class _Hdf5File:
    """A new HDF5 file whose disk space is reserved before HDF5 writes.

    On a full disk HDF5 fails when it closes the file, and then ends the process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reserved = 0
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, METADATA_BYTES)  # so that an error here is Python's own
        self.root = h5py.File(
            path, "w", libver="v110", locking=False, alignment_threshold=1024, alignment_interval=ALIGNMENT
        )

    def reserve(self, n_bytes: int) -> None:
        """Reserve space for a dataset of so many bytes.

        Raises:
            OSError: if the disk is full, or the file would be too large for it.
        """
        end = self.root.id.get_filesize() + n_bytes + METADATA_BYTES
        if end > self.reserved:
            with self.path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, end)
            self.reserved = end

    def close(self) -> None:
        """Close the file, and release reserved space that is not used."""
        self.root.flush()
        end = self.root.id.get_filesize()
        self.root.close()
        os.truncate(self.path, end)


def _group(file: h5py.File, *names: str) -> h5py.Group:
    """Make nested groups; those that HDF5 makes by itself hold the time, so that no two shards would be equal."""
    group: h5py.Group = file
    for name in names:
        group = group.require_group(name)
    return group


_NAME = re.compile(r"[A-Za-z0-9+_-][A-Za-z0-9+_.-]*")


def check_labels(labels: Sequence[str]) -> None:
    """Refuse labels that cannot name a dataset.

    Raises:
        ValueError: if there is none, one is repeated, or has a character beyond letters, digits and +-_. in it.
    """
    if not labels or len(set(labels)) < len(labels) or not all(map(_NAME.fullmatch, labels)):
        raise ValueError(f"labels {list(labels)}: expected different names of letters, digits and . + - _")


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"the {what} {name!r} cannot be stored: expected a name of letters, digits and . + - _")


def _same_grid(name: str, first: DensityGrid, other: DensityGrid) -> None:
    same = first.shape == other.shape and np.allclose(first.atoms.cell.array, other.atoms.cell.array)
    if not same or not np.allclose(first.origin, other.origin):
        raise ValueError(f"{name}: its densities are on different grids ({first.shape} and {other.shape})")


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Chunk shape: the whole grid, or slabs of it, because structures are read whole."""
    nx, ny, nz = shape
    slab = max(ZFP_BLOCK, MAX_CHUNK // (ny * nz) // ZFP_BLOCK * ZFP_BLOCK)
    return min(nx, slab), ny, nz
