"""A check of HDF5's global heaps, where texts of any length are stored, before the library reads them.

A damaged heap can make the library of HDF5 (2.0 and earlier) go round in circles for ever: it walks from object to
object by their sizes, and a size of zero, or one so large that rounding it up overflows, leads nowhere.

Source: HDF5 File Format Specification 3.0, section III.E, Global Heap.
"""

from __future__ import annotations

__all__ = ["check_heaps"]

_SIGNATURE = b"GCOL"
_HEADER = 16
"""Bytes before the first object: signature, version, three reserved bytes, and the size of the heap in eight."""
_OBJECT = 16
"""Bytes before the data of an object: index (2), references (2), reserved (4) and size (8)."""


def check_heaps(data: bytes) -> None:
    """Check that the objects of every global heap in a file lie one behind the other.

    The signature may also occur among numbers of a dataset; what follows there is no heap, and refused only if it looks
    like one: with a version and a size that a heap has.

    Args:
        data: of the whole file, whose lengths have eight bytes, as h5py writes them.

    Raises:
        ValueError: if a heap is damaged.
    """
    start = data.find(_SIGNATURE)
    while start >= 0:
        _check_heap(data, start)
        start = data.find(_SIGNATURE, start + 1)


def _check_heap(data: bytes, start: int) -> None:
    end = start + int.from_bytes(data[start + 8 : start + 16], "little")
    if data[start + 4 : start + 8] != b"\x01\x00\x00\x00" or end > len(data):
        return  # which the library refuses by itself
    position = start + _HEADER
    while end - position >= _OBJECT:
        size = int.from_bytes(data[position + 8 : position + 16], "little")
        is_free_space = data[position : position + 2] == b"\x00\x00"
        step = size if is_free_space else _OBJECT + (size + 7) // 8 * 8  # free space counts its own header
        if step < _OBJECT or step > end - position:
            raise ValueError(f"damaged: an object of {size} bytes in a heap of {end - start} bytes")
        position += step
