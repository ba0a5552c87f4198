"""The options of a command: keys that there are not are named, with the one that was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

__all__ = ["no_such_option", "option_names", "refuse_unknown"]


def option_names(config: Path) -> list[str]:
    """Keys and config groups of a command, from its YAML file."""
    content = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(config)))
    groups = [str(key) for entry in content.pop("defaults", []) if isinstance(entry, dict) for key in entry]
    return [*(key for key in groups if not key.startswith("override ")), *content]


def no_such_option(message: str, names: Iterable[str]) -> str | None:
    """What to say instead of Hydra's message about a key that there is not; None if that is not what it says."""
    found = re.search(r"Could not override '([^']+)'", message)
    return None if found is None else _no_such(found[1], names)


def refuse_unknown(cfg: DictConfig, names: Iterable[str]) -> None:
    """Refuse top-level keys that no part of the command reads: `+key=value` adds any.

    Raises:
        ValueError: if there is one.
    """
    known = {*names, "hydra"}
    for key in map(str, cfg):
        if key not in known:
            raise ValueError(_no_such(key, known))


def _no_such(key: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, sorted(names), n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"there is no option '{key}': {meant}--help explains them, --cfg job prints all with their values"
