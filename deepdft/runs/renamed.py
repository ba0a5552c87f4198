"""Settings of a training under the names that they had in the version before: they work, with a warning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from deepdft.errors import RenamedWarning

__all__ = ["RENAMED", "rename_arguments", "rename_keys", "rename_stored"]

RENAMED = {"data.density_share": "data.importance_fraction", "model.max_order": "model.l_max"}
"""Dotted keys of the version before, with their names now; those of `model` belong to the models of this package."""


def rename_arguments(arguments: Sequence[str], *, warn: bool = True) -> list[str]:
    """Command line arguments, with the keys that have been renamed under their names now.

    Args:
        arguments: overrides such as "data.density_share=0.5", and flags.
        warn: whether to warn of each renamed key; the record of an old run needs no warning.
    """
    parts = [argument.partition("=") for argument in arguments]
    own_model = any(key.lstrip("+") == "model._target_" for key, _, _ in parts)
    renamed = []
    for key, equals, value in parts:
        old = key.lstrip("+~")
        current = old if own_model and old.startswith("model.") else RENAMED.get(old, old)
        if warn and current != old:
            _warn(old)
        renamed.append(key.removesuffix(old) + current + equals + value)
    return renamed


def rename_keys(config: DictConfig, *, warn: bool = True) -> DictConfig:
    """A config with the values of renamed keys, which a user's own YAML file may hold, under the names now."""
    result = config.copy()
    for old, now in RENAMED.items():
        section, _, key = old.partition(".")
        values = result.get(section)
        if not isinstance(values, DictConfig) or key not in values:
            continue
        if section == "model" and not str(values.get("_target_")).startswith("deepdft."):
            continue
        if warn:
            _warn(old)
        with open_dict(values):
            OmegaConf.update(result, now, values.pop(key), force_add=True)
    return result


def rename_stored(config: Mapping[str, Any]) -> dict[str, Any]:
    """The plain config of an old run, with the keys that have been renamed under their names now."""
    renamed: Any = OmegaConf.to_container(rename_keys(OmegaConf.create(dict(config)), warn=False))
    return dict(renamed)


def _warn(old: str) -> None:
    text = f"{old}= is now {RENAMED[old]}=; the old name will be removed in the next version"
    warnings.warn(text, RenamedWarning, stacklevel=3)
