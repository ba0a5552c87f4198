"""A resumed run keeps the settings it was started with, whatever the defaults have become since."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

__all__ = ["GROUPS", "with_stored_values"]

GROUPS = ("data", "model", "optimizer", "scheduler", "callbacks", "logger", "trainer")
"""Config groups of deepdft-train whose choice a resumed run keeps."""
_WHOLE = ("model", "data", "optimizer", "scheduler")
"""Groups that are restored as a whole: a key that a run lacks gets the default of its class, not of a config."""
_OF_PLACE = ("run_dir", "resume", "from", "init")
"""Keys that belong to the command, not to the run."""


def with_stored_values(
    cfg: DictConfig, stored: Mapping[str, Any], new: Iterable[str], *, choices_are_known: bool = True
) -> DictConfig:
    """The config of a resumed run: its own values, except those that the command changes now.

    A value that names another one, such as scheduler.total, follows it as before.

    Args:
        cfg: composed from the overrides of the run and the new ones, with today's defaults.
        stored: the run's resolved config.
        new: overrides that the run was not started with.
        choices_are_known: whether `cfg` has the groups that the run chose; of a run started in Python they are unknown,
            and every group is taken as it was stored.
    """
    changed = {override.partition("=")[0].lstrip("+~") for override in new}
    result = cfg.copy()
    whole = _WHOLE if choices_are_known else GROUPS
    with open_dict(result):
        for group in whole:
            if group not in changed and isinstance(stored.get(group), Mapping):
                result[group] = _whole(cfg, group, stored[group], changed, same_choice=choices_are_known)
        for key, value in _leaves(stored):
            if key.split(".")[0] in (*whole, *_OF_PLACE) or key.endswith("_target_") or _is_changed(key, changed):
                continue
            if _is_plain(cfg, key):
                OmegaConf.update(result, key, value)
    return result


def _is_plain(cfg: DictConfig, key: str) -> bool:
    """Whether a key exists today and is not an interpolation, which follows the value that it names."""
    above, _, last = key.rpartition(".")
    parent = OmegaConf.select(cfg, above) if above else cfg
    return isinstance(parent, DictConfig) and last in parent and not OmegaConf.is_interpolation(parent, last)


def _whole(
    cfg: DictConfig, group: str, stored: Mapping[str, Any], changed: Iterable[str], *, same_choice: bool
) -> DictConfig:
    """A group as it was stored, with the keys that are changed now.

    If today's config has the same choice, its references to other values are kept, and its class path (not a model's).
    """
    section = OmegaConf.create(dict(stored))
    today = OmegaConf.to_container(cfg[group], resolve=False) if group in cfg else {}
    assert isinstance(today, dict)
    keys = [key.removeprefix(f"{group}.") for key in changed if key.startswith(f"{group}.")]
    if same_choice or today.get("_target_") == stored.get("_target_"):
        keys += [str(key) for key in today if OmegaConf.is_interpolation(cfg[group], str(key))]
        if group != "model" and "_target_" in today:
            keys.append("_target_")
    for key in keys:
        value: Any = today
        for part in key.split("."):
            value = value[part]
        OmegaConf.update(section, key, value, force_add=True)
    return section


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; lists of plain values count as values, lists of objects are left out."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        elif not (isinstance(value, list) and any(isinstance(item, Mapping) for item in value)):
            yield f"{prefix}{key}", value


def _is_changed(key: str, changed: Iterable[str]) -> bool:
    """Whether this key, or a section above it, is among the changed ones."""
    return any(key == other or key.startswith(f"{other}.") for other in changed)
