"""`resume=RUN_DIR`: go on in place with the run's own overrides, and refuse changes that would not be the same run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from deepdft.runs.directory import named_folder
from deepdft.runs.provenance import write_text
from deepdft.training.resumable import moved

__all__ = [
    "changed_keys",
    "checkpoint_to_resume",
    "keep_overrides",
    "refuse_changes",
    "refuse_other_data",
    "stored_config",
    "summary_if_finished",
    "with_stored_overrides",
]

_FIXED = ("data", "model", "optimizer", "loss", "seed", "init")
"""Sections a resumed run must not change: the split, the draws, the weights or the optimizer's state hang on them."""

_FREE = ("data.root", "data.split", "data.num_workers", "optimizer.fused")
"""Keys in those sections that change nothing (but the last digits), or whose contents are compared."""

OVERRIDES = Path(".hydra", "overrides.yaml")
"""In a run directory, as Hydra writes it."""
_ENDING = ("trainer", "callbacks")
"""Sections that say when a run ends."""


def with_stored_overrides(arguments: Sequence[str]) -> list[str]:
    """Command line arguments with the overrides of the run that `resume=` names put before the new ones.

    Hydra is told to leave what the run says of itself alone: a change that is refused must not become part of it.

    Raises:
        FileNotFoundError: if `resume=` names no run directory.
    """
    run_dir = named_folder(arguments, "resume")
    if run_dir is None:
        return list(arguments)
    stored = run_dir / OVERRIDES
    if not stored.is_file():
        raise FileNotFoundError(f"resume={run_dir}: not a run directory of deepdft-train (no {stored})")
    hydra = OmegaConf.load(stored.with_name("hydra.yaml")).hydra.overrides.hydra
    kept = [*(o for o in map(str, hydra) if o.startswith("hydra.searchpath")), *map(str, OmegaConf.load(stored))]
    overrides = {_key(override): override for override in kept}
    new = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    others = [argument for argument in arguments if argument not in new]
    given = overrides | {_key(argument): argument for argument in [*new, "hydra.output_subdir=null"]}
    return [*others, *given.values()]


def keep_overrides(run_dir: Path, overrides: Sequence[str]) -> None:
    """Make the overrides of a resumed run those that the next `resume=` begins with."""
    write_text(run_dir / OVERRIDES, OmegaConf.to_yaml(OmegaConf.create(list(overrides))))


def _key(override: str) -> str:
    """The part of an override that is set: a later one of the same key replaces an earlier one."""
    return override.partition("=")[0].lstrip("+")


def stored_config(run_dir: Path) -> dict[str, Any] | None:
    """The resolved config of a run, as if it had always lain where it does; None if it ended before it wrote one."""
    file = run_dir / "config.yaml"
    if not file.is_file():
        return None
    config = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(file)))
    return cast(dict[str, Any], moved(config, config["run_dir"], str(run_dir)))


def summary_if_finished(run_dir: Path, stored: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any] | None:
    """The summary of a run that came to its end, unless the settings of the trainer or of a callback have changed."""
    file = run_dir / "summary.json"
    if not file.is_file() or any(key.split(".")[0] in _ENDING for key, _, _ in changed_keys(stored, now)):
        return None
    return json.loads(file.read_text())


def refuse_changes(stored: Mapping[str, Any], now: Mapping[str, Any], run_dir: Path) -> None:
    """Compare two resolved configs.

    Raises:
        ValueError: if a key that a resumed run must keep has another value now. A run that was begun before there was
            a key had what it switches on switched off.
    """
    changes = [
        (key, before, after)
        for key, before, after in changed_keys(stored, now)
        if key.split(".")[0] in _FIXED and key not in _FREE and not (before is None and after is False)
    ]
    if changes:
        said = "; ".join(f"{key}: {before!r} → {after!r}" for key, before, after in changes)
        kept = " ".join(f"{key}={'null' if before is None else before}" for key, before, _ in changes)
        raise ValueError(
            f"resume={run_dir}: {said}. A resumed run keeps {', '.join(_FIXED)}: resume it with {kept}, or start a new "
            "run, with init=RUN_DIR if it is to begin from these weights"
        )


def refuse_other_data(run_dir: Path, fingerprint: str, split: Mapping[str, Sequence[str]]) -> None:
    """Compare the data with those that a run began with.

    Args:
        run_dir: of the run.
        fingerprint: of the store now.
        split: names of the structures in its parts now.

    Raises:
        ValueError: if the store or the split is another one.
    """
    of_run = [run_dir / name for name in ("run.json", "split.json")]
    if not all(file.is_file() for file in of_run):
        return
    run, before = (json.loads(file.read_text()) for file in of_run)
    if run["data"]["fingerprint"] != fingerprint:
        raise ValueError(f"resume={run_dir}: data.root holds other data than this run began with; start a new run")
    for part, names in split.items():
        if list(names) != before[part]:
            raise ValueError(
                f"resume={run_dir}: its {len(before[part])} {part} structures are not those of the split as it is now "
                f"({len(names)}); restore the split from {run_dir / 'split.json'}, or start a new run"
            )


def changed_keys(stored: Any, now: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted keys that differ between two nested configs, with both values (None where absent)."""
    if isinstance(stored, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*stored, *now]):
            yield from changed_keys(stored.get(key), now.get(key), f"{prefix}.{key}" if prefix else str(key))
    elif stored != now:
        yield prefix, stored, now


def checkpoint_to_resume(run_dir: Path) -> Path | None:
    """The state a run left; None if it ended before its first checkpoint and begins anew."""
    last = run_dir / "checkpoints" / "last.ckpt"
    return last if last.is_file() else None
