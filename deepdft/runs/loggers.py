"""The loggers of a run; some need libraries that are extras."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from hydra.utils import instantiate

__all__ = ["make_loggers"]

LIBRARIES = ("tensorboard", "mlflow")
"""Libraries that are extras; the extra, and the option of the group `logger`, have the same name."""


def make_loggers(configs: Mapping[str, Any]) -> list[Any]:
    """Make the loggers of the group `logger`, without those that are null.

    Raises:
        ValueError: if the library of one is not installed.
    """
    chosen = {name: config for name, config in configs.items() if config is not None}
    for name in chosen:
        if name in LIBRARIES and find_spec(name) is None:
            raise ValueError(f"logger={name} needs the library {name}: pip install 'deepdft-lightning[{name}]'")
    return [instantiate(config) for config in chosen.values()]
