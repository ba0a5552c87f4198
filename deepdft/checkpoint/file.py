"""Checkpoint files, read without executing code and checked before use."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepdft.errors import InputWarning
from deepdft.models.base import DensityModel

__all__ = [
    "STATE_PREFIX",
    "checkpoint_entries",
    "load_plain",
    "plain_weights",
    "read_checkpoint_file",
    "verify_archive",
]

SCHEMA = 1
STATE_PREFIX = "model."
MAX_BYTES = 2**32
"""Largest size of a file that is read into memory; with optimizer state, a hundred million weights take 1.2e9 bytes."""
CHUNK_BYTES = 2**20
ZIP_MAGIC = b"PK\x03\x04"
DIRECTORY = 0x10
"""Attribute of MS-DOS for a folder, of which torch reads nothing, whatever follows."""


def checkpoint_entries(model: DensityModel, config: Mapping[str, Any], pbc: bool | None) -> dict[str, Any]:
    """Entries that turn a Lightning checkpoint (or any dict with a state_dict) into one of ours."""
    return {"schema": SCHEMA, "model": dict(config), "channels": list(model.channels), "pbc": pbc}


def read_checkpoint_file(file: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a checkpoint file, checked to be complete and one of ours.

    Raises:
        ValueError: if the file is damaged, holds pickled objects, or is of another kind or schema.
    """
    content = load_plain(file)
    if not isinstance(content, dict) or "schema" not in content:
        raise ValueError(f"{file}: not a deepdft checkpoint (no 'schema' entry)")
    if type(content["schema"]) is not int or content["schema"] != SCHEMA:
        raise ValueError(
            f"{file}: checkpoint schema {str(content['schema'])[:20]}, this version reads {SCHEMA}; update deepdft"
        )
    for name, kinds, expected in (
        ("model", dict, "the model's config"),
        ("state_dict", dict, "the weights by name"),
        ("pbc", bool | None, "true, false or null"),
        ("info", dict | None, "a mapping"),
        ("channels", list | None, "a list of names"),
    ):
        if not isinstance(content.setdefault(name, None), kinds):
            raise ValueError(f"{file}: damaged: {name} is {type(content[name]).__name__}, expected {expected}")
    content["info"] = content["info"] or {}
    return content


def plain_weights(state_dict: Mapping[Any, Any], file: str | os.PathLike[str], prefix: str = "") -> dict[str, Tensor]:
    """Weights whose names start with a prefix, which is removed.

    Raises:
        ValueError: if a name is no text, or a value not a plain tensor of numbers.
    """
    found = {}
    for name, value in state_dict.items():
        if not isinstance(name, str):
            raise ValueError(f"{file}: damaged: a weight is named {name!r}")
        if not name.startswith(prefix):
            continue
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise ValueError(f"{file}: the weights do not fit the model: {name} is not a plain array of numbers")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"{file}: damaged: {name} has more numbers than the file holds for it")
        found[name.removeprefix(prefix)] = value
    return found


def load_plain(file: str | os.PathLike[str]) -> Any:
    """The content of a file that torch saved, refused if it is damaged or holds more than tensors and plain values.

    Raises:
        ValueError: if it is.
    """
    has_checksums = verify_archive(file)
    try:
        with warnings.catch_warnings():  # warnings about pickle protocols of files that are refused anyway
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file}: refused, it holds more than tensors and plain values: {first_line(error)}"
        ) from error
    except Exception as error:  # whatever error the bytes of a foreign file cause in torch
        raise ValueError(f"{file}: damaged or not a checkpoint: {first_line(error)}") from error
    if not has_checksums:
        warnings.warn(
            f"{file}: in the format of torch before 1.6, which has no checksums: damage would go unnoticed",
            InputWarning,
            stacklevel=2,
        )
    return content


def verify_archive(file: str | os.PathLike[str]) -> bool:
    """Compare the records of a file that torch has saved with their checksums, which torch itself does not do.

    Returns:
        Whether there are checksums: the format of torch before 1.6 has none.

    Raises:
        ValueError: if a record is damaged, compressed (torch never does that, and a small file could become a large
            one), or the file is too large.
    """
    path = Path(file)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{file}: {size / 1e9:.1f} GB, a checkpoint has at most {MAX_BYTES / 1e9:.1f} GB")
    try:
        with path.open("rb") as stream:
            if stream.read(4) != ZIP_MAGIC:
                return False
            with zipfile.ZipFile(stream) as archive:
                _verify_records(archive, size)
                return True
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{file}: damaged or not a checkpoint: {first_line(error)}") from error


def _verify_records(archive: zipfile.ZipFile, size: int) -> None:
    records = archive.infolist()
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ValueError("its records are compressed, which torch never does")
    if any(record.external_attr & DIRECTORY for record in records):  # torch would take its memory as it finds it
        raise ValueError("one of its records is marked as a folder")
    if sum(record.file_size for record in records) > size:
        raise ValueError("its records have more bytes than the file")
    if len({record.filename for record in records}) != len(records):
        raise ValueError("a record is there twice")
    for record in records:
        with archive.open(record) as stream:  # the checksum is compared at the end of the record
            while stream.read(CHUNK_BYTES):
                pass


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type if it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
