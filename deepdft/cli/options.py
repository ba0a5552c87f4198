"""The options of a command: help, and errors for unknown keys that suggest the intended one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

__all__ = [
    "help_text",
    "no_such_choice",
    "no_such_option",
    "option_names",
    "refuse_null",
    "refuse_other_kinds",
    "refuse_unknown",
]

NEAR = 0.75
"""Similarity (difflib's ratio) above which a name is suggested: split for spilt, but not trusted for structure."""

OF_HYDRA = re.compile(r"^(?:defaults|hydra):.*\n(?:[ \t].*\n|\n)*", re.MULTILINE)
"""Sections of a command's YAML file that are not options."""

GROUP = re.compile(r"^  - (?!hydra\b)(\w+): (\w+)(?: # (.*))?$", re.MULTILINE)
"""A config group among the defaults of a command: its name, the choice, a comment."""


FORMER = "# the former name of"
"""Beginning of the file of a choice that still works, but is no longer offered."""

SEARCHED = re.compile(r"file://([^\s,'\"\]]+)")
"""A folder in hydra.searchpath."""


def option_names(config: Path) -> list[str]:
    """Keys and config groups of a command, from its YAML file."""
    content = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(config)))
    groups = [str(key) for entry in content.pop("defaults", []) if isinstance(entry, dict) for key in entry]
    return [*(key for key in groups if not key.startswith("override ")), *content]


def explained_options(config: Path) -> str:
    """Keys of a command with their comments, as its YAML file has them; its first line, a title, is left out."""
    _, _, content = config.read_text(encoding="utf-8").partition("\n")
    return OF_HYDRA.sub("", content).strip()


def help_text(command: str, folder: Path, arguments: Iterable[str] = ()) -> str:
    """Text of --help: the template of a command with its groups and options, as its YAML file explains them.

    Args:
        command: name of the YAML file, without suffix.
        folder: of the configs.
        arguments: of the command; `hydra.searchpath=[file://DIR]` and --config-dir DIR add the choices of a folder.
    """
    given = list(arguments)
    searched = [Path(path) for argument in given if "searchpath" in argument for path in SEARCHED.findall(argument)]
    searched += [Path(path) for flag, path in pairwise(given) if flag in ("--config-dir", "-cd")]
    config, of_hydra = folder / f"{command}.yaml", folder / "hydra" / f"{command}.yaml"
    content: Any = OmegaConf.to_container(OmegaConf.load(of_hydra if of_hydra.is_file() else config))
    template = str(content.get("hydra", content)["help"]["template"])
    return template.replace("$GROUPS", explained_groups(config, searched)).replace(
        "$OPTIONS", explained_options(config)
    )


def explained_groups(config: Path, searched: Iterable[Path] = ()) -> str:
    """Config groups of a command, one line each: the default, the other choices, and the comment in its YAML file."""

    def choices(group: str) -> list[str]:
        folders = (config.parent, *searched)
        files = [file for folder in folders for file in (folder / group).glob("*.yaml")]
        return sorted({file.stem for file in files if not file.read_text(encoding="utf-8").startswith(FORMER)})

    lines = []
    for name, chosen, comment in GROUP.findall(config.read_text(encoding="utf-8")):
        others = ", ".join(choice for choice in choices(name) if choice != chosen)
        lines.append(f"{name}={chosen}, or {others}" + (f" # {comment}" if comment else ""))
    return "\n".join(lines)


def no_such_option(error: Exception, names: Iterable[str]) -> str | None:
    """Replacement for Hydra's error about an unknown key; None for other errors.

    Args:
        error: of Hydra, caused by OmegaConf's about the same.
        names: of the options and config groups of the command.
    """
    found = re.search(r"Could not override '([^']+)'", str(error))
    if found is None:
        return None
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException) and isinstance(cause.parent_node, DictConfig):
        group = str(cause.full_key).removesuffix(str(cause.key)).rstrip(".")
        return _no_such(found[1], map(str, cause.parent_node) if group else names, group)
    return _no_such(found[1], names)


def no_such_choice(error: Exception) -> str | None:
    """Replacement for Hydra's error about an unknown choice of a config group; None for other errors."""
    found = re.search(
        r"Could not find '([^']+)/([^'/]+)'\s+Available options in '[^']+':\s+(.*?)(?:\s+Config search path|\Z)",
        str(error),
        re.DOTALL,
    )
    if found is None:
        return None
    group, wrong, listed = found[1], found[2], found[3].split()
    near = difflib.get_close_matches(wrong, listed, n=1)
    meant = f"did you mean {group}={near[0]}? " if near else ""
    return f"there is no {group}={wrong}: {meant}expected one of {', '.join(listed)}"


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
        return  # a run keeps its own keys
    known, content = set(names), OmegaConf.to_yaml(cfg)
    for key in (override.partition("=")[0].lstrip("+") for override in added if override.startswith("+")):
        is_read = re.search(r"\$\{" + re.escape(key) + r"\b", content)
        if key in cfg and not (key in known or is_read or isinstance(cfg[key], DictConfig)):
            raise ValueError(_no_such(key, known))


def refuse_null(cfg: DictConfig, config: Path) -> None:
    """Refuse null for options that are required, or are lists, in the command's YAML file.

    Args:
        cfg: the config, not resolved.
        config: the YAML file.

    Raises:
        ValueError: if one is null.
    """
    content = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(config)))
    required = [key for key, value in content.items() if value == "???"]
    for key in required:
        if _is_null(cfg, key):
            raise ValueError(f"{key}=null: it is required; --help shows what it means")
    for key, value in content.items():
        if isinstance(value, list) and _is_null(cfg, key):
            raise ValueError(f"{key}=null: expected a list, as {key}=[{','.join(map(str, value))}]")


def refuse_other_kinds(
    cfg: DictConfig, *, numbers: Iterable[str] = (), counts: Iterable[str] = (), lists: Iterable[str] = ()
) -> None:
    """Refuse values of the wrong type; null is always accepted.

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


def _is_null(cfg: DictConfig, key: str) -> bool:
    """Whether a key exists and its value is null."""
    *groups, last = key.split(".")
    node: Any = cfg
    for name in groups:
        node = node.get(name) or {}
    return last in node and not OmegaConf.is_missing(node, last) and node[last] is None


def _no_such(key: str, names: Iterable[str], group: str = "") -> str:
    """Message about an unknown key; `names` are the known ones below `group` (or at the top, if it is empty)."""
    above = f"{group}." if group else ""
    wrong, dot, below = key.removeprefix(above).partition(".")
    near = difflib.get_close_matches(wrong, sorted({*names} - {wrong}), n=1, cutoff=NEAR)
    meant = f"did you mean {above}{near[0]}{dot}{below}? " if near else ""
    return f"there is no option '{key}': {meant}--help explains them, --cfg job prints all with their values"
