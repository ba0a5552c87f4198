"""The options of a command: keys that there are not are named, with the one that was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf

__all__ = ["no_such_option", "option_names", "refuse_other_kinds", "refuse_unknown"]


def option_names(config: Path) -> list[str]:
    """Keys and config groups of a command, from its YAML file."""
    content = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(config)))
    groups = [str(key) for entry in content.pop("defaults", []) if isinstance(entry, dict) for key in entry]
    return [*(key for key in groups if not key.startswith("override ")), *content]


def no_such_option(message: str, names: Iterable[str]) -> str | None:
    """What to say instead of Hydra's message about a key that there is not; None if that is not what it says."""
    found = re.search(r"Could not override '([^']+)'", message)
    return None if found is None else _no_such(found[1], names)


def refuse_unknown(cfg: DictConfig, added: Iterable[str], names: Iterable[str]) -> None:
    """Refuse keys that the command line adds and nothing reads.

    Args:
        cfg: the config, not resolved.
        added: overrides; of these, `+key=value` and `++key=value` add keys.
        names: of options and config groups.

    Raises:
        ValueError: if there is such a key.
    """
    if cfg.get("resume"):
        return  # a run keeps what it began with
    known, content = set(names), OmegaConf.to_yaml(cfg)
    for key in (override.partition("=")[0].lstrip("+") for override in added if override.startswith("+")):
        is_read = re.search(r"\$\{" + re.escape(key) + r"\b", content)
        if key in cfg and not (key in known or is_read or isinstance(cfg[key], DictConfig)):
            raise ValueError(_no_such(key, known))


def refuse_other_kinds(
    cfg: DictConfig, *, numbers: Iterable[str] = (), counts: Iterable[str] = (), lists: Iterable[str] = ()
) -> None:
    """Refuse values that are not what an option takes; null always goes.

    Args:
        cfg: the config.
        numbers: options that are numbers.
        counts: options that are whole numbers.
        lists: options that are lists.

    Raises:
        ValueError: if one is something else.
    """
    kinds: dict[str, tuple[type, ...]] = {"a number": (int, float), "a whole number": (int,), "a list": (ListConfig,)}
    for names, (kind, types) in zip((numbers, counts, lists), kinds.items(), strict=True):
        for name in names:
            value = cfg[name]
            if value is not None and (isinstance(value, bool) or not isinstance(value, types)):
                example = f", as {name}=[{value}]" if kind == "a list" else ""
                raise ValueError(f"{name}={value}: expected {kind}{example}")


def _no_such(key: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, sorted(names), n=1) if "." not in key else []
    meant = f"did you mean {near[0]}? " if near else ""
    return f"there is no option '{key}': {meant}--help explains them, --cfg job prints all with their values"
