"""Data that comes with the package: small density stores, ready to read."""

from __future__ import annotations

from pathlib import Path

__all__ = ["names", "path"]

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """What there is."""
    return sorted(index.parent.name for index in _FOLDER.glob("*/index.json"))


def path(name: str) -> Path:
    """Folder of a bundled store.

    Raises:
        FileNotFoundError: if there is none of that name.
    """
    folder = _FOLDER / name
    if name not in names():
        raise FileNotFoundError(f"{folder}: no such bundled data; expected one of {', '.join(names()) or 'none'}")
    return folder
