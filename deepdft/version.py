"""The version of the package."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

__all__ = ["DISTRIBUTION", "version"]

DISTRIBUTION = "deepdft-lightning"
"""Name that pip knows this package by; `deepdft` on PyPI is another project."""


def version() -> str:
    """The installed version; in a checkout that is not installed, the one in its pyproject.toml."""
    file = Path(__file__).parents[1] / "pyproject.toml"
    if file.is_file():
        project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
        if project.get("name") == DISTRIBUTION:
            return str(project["version"])
    return importlib.metadata.version(DISTRIBUTION)
