"""deepdft: machine-learned electronic charge densities.

The names of `__all__` are the public interface; they are imported when first used, so that `import deepdft` is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepdft import metrics
    from deepdft.data.convert import convert
    from deepdft.data.store import Store
    from deepdft.density import DensityGrid
    from deepdft.inference.predictor import Predictor
    from deepdft.io import read_density, write_density
    from deepdft.runs.compose import compose
    from deepdft.runs.evaluate import Evaluation, evaluate
    from deepdft.runs.run import Run
    from deepdft.runs.train import train

    __version__: str

__all__ = [
    "DensityGrid",
    "Evaluation",
    "Predictor",
    "Run",
    "Store",
    "__version__",
    "compose",
    "convert",
    "evaluate",
    "metrics",
    "read_density",
    "train",
    "write_density",
]

_HOME = {
    "DensityGrid": "deepdft.density",
    "Evaluation": "deepdft.runs.evaluate",
    "Predictor": "deepdft.inference.predictor",
    "Run": "deepdft.runs.run",
    "Store": "deepdft.data.store",
    "compose": "deepdft.runs.compose",
    "convert": "deepdft.data.convert",
    "evaluate": "deepdft.runs.evaluate",
    "read_density": "deepdft.io",
    "train": "deepdft.runs.train",
    "write_density": "deepdft.io",
}
"""The module where each public name is defined."""


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return importlib.import_module("deepdft.metrics")
    if name == "__version__":
        return importlib.import_module("deepdft.version").version()
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'deepdft' has no attribute {name!r}")
