"""Reading one HDF5 shard of a density store: its table, and its densities, mapped into memory or decompressed.

Whatever a shard holds is checked before it is believed: datasets lie in the file itself (no links, no external or
virtual storage), have the size that the index gives, and whole grids have their recorded checksum.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import h5py
import hdf5plugin  # noqa: F401  makes the filters of compressed stores known to HDF5
import numpy as np
from numpy.typing import NDArray

from deepdft.density import TOTAL

__all__ = ["Expected", "ShardTable", "ShardValues", "chunks_crc32", "crc32", "table_crc32"]

ABSENT = -1
"""Marks, in place of a checksum, an offset or a width, a structure without the channel or array."""

ADVICE = "copy the store or convert the data again; deepdft-convert verify=<store> lists everything that is damaged"
VALUE = np.dtype("<f4")
HDF5_ERRORS = (ValueError, OSError, KeyError, RuntimeError, TypeError, OverflowError, MemoryError, AttributeError)
"""Errors that h5py raises for damaged files, depending on where the damage is."""

_TABLE: dict[str, tuple[str, tuple[int, ...]]] = {
    "shapes": ("<i8", (3,)),
    "origins": ("<f8", (3,)),
    "cells": ("<f8", (3, 3)),
    "pbc": ("|b1", (3,)),
}
"""Arrays with one row per structure: type, and shape of a row."""


@dataclass(frozen=True)
class Expected:
    """What the index says about a shard; shapes and numbers of atoms are those of its structures."""

    path: Path
    version: int
    """Version of the store's format."""
    bytes: int
    table_crc32: int | None
    """Checksum of the table; None in version 1."""
    labels: tuple[str, ...]
    shapes: NDArray[np.int64]
    n_atoms: NDArray[np.int64]


@dataclass(frozen=True)
class ShardTable:
    """Everything in a shard except the densities; see `deepdft.data.store` for the layout."""

    path: Path
    version: int
    shapes: NDArray[np.int64]
    origins: NDArray[np.float64]
    cells: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    atom_offsets: NDArray[np.int64]
    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    byte_offsets: Mapping[tuple[str, str], NDArray[np.int64]]
    """(n,) offsets of the densities of a label and channel in the file; empty if they are compressed."""
    checksums: Mapping[tuple[str, str], NDArray[np.int64]]
    """(n,) CRC-32 of the densities of a label and channel; empty in version 1."""
    stored_checksums: Mapping[tuple[str, str], NDArray[np.int64]]
    """(n,) CRC-32 of the compressed bytes: damaged ones would crash the decoder."""
    atom_arrays: Mapping[tuple[str, str], tuple[NDArray[np.int64], NDArray[np.float64]]]
    """Widths (n,) of the per-atom arrays of the structures, and all their numbers concatenated, by label and name."""

    @classmethod
    def read(cls, expected: Expected) -> ShardTable:
        """Read a table and check it.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged.
        """
        _check_length(expected)
        with _named_errors(expected.path), _open_hdf5(expected.path) as file:
            arrays = _read_v1(file, expected) if expected.version == 1 else _read_v2(file, expected)
            if expected.table_crc32 is not None and table_crc32(arrays) != expected.table_crc32:
                raise ValueError("the checksum of its table differs")
            return cls._of(expected, arrays)

    @classmethod
    def _of(cls, expected: Expected, arrays: dict[str, NDArray[Any]]) -> ShardTable:
        plain = {key: arrays[key] for key in (*_TABLE, "atom_offsets", "numbers", "positions")}
        _check_table(expected, plain)
        keyed: dict[str, dict[tuple[str, str], NDArray[Any]]] = {}
        for key, array in arrays.items():
            if "/" in key:
                kind, label, name = key.split("/")
                keyed.setdefault(kind, {})[label, name] = array
        widths, numbers = keyed.get("atom_array_widths", {}), keyed.get("atom_arrays", {})
        return cls(
            path=expected.path,
            version=expected.version,
            **plain,
            byte_offsets=keyed.get("byte_offsets", {}),
            checksums=keyed.get("checksums", {}),
            stored_checksums=keyed.get("stored_checksums", {}),
            atom_arrays={key: (widths[key], numbers[key]) for key in widths},
        )

    def atoms(self, row: int) -> ase.Atoms:
        """The structure in a row, with its cell and periodicity."""
        atoms = slice(self.atom_offsets[row], self.atom_offsets[row + 1])
        return ase.Atoms(
            numbers=self.numbers[atoms], positions=self.positions[atoms], cell=self.cells[row], pbc=self.pbc[row]
        )

    def has(self, row: int, label: str, channel: str) -> bool:
        """Whether the structure in a row has a channel."""
        if self.version == 1:
            return channel == TOTAL
        return (label, channel) in self.checksums and bool(self.checksums[label, channel][row] != ABSENT)

    def per_atom(self, row: int, label: str) -> dict[str, NDArray[np.floating]]:
        """Per-atom arrays (n_atoms, n_max) of the structure in a row, by name."""
        found: dict[str, NDArray[np.floating]] = {}
        n_atoms = np.diff(self.atom_offsets)
        for (own, name), (widths, numbers) in self.atom_arrays.items():
            if own == label and widths[row] != ABSENT:
                first = int((n_atoms[:row] * np.maximum(widths[:row], 0)).sum())
                shape = int(n_atoms[row]), int(widths[row])
                found[name] = numbers[first : first + shape[0] * shape[1]].reshape(shape).copy()
        return found


