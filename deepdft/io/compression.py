"""Compressed text by suffix: `.zz` (zlib), `.lz4` (frame) and `.gz`, in memory."""

from __future__ import annotations

import gzip
import zlib
from pathlib import PurePath

from deepdft.errors import DensityFormatError

__all__ = ["SUFFIXES", "compress", "decompress", "split_compression"]

SUFFIXES = (".zz", ".lz4", ".gz")
"""The suffixes of compressed files."""

_MAGIC = {b"\x1f\x8b": ".gz", b"\x04\x22\x4d\x18": ".lz4", b"\x78\x01": ".zz", b"\x78\x9c": ".zz", b"\x78\xda": ".zz"}


def split_compression(name: str) -> tuple[str, str]:
    """A file's name without its compression suffix, and the suffix ("" if it has none)."""
    suffix = PurePath(name).suffix.lower()
    return (name[: -len(suffix)], suffix) if suffix in SUFFIXES else (name, "")


def compress(data: bytes, suffix: str) -> bytes:
    """Compress as the suffix says; "" leaves the data as they are."""
    if suffix == ".zz":
        return zlib.compress(data, 6)
    if suffix == ".gz":
        return gzip.compress(data, 6, mtime=0)
    if suffix == ".lz4":
        import lz4.frame

        return bytes(lz4.frame.compress(data, content_checksum=True))
    return data


def decompress(data: bytes, name: str) -> bytes:
    """Decompress a file as its name says, or its first bytes where the name says nothing.

    Args:
        data: content of the file.
        name: of the file (and the archive), for its suffix and for errors.

    Raises:
        DensityFormatError: if the data are damaged, truncated, or followed by something else.
    """
    suffix = split_compression(name)[1]
    if not suffix:
        suffix = next((suffix for magic, suffix in _MAGIC.items() if data.startswith(magic)), "")
    try:
        return _decompress(data, suffix)
    except (zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        kind = {".zz": "zlib", ".gz": "gzip", ".lz4": "lz4 frame"}[suffix]
        raise DensityFormatError(f"{name}: not a whole {kind} file ({suffix}): {error}") from error


def _decompress(data: bytes, suffix: str) -> bytes:
    if suffix and not data:
        raise EOFError("it is empty")
    if suffix == ".zz":
        stream = zlib.decompressobj()
        text = stream.decompress(data)
        if not stream.eof:
            raise EOFError("the data end early")
        if stream.unused_data.strip(b"\0"):
            raise ValueError(f"{len(stream.unused_data)} bytes follow its end")
        return text
    if suffix == ".gz":
        return gzip.decompress(data)
    if suffix == ".lz4":
        return _lz4_frames(data)
    return data


def _lz4_frames(data: bytes) -> bytes:
    """All frames, one after another."""
    import lz4.frame

    parts = []
    while data:
        frame = lz4.frame.LZ4FrameDecompressor()
        parts.append(frame.decompress(data))
        if not frame.eof:
            raise EOFError("the data end early")
        data = frame.unused_data or b""
    return b"".join(parts)
