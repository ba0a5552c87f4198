"""Compressed text by suffix: `.zz` (zlib), `.lz4` (frame), `.gz`, `.bz2`, `.xz` and `.zst`, in memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from deepdft.errors import DensityFormatError

__all__ = ["MAX_EXPANSION", "SUFFIXES", "compress", "decompress", "split_compression"]

SUFFIXES = (".zz", ".lz4", ".gz", ".bz2", ".xz", ".zst")
"""The suffixes of compressed files."""
MAX_EXPANSION = 500
"""Largest ratio of text to its compressed form; for a density it is 2 to 5."""
_FREE_EXPANSION = 1 << 26
"""Size in bytes below which any ratio is allowed."""

_KINDS = {
    ".zz": "zlib",
    ".gz": "gzip",
    ".lz4": "lz4 frame",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".zst": "zstandard",
}
_MAGIC = {
    b"\x1f\x8b": ".gz",
    b"\x04\x22\x4d\x18": ".lz4",
    b"\x78\x01": ".zz",
    b"\x78\x9c": ".zz",
    b"\x78\xda": ".zz",
    b"BZh": ".bz2",
    b"\xfd7zXZ\x00": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
}
_UNIX_COMPRESS = b"\x1f\x9d"


def split_compression(name: str) -> tuple[str, str]:
    """A file's name without its compression suffix, and the suffix ("" if it has none)."""
    suffix = PurePath(name).suffix.lower()
    return (name[: -len(suffix)], suffix) if suffix in SUFFIXES else (name, "")


def compress(data: bytes, suffix: str) -> bytes:
    """Compress as the suffix says; "" leaves the data as they are."""
    if not suffix:
        return data
    if suffix == ".lz4":
        import lz4.frame

        return bytes(lz4.frame.compress(data, content_checksum=True))
    if suffix == ".zst":
        import zstandard

        return zstandard.ZstdCompressor(write_checksum=True).compress(data)
    compressors: dict[str, Callable[[bytes], bytes]] = {
        ".zz": lambda text: zlib.compress(text, 6),
        ".gz": lambda text: gzip.compress(text, 6, mtime=0),
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
    }
    return compressors[suffix](data)


def decompress(data: bytes, name: str) -> bytes:
    """Decompress a file according to its name, or to its first bytes if the name does not tell.

    Args:
        data: content of the file.
        name: of the file (and the archive), for its suffix and for errors.

    Raises:
        DensityFormatError: if the data are damaged, truncated, followed by something else, or expand to more than
            `MAX_EXPANSION` times their size.
    """
    suffix = split_compression(name)[1]
    if not suffix:
        suffix = next((suffix for magic, suffix in _MAGIC.items() if data.startswith(magic)), "")
    if not suffix:
        if data.startswith(_UNIX_COMPRESS):
            raise DensityFormatError(f"{name}: compressed by Unix compress (.Z), which is not read: use gzip -d first")
        return data
    try:
        return _decompress(data, suffix, max(_FREE_EXPANSION, MAX_EXPANSION * len(data)))
    except (zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError) as error:
        raise DensityFormatError(f"{name}: not a whole {_KINDS[suffix]} file ({suffix}): {error}") from error


def _decompressor(suffix: str) -> Any:
    """An object with `decompress(data, max_length)`, `eof` and `unused_data`, for one stream."""
    if suffix == ".lz4":
        import lz4.frame

        return lz4.frame.LZ4FrameDecompressor()
    makers: dict[str, Callable[[], Any]] = {
        ".zz": zlib.decompressobj,
        ".gz": lambda: zlib.decompressobj(wbits=31),
        ".bz2": bz2.BZ2Decompressor,
        ".xz": lambda: lzma.LZMADecompressor(memlimit=1 << 28),
    }
    return makers[suffix]()


def _decompress(data: bytes, suffix: str, limit: int) -> bytes:
    """All streams of a file, one after another; zeros, with which tapes and archives are padded, may follow."""
    if not data:
        raise EOFError("it is empty")
    parts: list[bytes] = []
    size = 0
    while data:
        part, data = _stream(data, suffix, limit - size)
        parts.append(part)
        size += len(part)
        data = data if data.strip(b"\0") else b""
        if data and suffix == ".zz":
            raise ValueError(f"{len(data)} bytes follow its end")
    return b"".join(parts)


def _stream(data: bytes, suffix: str, limit: int) -> tuple[bytes, bytes]:
    """The first stream of some data, and the bytes that follow it."""
    if suffix == ".zst":
        return _zstandard_frame(data, limit)
    decompressor = _decompressor(suffix)
    part = decompressor.decompress(data, limit + 1)
    if len(part) > limit:
        raise ValueError(_too_large(limit))
    if not decompressor.eof:
        raise EOFError("the data end early")
    return part, decompressor.unused_data or b""


def _zstandard_frame(data: bytes, limit: int) -> tuple[bytes, bytes]:
    import zstandard

    try:
        size = zstandard.frame_content_size(data)
        if size > limit:
            raise ValueError(_too_large(limit))
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        parts, total = [], 0
        for start in range(0, len(data), 1 << 16):
            part = decompressor.decompress(data[start : start + (1 << 16)])
            parts.append(part)
            total += len(part)
            if total > limit:
                raise ValueError(_too_large(limit))
            if decompressor.eof:
                return b"".join(parts), decompressor.unused_data + data[start + (1 << 16) :]
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    raise EOFError("the data end early")


def _too_large(limit: int) -> str:
    return f"it expands to more than {limit >> 20} MiB, which no text of numbers does; decompress it to read it anyway"
