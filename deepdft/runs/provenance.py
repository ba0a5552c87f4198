"""Provenance of results: versions, git state, command line."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import deepdft
from deepdft.version import version

__all__ = ["command_line", "git_state", "versions"]

_PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "numpy", "ase", "h5py", "vesin")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "deepdft": version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed (run from a checkout)"
    return found


def git_state() -> dict[str, Any] | None:
    """Commit of the checkout that the package runs from, and its changed files; None for an installed package."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(deepdft.__file__).parents[1]), *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    if not (Path(deepdft.__file__).parents[1] / ".git").exists():
        return None
    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "changed_files": git("status", "--porcelain").splitlines(),
        }
    except (OSError, subprocess.CalledProcessError):
        return None


def command_line() -> list[str]:
    """The command line of this process."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]
