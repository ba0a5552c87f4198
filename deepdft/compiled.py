"""Loops compiled by Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite import binding

__all__ = ["compiled", "inlined"]

F = TypeVar("F", bound=Callable[..., Any])


def _whole_registers() -> str | None:
    """Features of this processor for LLVM, if it has AVX-512.

    LLVM itself uses half of these registers, for old processors that slowed down with whole ones: a third more time.
    This has no effect where Numba has compiled something before deepdft is imported.
    """
    if not numba.config.ENABLE_AVX:  # type: ignore[attr-defined]
        return None
    try:
        features = binding.get_host_cpu_features()
    except RuntimeError:  # LLVM does not know this processor
        return None
    return features.flatten() + ",-prefer-256-bit" if features.get("avx512f") else None


if numba.config.CPU_FEATURES is None:  # type: ignore[attr-defined]  # NUMBA_CPU_FEATURES is not set
    numba.config.CPU_FEATURES = _whole_registers()  # type: ignore[attr-defined]

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


def compiled(kernel: F) -> F:
    """Compiled at its first call, and kept on disk where there is a place to write to; it lets go of Python's lock."""
    try:
        return cast(F, numba.njit(cache=True, **OPTIONS)(kernel))
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        return cast(F, numba.njit(**OPTIONS)(kernel))


def inlined(part: F) -> F:
    """A part of compiled functions, put into its place before they are compiled: a call with arrays takes 0.1 µs."""
    return cast(F, numba.njit(inline="always", **OPTIONS)(part))
