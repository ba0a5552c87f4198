"""Rewrites arguments that Hydra's grammar would refuse: SMILES, paths, lists with `=`, and bare paths."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

__all__ = ["positional_list", "quote_list", "quote_structures", "quote_texts"]

MULTIRUN = ("-m", "--multirun", "hydra.mode=MULTIRUN")
"""With one of these, commas separate the choices of a sweep."""

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
"""Flags of Hydra that take the next argument as their value."""


def quote_list(argument: str, key: str) -> str:
    """Quote the items of `key=[A=x,B=y]`, giving `key=['A=x','B=y']`; other arguments stay as they are.

    Items that hold quotes already are left to the user.
    """
    match = re.fullmatch(rf"(\+{{0,2}}{re.escape(key)})=\[([^'\"]*)\]", argument)
    if match is None:
        return argument
    return f"{match[1]}={_quoted([item.strip() for item in match[2].split(',') if item.strip()])}"


def quote_structures(argument: str, key: str) -> str:
    """Quote the items of `key=[CCO,C(=O)O]`; a SMILES that starts with a bracket, as [OH-], is not a list."""
    prefixed, _, text = argument.partition("=")
    if prefixed.lstrip("+") != key or not (_is_list(text) and "," in text) or set("'\"") & set(text):
        return argument
    return quote_list(argument, key)


def quote_texts(arguments: Sequence[str], *keys: str, lists: Sequence[str] = ()) -> list[str]:
    """Quote `key=CC(=O)O` as `key='CC(=O)O'`, wherever Hydra would take the value for anything but this text.

    A `~` in front of a path is the home folder.

    Args:
        arguments: of the command.
        keys: options that are one text, such as a path or a SMILES.
        lists: options that are one text or a list of such.
    """
    is_sweep = any(argument in MULTIRUN for argument in arguments)
    return [_quote_text(argument, keys, lists, is_sweep=is_sweep) for argument in arguments]


def _quote_text(argument: str, keys: Sequence[str], lists: Sequence[str], *, is_sweep: bool) -> str:
    prefixed, _, text = argument.partition("=")
    key = prefixed.lstrip("+")
    if key in (*keys, *lists) and text.startswith("~/"):
        argument, text = f"{prefixed}={os.path.expanduser(text)}", os.path.expanduser(text)
    of_the_user = text.startswith(("'", '"', "['", '["')) or "${" in text or (key in lists and _is_list(text))
    if key not in (*keys, *lists) or of_the_user or _is_understood(text, is_sweep=is_sweep):
        return argument
    return f"{prefixed}={_quote(text)}"


def _is_understood(text: str, *, is_sweep: bool) -> bool:
    """Whether Hydra takes a value for this text, for null, or for the choices of a sweep."""
    if is_sweep and "," in text:
        return True
    try:
        override = OverridesParser.create().parse_override(f"key={text}")
    except HydraException:
        return False
    return is_sweep if override.is_sweep_override() else override.value() in (text, None)


def _is_list(text: str) -> bool:
    """Whether a bracket that opens at the start closes at the end, unlike in [Na+].[Cl-], or not at all."""
    depths = list(accumulate((character == "[") - (character == "]") for character in text))
    return text.startswith("[") and 0 not in depths[:-1]


def positional_list(arguments: Sequence[str], key: str) -> list[str]:
    """Gather bare arguments, `a b/c`, into `key=['a','b/c']`; flags and overrides stay.

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
    """A list of any strings in Hydra's grammar."""
    return "[" + ",".join(map(_quote, items)) + "]"


def _quote(text: str) -> str:
    """Any string in Hydra's grammar, in which a backslash is special only before a quote."""
    doubled = re.sub(r"(\\+)(?='|\Z)", r"\1\1", text)
    return "'" + doubled.replace("'", "\\'") + "'"
