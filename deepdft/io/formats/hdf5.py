"""One density in an HDF5 file: values (nx, ny, nz) in e/Å³ beside numbers, positions, cell, pbc and origin in Å.

Every dataset has a CRC-32 of its bytes, which is compared when the file is read: a flipped bit in values that are
stored plain would come out as another density. The attribute `contents` lists the datasets, so that none is lost with
its name. Only values in the file itself are read: links to other files, external raw storage and virtual datasets could
name any file of the reader's machine.
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import ase
import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from deepdft.density import DensityGrid
from deepdft.errors import DensityFormatError
from deepdft.io.formats.base import DENSITY_UNIT, Chunks, Field, Format, rechunked
from deepdft.io.hdf5_heaps import check_heaps
from deepdft.io.hdf5_reader import CHECKSUM, CONTENTS, Hdf5Reader, dataset_names, reading_limit, text_attribute

__all__ = ["Hdf5", "parse_hdf5"]


def parse_hdf5(data: bytes, name: str) -> DensityGrid:
    """Read the content of a file.

    Args:
        data: of the whole file.
        name: of the file, for errors.

    Raises:
        DensityFormatError: if the file is damaged, holds something else than a density, or points to other files.
    """
    import h5py

    try:
        check_heaps(data)
        with h5py.File(io.BytesIO(data), "r") as file:
            reader = Hdf5Reader(file, reading_limit(len(data)))
            values = reader.array("values", 3)
            unit = text_attribute(file["values"], "unit") or DENSITY_UNIT
            if unit != DENSITY_UNIT:
                raise ValueError(f"its values are in {unit!r}, those of a density in {DENSITY_UNIT!r}")
            channels = {key: reader.array(f"channels/{key}", 3) for key in reader.names("channels")}
            arrays = {key: reader.array(f"atom_arrays/{key}", 2, nan=True) for key in reader.names("atom_arrays")}
            info = {key: text for key in file.attrs if (text := text_attribute(file, key)) is not None}
            density = DensityGrid(values, _atoms(reader), reader.array("origin", 1), channels, info, arrays)
            reader.check_contents()
            return density
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError, OverflowError) as error:
        raise DensityFormatError(f"{name}: not a whole HDF5 file with a density: {error}") from error


def _atoms(reader: Hdf5Reader) -> ase.Atoms:
    """The structure.

    Raises:
        ValueError: if the arrays do not fit together, or are no structure.
    """
    numbers, positions = reader.array("numbers", 1), reader.array("positions", 2)
    cell, pbc = reader.array("cell", 2), reader.array("pbc", 1)
    if numbers.dtype.kind not in "iu" or not ((numbers >= 0) & (numbers < len(chemical_symbols))).all():
        raise ValueError(f"numbers are not atomic numbers from 0 to {len(chemical_symbols) - 1}")
    if positions.shape != (len(numbers), 3) or cell.shape != (3, 3) or pbc.shape != (3,):
        raise ValueError(
            f"positions {positions.shape}, cell {cell.shape} and pbc {pbc.shape} are not those of {len(numbers)} atoms"
        )
    if not np.isin(pbc, (0, 1)).all():
        raise ValueError(f"pbc is {pbc.tolist()}, expected true or false for each axis")
    return ase.Atoms(numbers, positions, cell=cell, pbc=pbc.astype(bool))


class Hdf5(Format):
    """HDF5: the density, its channels, arrays of its atoms and info, in their precision."""

    name = "h5"
    suffixes = (".h5", ".hdf5")
    order = "C"
    bytes_per_value = 4
    is_compressed = True
    several_in_archives = False

    def recognises(self, data: bytes) -> bool:
        """Whether the first bytes are those of an HDF5 file."""
        return data.startswith(b"\x89HDF\r\n\x1a\n")

    def read(self, data: bytes, name: str) -> DensityGrid:
        """Read the content of a file."""
        return parse_hdf5(data, name)

    def write(self, file: BinaryIO, content: Field, chunks: Chunks) -> None:
        """Write plane by plane."""
        import h5py

        with h5py.File(file, "w") as stored:
            stored.attrs.update({**content.info, "comment": content.comment})
            for key, array in _structure(content.grid.atoms, content.grid.origin).items():
                _store(stored, key, array)
            for key, rows in content.atom_arrays.items():
                _store(stored, f"atom_arrays/{_checked_name(key)}", rows)
            names = ["values", *(f"channels/{_checked_name(name)}" for name in content.channels[1:])]
            dtypes = content.dtypes or (np.dtype(np.float32),) * len(names)
            datasets = [_empty(stored, name, dtype, content) for name, dtype in zip(names, dtypes, strict=True)]
            checksums, row = [0] * len(datasets), 0
            _, ny, nz = content.grid.shape
            for chunk in rechunked(chunks, ny * nz):
                n_planes = len(chunk) // (ny * nz)
                for channel, dataset in enumerate(datasets):
                    planes = np.ascontiguousarray(chunk[:, channel], dtype=dataset.dtype).reshape(n_planes, ny, nz)
                    dataset[row : row + n_planes] = planes
                    checksums[channel] = zlib.crc32(planes.data, checksums[channel])
                row += n_planes
            for dataset, checksum in zip(datasets, checksums, strict=True):
                dataset.attrs[CHECKSUM] = checksum
            stored.attrs[CONTENTS] = np.array(dataset_names(stored), dtype=bytes)

    def comment_of(self, path: Path) -> str:
        """The comment of a file, read without its values; "" if the file is of another format."""
        import h5py

        if not h5py.is_hdf5(path):
            return ""
        with h5py.File(path) as file:
            return text_attribute(file, "comment") or ""


def _empty(file: Any, name: str, dtype: np.dtype[np.floating], content: Field) -> Any:
    """Create a dataset for values that come plane by plane."""
    shape = content.grid.shape
    options = {"chunks": (1, *shape[1:]), "compression": "gzip", "compression_opts": 1, "shuffle": True}
    dataset = file.create_dataset(name, shape, dtype, **options)
    dataset.attrs.update({"quantity": content.name, "unit": content.unit})
    return dataset


def _store(file: Any, name: str, array: NDArray[Any]) -> None:
    """Create a dataset with its checksum."""
    array = np.ascontiguousarray(array)
    dataset = file.create_dataset(name, data=array)
    dataset.attrs[CHECKSUM] = zlib.crc32(array.data)


def _structure(atoms: ase.Atoms, origin: NDArray[np.floating]) -> dict[str, NDArray[Any]]:
    """Arrays of a structure by the names of their datasets."""
    return {
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "origin": np.asarray(origin, dtype=np.float64),
    }


def _checked_name(name: str) -> str:
    if "/" in name or name in ("", "."):
        raise ValueError(f"channel {name!r}: a name in a .h5 file has letters, and no slash")
    return name
