"""One density in an HDF5 file: values (nx, ny, nz) in e/Å³ beside numbers, positions, cell, pbc and origin in Å."""

from __future__ import annotations

import io

import ase
import numpy as np

from deepdft.density import DensityGrid
from deepdft.errors import DensityFormatError

__all__ = ["format_hdf5", "parse_hdf5"]

_UNIT = "e/Å³"


def parse_hdf5(data: bytes, name: str) -> DensityGrid:
    """Read the content of a file.

    Args:
        data: of the whole file.
        name: of the file, for errors.

    Raises:
        DensityFormatError: if the file is damaged or holds something else than a density.
    """
    import h5py

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            unit = file["values"].attrs.get("unit", _UNIT)
            if unit != _UNIT:
                raise ValueError(f"its values are in {unit!r}, those of a density in {_UNIT!r}")
            atoms = ase.Atoms(file["numbers"][()], file["positions"][()], cell=file["cell"][()], pbc=file["pbc"][()])
            channels = {key: dataset[()] for key, dataset in file.get("channels", {}).items()}
            info = {key: text for key, text in file.attrs.items() if isinstance(text, str)}
            density = DensityGrid(file["values"][()], atoms, file["origin"][()], channels, info)
        if not np.isfinite(density.values).all():
            raise ValueError("its values are not all finite")
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DensityFormatError(f"{name}: not a whole HDF5 file with a density: {error}") from error
    return density


def format_hdf5(density: DensityGrid, comment: str) -> bytes:
    """The content of a file with the density, its channels and its info, in the precision they have."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs.update({**density.info, "comment": comment})
        for key, value in {
            "numbers": density.atoms.numbers,
            "positions": density.atoms.positions,
            "cell": density.atoms.cell.array,
            "pbc": density.atoms.pbc,
            "origin": density.origin,
        }.items():
            file[key] = value
        for key, field in {"values": density.values, **_named(density)}.items():
            dataset = file.create_dataset(key, data=field, compression="gzip", compression_opts=1, shuffle=True)
            dataset.attrs["unit"] = _UNIT
    return buffer.getvalue()


def _named(density: DensityGrid) -> dict[str, np.ndarray]:
    for name in density.channels:
        if "/" in name or name in ("", "."):
            raise ValueError(f"channel {name!r}: a name in a .h5 file has letters, and no slash")
    return {f"channels/{name}": channel for name, channel in density.channels.items()}