class ShardValues:
    """The densities of a shard, opened for reading."""

    def __init__(self, table: ShardTable) -> None:
        self.table = table
        if table.byte_offsets:
            self._bytes = np.memmap(table.path, dtype=np.uint8, mode="r")
        else:
            self._file = _open_hdf5(table.path)
            self._checked: set[tuple[str, str, int]] = set()

    def planes(self, row: int, planes: slice, label: str, channel: str) -> NDArray[np.float32]:
        """Planes (n_planes, ny, nz) of one structure, copied into memory; a whole grid is compared with its checksum.

        Raises:
            ValueError: if it is damaged.
        """
        table = self.table
        with _named_errors(table.path):
            if table.byte_offsets:
                values = np.array(self._mapped(row, label, channel).reshape(table.shapes[row])[planes])
            else:
                values = self._dataset(row, label, channel)[planes]
            expected = table.checksums[label, channel][row] if table.checksums else None
            if expected is not None and len(values) == table.shapes[row][0] and crc32(values) != expected:
                raise ValueError(f"the {channel} density {label} of its structure {row} differs from its checksum")
            return values

    def points(self, row: int, indices: NDArray[np.integer], label: str, channel: str) -> NDArray[np.float32]:
        """Values (n,) of one structure at flat indices."""
        if self.table.byte_offsets:
            return np.asarray(self._mapped(row, label, channel)[indices])
        with _named_errors(self.table.path):  # reads the whole grid, as HDF5 reads single values slowly
            return self._dataset(row, label, channel)[()].reshape(-1)[indices]

    def _mapped(self, row: int, label: str, channel: str) -> NDArray[np.float32]:
        first = int(self.table.byte_offsets[label, channel][row])
        end = first + VALUE.itemsize * int(self.table.shapes[row].prod())
        if not 0 <= first <= end <= len(self._bytes):
            raise ValueError(f"{self.table.path}: damaged: structure {row} lies outside the file; {ADVICE}")
        return np.asarray(self._bytes[first:end]).view(VALUE)

    def _dataset(self, row: int, label: str, channel: str) -> h5py.Dataset:
        parts = [label, f"{row:06d}"] if self.table.version == 1 else [label, channel, f"{row:06d}"]
        key = "/".join(["density", *parts])
        if (label, channel, row) not in self._checked:  # checked once: a finished shard does not change
            self._check(_own_dataset(self._file, key), row, label, channel)
            self._checked.add((label, channel, row))
        return self._file[key]

    def _check(self, dataset: h5py.Dataset, row: int, label: str, channel: str) -> None:
        """Refuse a compressed density that is damaged, or is not stored as deepdft does."""
        shape = tuple(self.table.shapes[row])
        if dataset.shape != shape or dataset.dtype != VALUE:
            raise ValueError(f"structure {row} has {dataset.shape} {dataset.dtype}, expected {shape} float32")
        if dataset.chunks is not None and any(chunk > n for chunk, n in zip(dataset.chunks, shape, strict=True)):
            raise ValueError(f"structure {row} has chunks larger than its grid")
        if self.table.version > 1 and chunks_crc32(dataset) != self.table.stored_checksums[label, channel][row]:
            raise ValueError(f"the {channel} density {label} of its structure {row} differs from its checksum")


def crc32(array: NDArray[Any]) -> int:
    """CRC-32 of the values of an array in C order."""
    return zlib.crc32(np.ascontiguousarray(array).data)


def chunks_crc32(dataset: h5py.Dataset) -> int:
    """CRC-32 of the stored bytes of a dataset."""
    total = 0
    for chunk in dataset.iter_chunks():
        first = tuple(part.start for part in chunk)
        mask, stored = dataset.id.read_direct_chunk(first)
        total = zlib.crc32(stored, zlib.crc32(str(mask).encode(), total))
    return total


