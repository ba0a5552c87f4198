"""Loops compiled by Numba."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import config
from numba.core.codegen import get_host_cpu_features
from numba.core.event import Event, Listener, install_listener

__all__ = ["announced", "compiled", "inlined", "reassociated"]

F = TypeVar("F", bound=Callable[..., Any])


def _use_whole_registers() -> None:
    """Let LLVM use whole AVX-512 registers; it uses half, for old processors that slowed down with whole ones.

    It has no effect where Numba has compiled something before deepdft is imported. NUMBA_CPU_FEATURES has precedence.
    """
    features = get_host_cpu_features()
    if config.CPU_FEATURES is None and "+avx512f" in features.split(","):
        config.CPU_FEATURES = features + ",-prefer-256-bit"


_use_whole_registers()

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


def compiled(kernel: F) -> F:
    """Compile a function at its first call and keep the result on disk if possible; it releases the GIL.

    What is kept is compiled again when any source changes that the kernel may use: those beside it, and the helpers of
    `deepdft.nn.fast`. Numba itself looks at the kernel's own file only.
    """
    return _compiled(kernel, OPTIONS)


def reassociated(kernel: F) -> F:
    """Like `compiled`, but sums may be reordered so that they use vector instructions."""
    return _compiled(kernel, OPTIONS | {"fastmath": {"contract", "reassoc"}})


def _compiled(kernel: F, options: dict[str, Any]) -> F:
    try:
        dispatcher = numba.njit(cache=True, **options)(kernel)
        index = dispatcher._cache._cache_file
        index._source_stamp = (index._source_stamp, _fingerprint(Path(kernel.__code__.co_filename).parent))
        return cast(F, dispatcher)
    except (
        RuntimeError,
        AttributeError,
        OSError,
    ):  # no folder is writable, or Numba is another version: nothing is kept
        return cast(F, numba.njit(**options)(kernel))


@cache
def _fingerprint(folder: Path) -> str:
    """Hash of the sources in a folder and of the helpers that all kernels share."""
    here = Path(__file__)
    sources = {*folder.glob("*.py"), *(here.parent / "nn" / "fast").glob("*.py"), here}
    digest = hashlib.sha256()
    for source in sorted(sources):
        digest.update(f"{source.name}\0".encode() + source.read_bytes() + b"\0")
    return digest.hexdigest()


def inlined(part: F) -> F:
    """Inline a function into compiled functions: a call with arrays would take 0.1 µs."""
    return cast(F, numba.njit(inline="always", **OPTIONS)(part))


class _First(Listener):
    """Calls a function before the first compilation; what is loaded from disk does not count."""

    def __init__(self, report: Callable[[], None]) -> None:
        self.report = report
        self.reported = False

    def on_start(self, event: Event) -> None:
        if not self.reported:
            self.reported = True
            self.report()

    def on_end(self, event: Event) -> None:
        """Nothing to do: the start was reported."""


@contextmanager
def announced(report: Callable[[], None]) -> Iterator[None]:
    """Call a function before the first compilation in this context, which takes several seconds."""
    with install_listener("numba:compile", _First(report)):
        yield
