"""The command of the package that is running, if it is one: what Hydra knows of it.

Hydra keeps the config of its command for the whole process, also after it has ended, and that of a user's own Hydra
program that calls `deepdft.train`. Neither is a command of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from hydra.types import RunMode

__all__ = ["command", "running_command", "sweep"]

_COMMAND: ContextVar[Any] = ContextVar("command", default=None)


@contextmanager
def running_command(hydra: Any) -> Iterator[None]:
    """Run the task of a command.

    Args:
        hydra: Hydra's own config of the command.
    """
    token = _COMMAND.set(hydra)
    try:
        yield
    finally:
        _COMMAND.reset(token)


def command() -> Any:
    """Hydra's own config of the running command; None in Python."""
    return _COMMAND.get()


def sweep() -> Any:
    """The same if the command is one job of a sweep, else None."""
    hydra = _COMMAND.get()
    return hydra if hydra is not None and hydra.mode == RunMode.MULTIRUN else None