def table_crc32(arrays: Mapping[str, NDArray[Any]]) -> int:
    """CRC-32 of named arrays: names, types, shapes and content."""
    total = 0
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        total = zlib.crc32(f"{key} {array.dtype.str} {array.shape}".encode(), total)
        total = zlib.crc32(array.tobytes(), total)
    return total


def _read_v1(file: h5py.File, expected: Expected) -> dict[str, NDArray[Any]]:
    """Read the table of version 1; byte offsets are derived from those of the structures."""
    arrays = {key: _read(file, key, expected) for key in (*_TABLE, "atom_offsets", "numbers", "positions")}
    for label in expected.labels:
        if file["density"].get(label, getclass=True) is h5py.Dataset:  # a group if densities are compressed
            start = _own_dataset(file, f"density/{label}").id.get_offset()
            sizes = expected.shapes.prod(axis=1)
            arrays[f"byte_offsets/{label}/{TOTAL}"] = start + VALUE.itemsize * (np.cumsum(sizes) - sizes)
    return arrays


def _read_v2(file: h5py.File, expected: Expected) -> dict[str, NDArray[Any]]:
    """Read the table of version 2, whose names are covered by the checksum."""
    keys = [*_TABLE, "atom_offsets", "numbers", "positions", "names"]
    for kind in ("checksums", "stored_checksums", "byte_offsets", "atom_array_widths", "atom_arrays"):
        for label in expected.labels:
            group = file.get(f"{kind}/{label}")
            keys += [f"{kind}/{label}/{name}" for name in (group if isinstance(group, h5py.Group) else ())]
    return {key: _read(file, key, expected) for key in keys}


def _read(file: h5py.File, key: str, expected: Expected) -> NDArray[Any]:
    dataset = _own_dataset(file, key)
    if dataset.chunks is not None or dataset.nbytes > expected.bytes:
        raise ValueError(f"its array {key} is not stored as deepdft does")
    return np.asarray(dataset[()])


def _check_table(expected: Expected, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse a table that does not belong to the structures in the index."""
    n, n_atoms = len(expected.shapes), int(expected.n_atoms.sum())
    wanted = {key: (dtype, (n, *row)) for key, (dtype, row) in _TABLE.items()}
    wanted |= {"atom_offsets": ("<i8", (n + 1,)), "numbers": ("<i8", (n_atoms,)), "positions": ("<f8", (n_atoms, 3))}
    for key, (dtype, shape) in wanted.items():
        if arrays[key].dtype != dtype or arrays[key].shape != shape:
            raise ValueError(f"its array {key} is {arrays[key].shape} {arrays[key].dtype}, expected {shape} {dtype}")
    if not np.array_equal(arrays["shapes"], expected.shapes):
        raise ValueError("its grids are not those of the index")
    if arrays["atom_offsets"][0] != 0 or not np.array_equal(np.diff(arrays["atom_offsets"]), expected.n_atoms):
        raise ValueError("its numbers of atoms are not those of the index")
    if not all(np.isfinite(arrays[key]).all() for key in ("origins", "cells", "positions")):
        raise ValueError("its cells or positions are not finite")
    if n_atoms and not (arrays["numbers"].min() >= 0 and arrays["numbers"].max() <= 118):
        raise ValueError("its atomic numbers are not those of elements")


def _own_dataset(file: h5py.File, key: str) -> h5py.Dataset:
    """A dataset stored in this file, rather than a link or one with external storage."""
    parts = key.split("/")
    for end in range(1, len(parts) + 1):
        name = "/".join(parts[:end])
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is missing, or a link; expected an array in the file itself")
    dataset = file[key]
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external is not None:
        raise ValueError(f"{key} is not an array in the file itself (external or virtual storage is not read)")
    return dataset


def _open_hdf5(path: Path) -> h5py.File:
    """Open for reading, without locks, which some file systems refuse and finished shards do not need."""
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise ValueError(f"{path}: not an HDF5 file that can be read ({error}); {ADVICE}") from error


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn whatever error a damaged file causes in HDF5 or numpy into one line with the file's name."""
    try:
        yield
    except HDF5_ERRORS as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: damaged: {text}; {ADVICE}") from error


def _check_length(expected: Expected) -> None:
    path = expected.path
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: this shard of the store is missing; {ADVICE}") from None
    if found != expected.bytes:
        raise ValueError(f"{path}: damaged: {found} bytes, but index.json says {expected.bytes}; {ADVICE}")
