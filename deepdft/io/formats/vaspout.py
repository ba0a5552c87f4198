"""VASP's HDF5 output (vaspout.h5, vaspwave.h5) with the density that LCHARGH5 puts there; read only.

The datasets are those of py4vasp's schema: `charge/charge` (n_blocks, nz, ny, nx), blocks as in a CHGCAR, and the
structure in `results/positions`. No public text says whether the values are multiplied by the volume as in a CHGCAR, so
that the number of electrons in the same file decides, and a file where neither fits is refused.
"""

from __future__ import annotations

import io
import re
from typing import BinaryIO

import ase
import numpy as np
from ase.data import atomic_numbers

from deepdft.density import DensityGrid, volume
from deepdft.errors import DensityFormatError
from deepdft.io.formats.base import Chunks, Field, Format
from deepdft.io.formats.chgcar import CHANNELS
from deepdft.io.hdf5_heaps import check_heaps
from deepdft.io.hdf5_reader import Hdf5Reader, reading_limit

__all__ = ["Vaspout"]

_NAME = re.compile(r"vasp(out|wave)([._-].*)?\.h5", re.IGNORECASE)
_CHARGE, _POSITIONS = "charge/charge", "results/positions"
_ELECTRONS = "results/electron_eigenvalues/nelectrons"
_TOLERANCE = 0.01
"""Relative deviation of the electrons on the grid from those of the calculation."""


class Vaspout(Format):
    """VASP's HDF5 output."""

    name = "vaspout"
    suffixes = ()
    order = "F"
    bytes_per_value = 8
    is_written = False

    def has_name(self, base: str) -> bool:
        """Whether a file has one of VASP's names."""
        return _NAME.fullmatch(base) is not None

    def recognises(self, data: bytes) -> bool:
        """Always False: only the name tells these files from other HDF5 files."""
        return False

    def read(self, data: bytes, name: str) -> DensityGrid:
        """Read the content of a file."""
        import h5py

        try:
            check_heaps(data)
            with h5py.File(io.BytesIO(data), "r") as file:
                return _density(Hdf5Reader(file, reading_limit(len(data))))
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError, OverflowError) as error:
            raise DensityFormatError(f"{name}: not a VASP file with a density (LCHARGH5 = .TRUE.): {error}") from error

    def write(self, file: BinaryIO, content: Field, chunks: Chunks) -> None:
        """Refuse to write: only VASP writes these files."""
        raise ValueError("VASP's own HDF5 files are only read; write a CHGCAR, or an .h5 file of another name")


def _density(reader: Hdf5Reader) -> DensityGrid:
    atoms = _atoms(reader)
    blocks = reader.array(_CHARGE, 4).astype(np.float64).transpose(0, 3, 2, 1)  # (n_blocks, nx, ny, nz)
    if len(blocks) not in CHANNELS:
        raise ValueError(f"{len(blocks)} blocks of values, expected 1, 2 (collinear spin) or 4 (noncollinear)")
    n_electrons, box = float(reader.array(_ELECTRONS, 0)), volume(atoms.cell.array)
    mean = float(blocks[0].mean())
    if abs(mean - n_electrons) <= _TOLERANCE * n_electrons:
        blocks = blocks / box
    elif abs(mean * box - n_electrons) > _TOLERANCE * n_electrons:
        raise ValueError(
            f"the grid holds {mean:.4g} (or {mean * box:.4g}) electrons, those of the calculation are {n_electrons:g}"
        )
    values = [np.ascontiguousarray(block) for block in blocks]
    return DensityGrid(values[0], atoms, channels=dict(zip(CHANNELS[len(blocks)], values[1:], strict=True)))


def _atoms(reader: Hdf5Reader) -> ase.Atoms:
    cell = reader.array(f"{_POSITIONS}/lattice_vectors", 2) * float(reader.array(f"{_POSITIONS}/scale", 0))
    counts = reader.array(f"{_POSITIONS}/number_ion_types", 1)
    fractional = reader.array(f"{_POSITIONS}/position_ions", 2)
    symbols = [re.split(r"[_/\s]", text.strip())[0] for text in reader.texts(f"{_POSITIONS}/ion_types")]
    if len(symbols) != len(counts) or not all(symbol in atomic_numbers for symbol in symbols):
        raise ValueError(f"{_POSITIONS}: elements {symbols[:9]} with counts {counts.tolist()[:9]} are no structure")
    if fractional.shape != (int(counts.sum()), 3) or cell.shape != (3, 3):
        raise ValueError(f"{_POSITIONS}: {fractional.shape} positions of {int(counts.sum())} atoms, cell {cell.shape}")
    numbers = np.repeat([atomic_numbers[symbol] for symbol in symbols], counts)
    return ase.Atoms(numbers, scaled_positions=fractional, cell=cell, pbc=True)
