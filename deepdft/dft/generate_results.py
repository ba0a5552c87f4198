"""Results of single structures while a store is being generated: records, densities and numbers of the atoms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepdft.files import atomic_write, read_json, write_text

__all__ = ["Results"]


@dataclass(frozen=True)
class Results:
    """The files of finished structures in a folder, by the structure's index."""

    folder: Path

    def _path(self, index: int, suffix: str) -> Path:
        return self.folder / f"{index:07d}{suffix}"

    def record(self, index: int) -> dict[str, Any] | None:
        """The record of a structure; None if it is not finished."""
        try:
            return read_json(self._path(index, ".json"))
        except FileNotFoundError:
            return None

    def write_record(self, index: int, record: dict[str, Any]) -> dict[str, Any]:
        """Write the record of a structure, after everything else of it; returns it."""
        write_text(self._path(index, ".json"), json.dumps(record, ensure_ascii=False))
        return record

    def forget(self, index: int) -> None:
        """Remove the record of a structure, so that it is calculated again."""
        self._path(index, ".json").unlink(missing_ok=True)

    def has_densities(self, index: int) -> bool:
        """Whether the densities of a structure are there."""
        return self._path(index, ".npy").exists()

    def write(self, index: int, values: NDArray[np.float32], arrays: Mapping[str, NDArray[np.floating]]) -> None:
        """Write the results of a structure.

        Args:
            index: of the structure.
            values: (functionals, channels, nx, ny, nz) e/Å³.
            arrays: numbers of the atoms by FUNCTIONAL/NAME.
        """
        with atomic_write(self._path(index, ".npy")) as path, path.open("wb") as file:
            np.save(file, values)
        if arrays:
            with atomic_write(self._path(index, ".npz")) as path, path.open("wb") as file:
                np.savez(file, allow_pickle=False, **dict(arrays))

    def values(self, index: int) -> NDArray[np.float32]:
        """What `write` took for values, read from the disk where it is used."""
        found: NDArray[np.float32] = np.load(self._path(index, ".npy"), mmap_mode="r")
        return found

    def atom_arrays(self, index: int, label: str) -> dict[str, NDArray[np.floating]]:
        """Numbers of the atoms by their name, of one functional."""
        path = self._path(index, ".npz")
        if not path.exists():
            return {}
        with np.load(path) as arrays:
            return {key.removeprefix(f"{label}/"): arrays[key] for key in arrays if key.startswith(f"{label}/")}

    def discard(self, index: int) -> None:
        """Remove what has been packed into a shard; the record stays."""
        for suffix in (".npy", ".npz"):
            self._path(index, suffix).unlink(missing_ok=True)
