"""What a file format of densities is, and what is written into a file besides the numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from deepdft.density import TOTAL, DensityGrid, Grid, Order

__all__ = ["DENSITY_UNIT", "Chunks", "Field", "Format", "rechunked"]

DENSITY_UNIT = "e/Å³"
MAX_COMMENT_BYTES = 10_000
"""Bytes of the first line of a file that are taken for its comment."""

Chunks = Iterable[NDArray[np.floating]]
"""Values of consecutive points, (n, n_channels) each, in the order of the format."""


@dataclass(frozen=True, eq=False)
class Field:
    """The content of a file besides the values."""

    grid: Grid
    """The points and the atoms."""
    channels: tuple[str, ...] = (TOTAL,)
    """Names of the values of a point; "total" is the density, or the only field."""
    name: str = "density"
    """Quantity of the values."""
    unit: str = DENSITY_UNIT
    """Unit of the values; formats with units of their own convert a density, and write other fields unchanged."""
    comment: str = ""
    """One line of text."""
    info: Mapping[str, str] = field(default_factory=dict)
    """Further text, of which a format keeps what it supports; see `DensityGrid.info`."""
    atom_arrays: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    """Numbers of the atoms, of which a format keeps what it supports; see `DensityGrid.atom_arrays`."""
    dtypes: tuple[np.dtype[np.floating], ...] = ()
    """Precision of each channel, for formats that store binary numbers; by default single precision."""

    @property
    def is_density(self) -> bool:
        """Whether the values are a density in e/Å³, which formats convert to their own unit."""
        return self.unit == DENSITY_UNIT


class Format(ABC):
    """A file format: how files are recognised, read, and written chunk after chunk.

    A new format is one file with a subclass of this, and its name in `deepdft.io.formats.FORMATS`.
    """

    name: str
    """Short name, for messages."""
    suffixes: tuple[str, ...]
    """Suffixes of file names in lower case, the usual one first."""
    order: Order
    """Order of the points: "C" for z fastest, "F" for x fastest."""
    bytes_per_value: int
    """Bytes per number in a file, to estimate the room that a grid needs on disk."""
    is_compressed = False
    """Whether numbers may take less room than `bytes_per_value`, at best about half."""
    is_written = True
    """Whether deepdft writes files of this format, rather than only reading them."""
    several_in_archives = True
    """Whether files of this format in folders and tars are structures of a data set."""

    def has_name(self, base: str) -> bool:
        """Whether a name, without folders and compression suffix, is one of this format."""
        return PurePosixPath(base).suffix.lower() in self.suffixes

    @abstractmethod
    def recognises(self, data: bytes) -> bool:
        """Whether the content of a file looks like this format."""

    @abstractmethod
    def read(self, data: bytes, name: str) -> DensityGrid:
        """Read the content of a file.

        Raises:
            DensityFormatError: naming the file, if it is damaged.
        """

    @abstractmethod
    def write(self, file: BinaryIO, content: Field, chunks: Chunks) -> None:
        """Write a field chunk after chunk.

        Raises:
            ValueError: if the format cannot hold it.
        """

    def comment_of(self, path: Path) -> str:
        """The comment of a file, read without its values; "" if the file is of another format."""
        with path.open("rb") as file:
            return file.readline(MAX_COMMENT_BYTES).decode("ascii", "replace")


def rechunked(chunks: Chunks, size: int) -> Iterator[NDArray[np.floating]]:
    """Regroup chunks so that the points of each but the last are a multiple of `size`."""
    rest: NDArray[np.floating] | None = None
    for chunk in chunks:
        joined = chunk if rest is None else np.concatenate([rest, chunk])
        whole = len(joined) // size * size
        if whole:
            yield joined[:whole]
        rest = joined[whole:]
    if rest is not None and len(rest):
        yield rest
