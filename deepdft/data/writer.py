"""Writes the shards of a density store; a shard appears only when it is whole."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from deepdft.data.index import (
    FORMAT_VERSION,
    WORK_FOLDER,
    Rejected,
    ShardRecord,
    sha256_of_file,
    shard_name,
    sync_folder,
    write_record,
)
from deepdft.density import DensityGrid

__all__ = ["COMPRESSIONS", "Compression", "ShardWriter", "check_labels"]

COMPRESSIONS = ("none", "bitshuffle", "zfp")
ZFP_BLOCK = 4  # ZFP codes blocks of 4 × 4 × 4 values
MAX_CHUNK = 2**24  # values; HDF5 holds a whole chunk in memory and refuses 4 GiB
COPY_BLOCK = 2**22  # values copied at once


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
        """What the index says."""
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
        ValueError: if a label cannot name a dataset.
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
        self.record = ShardRecord(shard_name(number), made_from, n_electrons={label: [] for label in labels})
        self._part = folder / WORK_FOLDER / f"{shard_name(number)}.{os.getpid()}.part"
        self._arrays: dict[str, list[NDArray[Any]]] = {name: [] for name in _ROWS}
        self._spools: dict[str, BinaryIO] = {}

    def __enter__(self) -> Self:
        """Begin."""
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(self._part, "w", libver="v110")
        self._file.attrs["format"] = "deepdft-density-shard"
        self._file.attrs["format_version"] = FORMAT_VERSION
        density = self._file.create_group("density")
        for label in self.record.n_electrons:
            if self.compression.name == "none":
                self._spools[label] = self._spool(label).open("w+b")
            else:
                density.create_group(label)
        return self

    def _spool(self, label: str) -> Path:
        """Values go here first: HDF5 must know the length of a contiguous dataset when it makes it."""
        return self._part.with_name(f"{self._part.name}.{list(self.record.n_electrons).index(label)}")

    def add(self, name: str, densities: DensityGrid | Mapping[str, DensityGrid]) -> None:
        """Append a structure.

        Args:
            name: unique in the store.
            densities: its density, or with several labels one for each, on the same grid.

        Raises:
            ValueError: if labels are missing or the grids differ.
        """
        labels = list(self.record.n_electrons)
        if isinstance(densities, DensityGrid):
            densities = {labels[0]: densities}
        if set(densities) != set(labels):
            raise ValueError(f"{name}: densities labelled {', '.join(densities)}; expected {', '.join(labels)}")
        first = densities[labels[0]]
        for label in labels:
            _same_grid(name, first, densities[label])
            values = np.ascontiguousarray(densities[label].values, dtype="<f4")
            self._append_values(label, values)
            self.record.n_electrons[label].append(densities[label].n_electrons)
        atoms = first.atoms
        self.record.name.append(name)
        self.record.formula.append(atoms.get_chemical_formula())
        self.record.n_atoms.append(len(atoms))
        self.record.shape.append(list(first.shape))
        row = (first.shape, first.origin, atoms.cell.array, atoms.pbc, atoms.numbers, atoms.positions)
        for column, value in zip(_ROWS, row, strict=True):
            self._arrays[column].append(np.array(value, dtype=_ROWS[column]))

    def _append_values(self, label: str, values: NDArray[np.float32]) -> None:
        if self.compression.name == "none":
            self._spools[label].write(values.tobytes())
            return
        self._file["density"][label].create_dataset(
            f"{len(self.record.name):06d}", data=values, chunks=_chunks(values.shape), **self.compression.filter()
        )

    def reject(self, member: Rejected) -> None:
        """Note a structure that is left out."""
        self.record.rejected.append(member)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the shard, or leave nothing of it after an error."""
        try:
            if kind is None and self.record.name:
                self._finish()
            elif kind is None:
                self.record.file = ""
                write_record(self.folder, self.number, self.record)
        finally:
            self._file.close()
            for label, spool in self._spools.items():
                spool.close()
                self._spool(label).unlink(missing_ok=True)
            self._part.unlink(missing_ok=True)

    def _finish(self) -> None:
        """Write the tables, make the file last on the disk, and give it its name."""
        arrays = self._arrays
        file = self._file
        file["names"] = np.array([name.encode() for name in self.record.name])
        file["shapes"] = np.stack(arrays["shapes"])
        file["origins"] = np.stack(arrays["origins"])
        file["cells"] = np.stack(arrays["cells"])
        file["pbc"] = np.stack(arrays["pbc"])
        file["numbers"] = np.concatenate(arrays["numbers"])
        file["positions"] = np.concatenate(arrays["positions"]).reshape(-1, 3)
        file["atom_offsets"] = _offsets(self.record.n_atoms)
        file["offsets"] = offsets = _offsets([int(np.prod(shape)) for shape in self.record.shape])
        for label, spool in self._spools.items():
            spool.flush()
            _copy_values(self._spool(label), file["density"].create_dataset(label, shape=(offsets[-1],), dtype="<f4"))
        file.close()
        with self._part.open("r+b") as written:
            os.fsync(written.fileno())
        self.record.sha256 = sha256_of_file(self._part)
        self.record.bytes = self._part.stat().st_size
        # the record first: then every shard that is visible is known to be whole, and is not made again
        write_record(self.folder, self.number, self.record)
        self._part.rename(self.folder / self.record.file)
        sync_folder(self.folder)


_ROWS: dict[str, Any] = {
    "shapes": np.int64,
    "origins": np.float64,
    "cells": np.float64,
    "pbc": np.bool_,
    "numbers": np.int64,
    "positions": np.float64,
}
"""Arrays of a shard that are collected structure by structure, with their types."""


def check_labels(labels: Sequence[str]) -> None:
    """Refuse labels that cannot name a dataset.

    Raises:
        ValueError: if there is none, one is repeated, or has a character beyond letters, digits and +-_. in it.
    """
    bad = [label for label in labels if not re.fullmatch(r"[A-Za-z0-9+_-][A-Za-z0-9+_.-]*", label)]
    if bad or not labels or len(set(labels)) < len(labels):
        raise ValueError(f"labels {list(labels)}: expected different names of letters, digits and . + - _")


def _same_grid(name: str, first: DensityGrid, other: DensityGrid) -> None:
    same = first.shape == other.shape and np.allclose(first.atoms.cell.array, other.atoms.cell.array)
    if not same or not np.allclose(first.origin, other.origin):
        raise ValueError(f"{name}: its densities are on different grids ({first.shape} and {other.shape})")


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The whole grid, or slabs of it: a structure is read whole."""
    nx, ny, nz = shape
    slab = max(ZFP_BLOCK, MAX_CHUNK // (ny * nz) // ZFP_BLOCK * ZFP_BLOCK)
    return min(nx, slab), ny, nz


def _offsets(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _copy_values(spool: Path, dataset: h5py.Dataset) -> None:
    with spool.open("rb") as source:
        for start in range(0, len(dataset), COPY_BLOCK):
            block = np.fromfile(source, dtype="<f4", count=min(COPY_BLOCK, len(dataset) - start))
            dataset[start : start + len(block)] = block
