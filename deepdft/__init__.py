"""deepdft: machine-learned electronic charge densities.

The names of `__all__` are the public interface; they are imported when first used, so that `import deepdft` is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepdft import metrics
    from deepdft.density import DensityGrid
    from deepdft.inference.predictor import Predictor
    from deepdft.io import read_density, write_density

__all__ = ["DensityGrid", "Predictor", "metrics", "read_density", "write_density"]

_HOME = {
    "DensityGrid": "deepdft.density",
    "Predictor": "deepdft.inference.predictor",
    "read_density": "deepdft.io",
    "write_density": "deepdft.io",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return importlib.import_module("deepdft.metrics")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'deepdft' has no attribute {name!r}")
