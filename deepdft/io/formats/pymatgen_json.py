"""pymatgen's Chgcar as JSON (`Chgcar.as_dict`), in which the Materials Project gives out densities; read only.

The values are those of a CHGCAR, density times volume; pymatgen is not needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, BinaryIO

import ase
import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from deepdft.density import DensityGrid
from deepdft.errors import DensityFormatError
from deepdft.interop import from_volumetric
from deepdft.io.formats.base import Chunks, Field, Format

__all__ = ["PymatgenJson"]

_NAME = re.compile(r"(mp-\w+|\d{5,})\.json", re.IGNORECASE)
_CLASS = re.compile(rb'"@class"\s*:\s*"Chgcar"')


class PymatgenJson(Format):
    """pymatgen's Chgcar as JSON."""

    name = "pymatgen JSON"
    suffixes = ()
    order = "F"
    bytes_per_value = 20
    is_written = False

    def has_name(self, base: str) -> bool:
        """Whether a file has a name as those of the Materials Project: mp-149.json, 1775579.json, CHGCAR.json."""
        return _NAME.fullmatch(base) is not None

    def recognises(self, data: bytes) -> bool:
        """Whether the content of a file is a Chgcar."""
        return data[:1].isascii() and data.lstrip()[:1] == b"{" and _CLASS.search(data) is not None

    def read(self, data: bytes, name: str) -> DensityGrid:
        """Read the content of a file."""
        try:
            content = json.loads(data)
            found = _chgcar(content)
            if found is None:
                raise ValueError("there is no Chgcar in it")
            return _density(found)
        except (ValueError, KeyError, TypeError, IndexError, RecursionError, OverflowError) as error:
            raise DensityFormatError(f"{name}: not a Chgcar of pymatgen as JSON: {error}") from error

    def write(self, file: BinaryIO, content: Field, chunks: Chunks) -> None:
        """Refuse: the text would be larger than that of a CHGCAR."""
        raise ValueError("a density is not written as JSON; write a CHGCAR, a cube or an .h5 file")


def _chgcar(content: Any) -> Mapping[str, Any] | None:
    """The Chgcar: the whole content, or what a task document of the Materials Project holds as "data"."""
    if not isinstance(content, Mapping):
        return None
    if content.get("@class") == "Chgcar":
        return content
    return _chgcar(content.get("data")) if isinstance(content.get("data"), Mapping) else None


def _density(content: Mapping[str, Any]) -> DensityGrid:
    structure = content["poscar"]["structure"]
    symbols = []
    for site in structure["sites"]:
        species = site["species"]
        if len(species) != 1 or species[0].get("occu", 1) != 1:
            raise ValueError("sites with partial occupancies are no structure")
        symbols.append(re.match(r"[A-Z][a-z]?", species[0]["element"])[0])  # type: ignore[index]
    if unknown := set(symbols) - set(atomic_numbers):
        raise ValueError(f"{', '.join(sorted(unknown))}: no elements")
    atoms = ase.Atoms(
        symbols,
        scaled_positions=np.array([site["abc"] for site in structure["sites"]], dtype=np.float64),
        cell=np.array(structure["lattice"]["matrix"], dtype=np.float64),
        pbc=True,
    )
    data = {name: _array(values) for name, values in content["data"].items()}
    occupancies = {
        name: {int(atom): _array(row) for atom, row in sets.items()} if isinstance(sets, Mapping) else sets
        for name, sets in (content.get("data_aug") or {}).items()
    }
    return from_volumetric(atoms, SimpleNamespace(data=data, data_aug=occupancies))


def _array(values: Any) -> NDArray[np.float64]:
    """An array, plain or as monty encodes those of numpy."""
    array = np.array(values["data"] if isinstance(values, Mapping) else values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("some values are not finite numbers")
    return array
