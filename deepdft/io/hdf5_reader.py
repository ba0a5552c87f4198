"""Reads arrays and texts of HDF5 files from untrusted sources."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepdft.io.compression import MAX_EXPANSION

__all__ = ["CHECKSUM", "CONTENTS", "Hdf5Reader", "dataset_names", "reading_limit", "text_attribute"]

CHECKSUM = "crc32"
"""Attribute of a dataset: the CRC-32 of its bytes, in the type and order in which they are stored."""
CONTENTS = "contents"
"""Attribute of the file: the names of all its datasets."""
_FREE_EXPANSION = 1 << 26
"""Size in bytes that a dataset may have whatever the size of its file."""
_LARGEST = 1e30
"""e/Å³ (or Å): a larger number must be a damaged exponent."""


def text_attribute(item: Any, name: str) -> str | None:
    """The text of an attribute of a file or dataset; None if there is none, or it is something else.

    Its type is looked at first: the library of HDF5 crashes when it reads a sequence of texts as one text.
    """
    import h5py

    if name not in item.attrs:
        return None
    attribute = item.attrs.get_id(name)
    if not isinstance(attribute.get_type(), h5py.h5t.TypeStringID) or attribute.shape != ():
        return None
    text = item.attrs[name]
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def dataset_names(file: Any) -> list[str]:
    """Names of all datasets of an open file, with their groups."""
    import h5py

    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


def _checksum(dataset: Any) -> int | None:
    """The checksum of a dataset that has one.

    Raises:
        ValueError: if it is no number.
    """
    import h5py

    if CHECKSUM not in dataset.attrs:
        return None
    attribute = dataset.attrs.get_id(CHECKSUM)
    if not isinstance(attribute.get_type(), h5py.h5t.TypeIntegerID) or attribute.shape != ():
        raise ValueError(f"damaged: the checksum of {dataset.name} is no number")
    return int(dataset.attrs[CHECKSUM])


def reading_limit(n_bytes: int) -> int:
    """Largest size in bytes of an array in a file of `n_bytes`."""
    return max(_FREE_EXPANSION, MAX_EXPANSION * n_bytes)


class Hdf5Reader:
    """Reads the arrays of a file from an untrusted source.

    Args:
        file: an open h5py.File.
        limit: bytes that an array may have.
    """

    def __init__(self, file: Any, limit: int) -> None:
        self.file, self.limit = file, limit

    def names(self, group: str) -> list[str]:
        """Names in a group; none if there is no such group."""
        import h5py

        if group not in self.file:
            return []
        self._refuse_links(group)
        if not isinstance(self.file[group], h5py.Group):
            raise ValueError(f"{group} is not a group of datasets")
        return list(self.file[group])

    def check_contents(self) -> None:
        """Check that the datasets are those that the file lists; one written before there was a list has none.

        Raises:
            ValueError: if a dataset is missing, or has another name.
        """
        import h5py

        if CONTENTS not in self.file.attrs:
            return
        if not isinstance(self.file.attrs.get_id(CONTENTS).get_type(), h5py.h5t.TypeStringID):
            raise ValueError("damaged: its list of contents is no list of names")
        listed = [name.decode("utf-8", "replace") for name in np.ravel(self.file.attrs[CONTENTS]).tolist()]
        if missing := [name for name in listed if name not in self.file]:
            raise ValueError(f"damaged: {', '.join(missing)} is in its list of contents and not in the file")

    def array(self, name: str, n_dimensions: int, *, nan: bool = False) -> NDArray[Any]:
        """Numbers of a dataset, checked against its checksum if it has one.

        Args:
            name: of the dataset.
            n_dimensions: how many it must have.
            nan: whether NaN is allowed.

        Raises:
            ValueError: if it is of another form, points to other files, or does not match its checksum.
        """
        import h5py

        self._refuse_links(name)
        dataset = self.file[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
            raise ValueError(f"{name} is not a dataset with values in the file itself")
        if dataset.dtype.kind not in "fiub" or dataset.ndim != n_dimensions:
            raise ValueError(
                f"{name} is {dataset.dtype} {dataset.shape}, expected numbers in {n_dimensions} dimensions"
            )
        size = int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize
        if size > self.limit:
            raise ValueError(f"{name} {dataset.shape} is {size >> 20} MiB, more than a file of this size holds")
        values: NDArray[Any] = dataset[()]
        if (checksum := _checksum(dataset)) is not None and checksum != zlib.crc32(np.ascontiguousarray(values).data):
            raise ValueError(
                f"{name} does not match its checksum: the file was changed or damaged after it was written"
            )
        if values.dtype.kind == "f":
            sensible = np.abs(values) <= _LARGEST
            if not (sensible | np.isnan(values) if nan else sensible).all():
                raise ValueError(f"{name} holds numbers that are not finite, or larger than {_LARGEST:g}")
        return values

    def texts(self, name: str) -> list[str]:
        """Short texts of a one-dimensional dataset.

        Raises:
            ValueError: if it is of another form, or points to other files.
        """
        import h5py

        self._refuse_links(name)
        dataset = self.file[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
            raise ValueError(f"{name} is not a dataset with values in the file itself")
        if dataset.dtype.kind not in "SO" or dataset.ndim != 1 or dataset.size * dataset.dtype.itemsize > self.limit:
            raise ValueError(f"{name} is {dataset.dtype} {dataset.shape}, expected texts")
        return [text.decode("ascii", "replace") for text in dataset[()] if isinstance(text, bytes)]

    def _refuse_links(self, name: str) -> None:
        import h5py

        parts = name.split("/")
        for end in range(1, len(parts) + 1):
            path = "/".join(parts[:end])
            if not isinstance(self.file.get(path, getlink=True), h5py.HardLink):
                raise ValueError(f"{path} is missing or a link, expected the values themselves")
