"""Reading one HDF5 shard of a density store: its tables, and its densities, mapped into memory or decompressed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

__all__ = ["CompressedShard", "MappedShard", "ShardTable"]

hdf5plugin.register(("bshuf", "zfp"), force=False)  # what stores may be compressed with


@dataclass(frozen=True)
class ShardTable:
    """Everything in a shard but the densities; see `deepdft.data.store`."""

    path: Path
    offsets: NDArray[np.int64]
    shapes: NDArray[np.int64]
    origins: NDArray[np.float64]
    cells: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    atom_offsets: NDArray[np.int64]
    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    contiguous: dict[str, int] | None
    """Byte in the file where the densities of each label begin; None where they are compressed."""

    @classmethod
    def read(cls, path: Path, expected_bytes: int) -> ShardTable:
        """Read it, after a look at the file's length."""
        _check_length(path, expected_bytes)
        names = ("offsets", "shapes", "origins", "cells", "pbc", "atom_offsets", "numbers", "positions")
        with _open_hdf5(path) as file:
            arrays = {name: file[name][()] for name in names}
            density = file["density"]
            flat = {label: item.id.get_offset() for label, item in density.items() if isinstance(item, h5py.Dataset)}
        return cls(path=path, **arrays, contiguous=flat or None)


class MappedShard:
    """Densities that are mapped into memory."""

    def __init__(self, table: ShardTable) -> None:
        n_points = int(table.offsets[-1])
        assert table.contiguous is not None
        self.flat = {
            label: np.asarray(np.memmap(table.path, dtype="<f4", mode="r", offset=offset, shape=(n_points,)))
            for label, offset in table.contiguous.items()
        }

    def planes(self, table: ShardTable, row: int, planes: slice, *, label: str) -> NDArray[np.float32]:
        """(n_planes, ny, nz) of one structure, copied into memory."""
        values = self.flat[label][table.offsets[row] : table.offsets[row + 1]]
        return np.array(values.reshape(table.shapes[row])[planes])

    def points(self, table: ShardTable, row: int, indices: NDArray[np.integer], *, label: str) -> NDArray[np.float32]:
        """Some values of one structure."""
        return self.flat[label][table.offsets[row] : table.offsets[row + 1]][indices]


class CompressedShard:
    """Densities in a dataset for each structure."""

    def __init__(self, table: ShardTable) -> None:
        self.file = _open_hdf5(table.path)

    def planes(self, table: ShardTable, row: int, planes: slice, *, label: str) -> NDArray[np.float32]:
        """(n_planes, ny, nz) of one structure."""
        return self.file["density"][label][f"{row:06d}"][planes]

    def points(self, table: ShardTable, row: int, indices: NDArray[np.integer], *, label: str) -> NDArray[np.float32]:
        """Some values of one structure; the whole is read, as HDF5 picks single values slowly."""
        return self.planes(table, row, slice(None), label=label).reshape(-1)[indices]


def _open_hdf5(path: Path) -> h5py.File:
    """Open for reading; without locks, which some file systems refuse and finished shards do not need."""
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise ValueError(f"{path}: not an HDF5 file that can be read ({error}); convert the data again") from error


def _check_length(path: Path, expected: int) -> None:
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: this shard of the store is missing; copy or convert the data again") from None
    if found != expected:
        raise ValueError(
            f"{path}: {found} bytes but index.json says {expected}; the shard is damaged, copy or convert it again"
        )
