"""deepdft: machine-learned electronic charge densities.

The names of `__all__` are the public interface; they are imported when first used, so that `import deepdft` is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepdft import metrics
    from deepdft.data.store import DensityStore as Store
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
    "Store": "deepdft.data.store:DensityStore",
    "compose": "deepdft.runs.compose",
    "evaluate": "deepdft.runs.evaluate",
    "read_density": "deepdft.io",
    "train": "deepdft.runs.train",
    "write_density": "deepdft.io",
}
"""Where each public name is defined: its module, and what it is called there if that is another name."""


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return importlib.import_module("deepdft.metrics")
    if name == "__version__":
        return importlib.import_module("deepdft.version").version()
    if name in _HOME:
        module, _, other = _HOME[name].partition(":")
        value = getattr(importlib.import_module(module), other or name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'deepdft' has no attribute {name!r}")
