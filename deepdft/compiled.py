"""Loops compiled by Numba."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numba
from numba.core import config
from numba.core.codegen import get_host_cpu_features
from numba.core.event import Event, Listener, install_listener

__all__ = ["announced", "compiled", "inlined", "reassociated"]

F = TypeVar("F", bound=Callable[..., Any])


def _use_whole_registers() -> None:
    """LLVM uses half of AVX-512's registers, for old processors that slowed down with whole ones: a third more time.

    It has no effect where Numba has compiled something before deepdft is imported. NUMBA_CPU_FEATURES has precedence.
    """
    features = get_host_cpu_features()
    if config.CPU_FEATURES is None and "+avx512f" in features.split(","):
        config.CPU_FEATURES = features + ",-prefer-256-bit"


_use_whole_registers()

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


def compiled(kernel: F) -> F:
    """Compiled at its first call, and kept on disk where there is a place to write to; it lets go of Python's lock."""
    return _compiled(kernel, OPTIONS)


def reassociated(kernel: F) -> F:
    """`compiled`, and sums over numbers may be made in another order: by vector instructions."""
    return _compiled(kernel, OPTIONS | {"fastmath": {"contract", "reassoc"}})


def _compiled(kernel: F, options: dict[str, Any]) -> F:
    try:
        return cast(F, numba.njit(cache=True, **options)(kernel))
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        return cast(F, numba.njit(**options)(kernel))


def inlined(part: F) -> F:
    """A part of compiled functions, put into its place before they are compiled: a call with arrays takes 0.1 µs."""
    return cast(F, numba.njit(inline="always", **OPTIONS)(part))


class _First(Listener):
    """Calls a function when something is compiled for the first time; what comes from the disk does not count."""

    def __init__(self, say: Callable[[], None]) -> None:
        self.say = say
        self.said = False

    def on_start(self, event: Event) -> None:
        if not self.said:
            self.said = True
            self.say()

    def on_end(self, event: Event) -> None:
        """It is said before."""


@contextmanager
def announced(say: Callable[[], None]) -> Iterator[None]:
    """Call a function before the first compilation in this context: it takes some seconds, which need a reason."""
    with install_listener("numba:compile", _First(say)):
        yield
