"""`resume=RUN_DIR`: continue in place with the run's own overrides, and refuse changes that make it another run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from deepdft.files import read_json, write_text
from deepdft.runs.directory import named_folder
from deepdft.runs.renamed import rename_arguments, rename_stored
from deepdft.runs.stored_values import GROUPS, with_stored_values

__all__ = [
    "changed_keys",
    "checkpoint_to_resume",
    "keep_overrides",
    "refuse_changes",
    "refuse_other_data",
    "stored_config",
    "summary_if_finished",
    "with_stored_overrides",
    "with_values_of_run",
]

_FIXED = ("data", "model", "optimizer", "loss", "seed", "init")
"""Sections that a resumed run must not change: its split, draws, weights and optimizer state depend on them."""

_FREE = ("data.root", "data.split", "data.num_workers", "optimizer.fused")
"""Keys in those sections that do not change the result (beyond rounding), or whose contents are compared instead."""

OVERRIDES = Path(".hydra", "overrides.yaml")
"""The overrides of a run, in its directory, as Hydra writes them."""
_ENDING = ("trainer", "callbacks")
"""Sections that decide when a run ends."""
_NEW = ("callbacks.interruptible.minutes", "callbacks.ema.warmup")
"""Keys in those sections that runs of earlier versions do not have."""


def with_stored_overrides(arguments: Sequence[str]) -> list[str]:
    """Command line arguments, preceded by the overrides of the run that `resume=` or `from=` names.

    On resuming, Hydra is told to leave what the run says of itself alone: a change that is refused must not become
    part of it. `resume=auto` resumes the run in `run_dir`, or starts it.

    Raises:
        FileNotFoundError: if `resume=` or `from=` names no run directory.
        ValueError: if the run's record of its overrides is damaged, or `resume=auto` comes without `run_dir=`.
    """
    arguments = _without_auto(rename_arguments(arguments))
    resumed, source = (named_folder(arguments, key) for key in ("resume", "from"))
    if resumed is None and source is None:
        return list(arguments)
    overrides = {_key(override): override for override in _stored_overrides(resumed, source)}
    new = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    if resumed is not None:
        new.append("hydra.output_subdir=null")
    else:
        for key in ("resume", "run_dir", "from"):
            overrides.pop(key, None)
    others = [argument for argument in arguments if "=" not in argument or argument.startswith("-")]
    given = overrides | {_key(argument): argument for argument in new}
    return [*others, *given.values()]


def _without_auto(arguments: Sequence[str]) -> list[str]:
    """Replace `resume=auto` by `resume=RUN_DIR`, or remove it if there is no run yet."""
    if named_folder(arguments, "resume") != Path("auto"):
        return list(arguments)
    folder = named_folder(arguments, "run_dir", "hydra.run.dir")
    if folder is None:
        raise ValueError("resume=auto starts or resumes the run in one folder: give run_dir=<folder>")
    rest = [argument for argument in arguments if _key(argument) != "resume"]
    if _is_run(folder):
        without_source = [argument for argument in rest if _key(argument) != "from"]
        return [*without_source, f"resume={folder}"]
    return rest


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run directory, made by the command line or by `deepdft.train` in Python."""
    return (folder / OVERRIDES).is_file() or (folder / "config.yaml").is_file()


