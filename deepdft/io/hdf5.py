"""One density in an HDF5 file: datasets values, numbers, positions, cell, pbc and origin."""

from __future__ import annotations

import os

import ase
import h5py
import numpy as np

from deepdft.density import DensityGrid
from deepdft.io.errors import DensityFormatError

__all__ = ["read_hdf5", "write_hdf5"]


def read_hdf5(path: str | os.PathLike[str]) -> DensityGrid:
    """Read a density.

    Raises:
        DensityFormatError: if the file is damaged or holds something else.
    """
    try:
        with h5py.File(path) as file:
            atoms = ase.Atoms(file["numbers"][()], file["positions"][()], cell=file["cell"][()], pbc=file["pbc"][()])
            channels = {name: dataset[()] for name, dataset in file.get("channels", {}).items()}
            info = {name: str(text) for name, text in file.attrs.items()}
            return DensityGrid(file["values"][()], atoms, file["origin"][()], channels, info)
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError) as error:
        raise DensityFormatError(f"{path}: not a density in HDF5, or damaged: {error}") from error


def write_hdf5(path: str | os.PathLike[str], density: DensityGrid) -> None:
    """Write a density with its channels; the caller renames."""
    with h5py.File(path, "w") as file:
        file["values"] = density.values
        file["values"].attrs["unit"] = "e/Å^3"
        file["numbers"] = density.atoms.numbers
        file["positions"] = density.atoms.positions
        file["cell"] = density.atoms.cell.array
        file["pbc"] = np.asarray(density.atoms.pbc)
        file["origin"] = density.origin
        for name, channel in density.channels.items():
            file[f"channels/{name}"] = channel
        for name, text in density.info.items():
            file.attrs[name] = text
