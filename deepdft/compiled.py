"""Loops compiled by Numba."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import numba

__all__ = ["compiled"]

F = TypeVar("F", bound=Callable[..., Any])


def compiled(kernel: F) -> F:
    """Compiled at its first call, and kept on disk where there is a place to write to; it lets go of Python's lock."""
    compiler = partial(numba.njit, nogil=True, error_model="numpy", fastmath={"contract"})
    try:
        return cast(F, compiler(cache=True)(kernel))
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        return cast(F, compiler()(kernel))