def _stored_overrides(resumed: Path | None, source: Path | None) -> list[str]:
    """The overrides that a run was started with."""
    key, run_dir = ("from", source) if resumed is None else ("resume", resumed)
    assert run_dir is not None
    stored = run_dir / OVERRIDES
    if not _is_run(run_dir):
        raise FileNotFoundError(f"{key}={run_dir}: not a run directory of deepdft-train (no {stored})")
    if not stored.is_file():
        return []  # started by deepdft.train in Python: its settings are in config.yaml only
    hydra, overrides = _load_yaml(stored.with_name("hydra.yaml")), _load_yaml(stored)
    try:
        of_hydra = [str(override) for override in hydra["hydra"]["overrides"]["hydra"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{stored.with_name('hydra.yaml')}: damaged, no hydra.overrides.hydra in it") from error
    if not isinstance(overrides, list):
        raise ValueError(f"{stored}: damaged, expected a list of overrides")
    choices = hydra["hydra"].get("runtime", {}).get("choices", {})
    chosen = [f"{group}={choices[group]}" for group in GROUPS if choices.get(group)]  # today's defaults may differ
    own = rename_arguments([str(override) for override in overrides], warn=False)
    return [*(o for o in of_hydra if o.startswith("hydra.searchpath")), *chosen, *own]


def with_values_of_run(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A composed config with the values of the run that it resumes or starts from, except where they are changed now.

    Args:
        cfg: composed from what `with_stored_overrides` gives.
        overrides: the same.

    Raises:
        ValueError: if the run's record of its settings is damaged.
    """
    resumed, source = cfg.get("resume"), cfg.get("from")
    run_dir = resumed or source
    stored = None if run_dir is None else stored_config(Path(run_dir))
    if stored is None:
        return cfg
    known = {_key(o): o for o in _stored_overrides(*(None if run is None else Path(run) for run in (resumed, source)))}
    new = [override for override in overrides if known.get(_key(override)) != override]  # of a key, the last one counts
    if not resumed and (wandb := (stored.get("logger") or {}).get("wandb")):
        wandb.pop("id", None)  # a new run gets a new one there
    return with_stored_values(cfg, stored, new, choices_are_known=(Path(run_dir) / OVERRIDES).is_file())


def _load_yaml(file: Path) -> Any:
    """Plain values of a YAML file of a run; interpolations stay as they are written.

    Raises:
        ValueError: if it is damaged, or holds objects of Python.
    """
    try:
        return OmegaConf.to_container(OmegaConf.load(file))
    except Exception as error:  # whatever error the bytes of a foreign file cause in the parser
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{file}: damaged, not plain YAML: {reason}") from error


def keep_overrides(run_dir: Path, overrides: Sequence[str]) -> None:
    """Store the overrides of a resumed run, from which the next `resume=` starts; a run of Python has none."""
    if not (run_dir / OVERRIDES).is_file():
        return
    write_text(run_dir / OVERRIDES, OmegaConf.to_yaml(OmegaConf.create(list(overrides))))


def _key(override: str) -> str:
    """The key of an override: a later one of the same key replaces an earlier one."""
    return override.partition("=")[0].lstrip("+")


def stored_config(run_dir: Path) -> dict[str, Any] | None:
    """The resolved config of a run, its paths moved to where the run is now; None if it ended too early to have one."""
    file = run_dir / "config.yaml"
    if not file.is_file():
        return None
    from deepdft.training.resumable import rebase_paths  # which needs torch

    config = _load_yaml(file)
    if not isinstance(config, dict) or not isinstance(config.get("run_dir"), str):
        raise ValueError(f"{file}: damaged, expected the config of a run with its run_dir")
    return rename_stored(rebase_paths(config, config["run_dir"], str(run_dir)))


def summary_if_finished(run_dir: Path, stored: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any] | None:
    """The summary of a finished run, unless the settings of the trainer or of a callback have changed."""
    file = run_dir / "summary.json"
    changed = [key for key, _, _ in changed_keys(stored, now) if not key.endswith("._target_")]
    if not file.is_file() or any(key.split(".")[0] in _ENDING and key not in _NEW for key in changed):
        return None
    return read_json(file, keys={"steps": int, "val/eps_mae": (int, float, type(None))})


def refuse_changes(stored: Mapping[str, Any], now: Mapping[str, Any], run_dir: Path) -> None:
    """Refuse changes of settings that a resumed run must keep.

    Raises:
        ValueError: if a key that a resumed run must keep has another value now. A run that was started before there was
            a key had what it switches on switched off.
    """
    changes = [
        (key, before, after)
        for key, before, after in changed_keys(stored, now)
        if key.split(".")[0] in _FIXED and key not in _FREE and not (before is None and after is False)
    ]
    if changes:
        changed = "; ".join(f"{key}: {before!r} → {after!r}" for key, before, after in changes)
        kept = " ".join(f"{key}={'null' if before is None else before}" for key, before, _ in changes)
        raise ValueError(
            f"resume={run_dir}: {changed}. A resumed run keeps {', '.join(_FIXED)}: resume it with {kept}, or start a "
            "new run, with init=RUN_DIR to start from these weights"
        )


def refuse_other_data(run_dir: Path, fingerprint: str, split: Mapping[str, Sequence[str]]) -> None:
    """Refuse a store, or a split, that is not the one the run started with.

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
    run = read_json(of_run[0], keys={"data": dict})
    before = read_json(of_run[1], keys=dict.fromkeys(split, list))
    if run["data"].get("fingerprint") != fingerprint:
        raise ValueError(
            f"resume={run_dir}: data.root does not hold the data that this run started with; start a new run"
        )
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
    """The state that a run left; None if it ended before its first checkpoint and starts from scratch."""
    last = run_dir / "checkpoints" / "last.ckpt"
    return last if last.is_file() else None
