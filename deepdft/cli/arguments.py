"""Arguments that Hydra's grammar would refuse, put into its words: SMILES, lists with `=` in them, and bare paths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

__all__ = ["positional_list", "quote_list", "quote_smiles"]

TAKES_A_VALUE = {
    "--cfg",
    "-c",
    "--package",
    "-p",
    "--config-path",
    "-cp",
    "--config-name",
    "-cn",
    "--config-dir",
    "-cd",
}
"""Flags of Hydra whose next argument belongs to them."""


def quote_list(argument: str, key: str) -> str:
    """`key=[A=x,B=y]` with its items quoted, `key=['A=x','B=y']`; other arguments as they are.

    Items that hold quotes already are left to the user.
    """
    match = re.fullmatch(rf"(\+{{0,2}}{re.escape(key)})=\[([^'\"]*)\]", argument)
    if match is None:
        return argument
    return f"{match[1]}={_quoted([item.strip() for item in match[2].split(',') if item.strip()])}"


def quote_smiles(argument: str, key: str) -> str:
    """`key=CC(=O)O` with its value quoted, `key='CC(=O)O'`; lists, sweeps and what has quotes already as they are."""
    match = re.fullmatch(rf"({re.escape(key)})=([^'\",$]*[=(\[#][^'\",$]*)", argument)
    if match is None or re.match(r"\[[^][]*\]$|[a-z]{3,}\(", match[2]):
        return argument
    return f"{match[1]}='{match[2]}'"


def positional_list(arguments: Sequence[str], key: str) -> list[str]:
    """Arguments with the bare ones, `a b/c`, gathered into `key=['a','b/c']`; flags and overrides stay.

    A path that exists is bare even where there is `=` in it, as in the folders of sweeps.
    """
    bare: list[str] = []
    rest: list[str] = []
    for i, argument in enumerate(arguments):
        of_hydra = argument.startswith(("-", "+", "~")) or (i > 0 and arguments[i - 1] in TAKES_A_VALUE)
        is_bare = not of_hydra and ("=" not in argument or Path(argument).exists())
        (bare if is_bare else rest).append(argument)
    return [*rest, f"{key}={_quoted(bare)}"] if bare else rest


def _quoted(items: Sequence[str]) -> str:
    """A list in Hydra's grammar of any strings."""
    escaped = [item.replace("'", "\\'") for item in items]
    return "[" + ",".join(f"'{item}'" for item in escaped) + "]"
