"""The configs of the commands as a library: their folder, and their composition from defaults and overrides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

import deepdft
from deepdft.runs import resolvers
from deepdft.runs.renamed import rename_arguments
from deepdft.runs.resume import with_stored_overrides, with_values_of_run

__all__ = ["OWN_MODEL", "compose", "config_directory", "from_settings", "with_open_mappings", "with_own_model"]

OWN_MODEL = "own"
"""The model group whose only key is `_target_`: a model from outside the package."""


def config_directory() -> Path:
    """The folder of the YAML configs: `deepdft/conf` where the package is installed, `conf` in a checkout.

    Raises:
        FileNotFoundError: if there is neither.
    """
    package = Path(deepdft.__file__).parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise FileNotFoundError(f"{package}: the configs (conf/) are missing beside the package; install deepdft again")


def compose(command: str = "train", overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the config of a command as its command line does.

    Args:
        command: "train", "evaluate", "predict", "convert", "generate" or "report".
        overrides: as on the command line, e.g. ["model=painn", "data.root=data/mine", "trainer.max_steps=2000"].

    Returns:
        The config, in which values may still be changed: `config.optimizer.lr = 1e-3`.

    Raises:
        ValueError: if there is no such command.
        hydra.errors.HydraException: if there is no such option or group.
    """
    folder = config_directory()
    if not (folder / f"{command}.yaml").is_file():
        commands = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise ValueError(f"command {command!r}: expected one of {commands}")
    resolvers.register()
    is_training, arguments = command == "train", list(overrides)
    if is_training:
        stored = with_stored_overrides(arguments)
        arguments = with_own_model([argument for argument in stored if not argument.startswith("hydra.")])
    if command == "generate":
        arguments = with_open_mappings(arguments)
    with hydra.initialize_config_dir(str(folder), version_base="1.3"):
        config = hydra.compose(command, overrides=arguments)
    if "run_dir" in config and OmegaConf.is_interpolation(
        config, "run_dir"
    ):  # an interpolation of Hydra's own settings, which exist only on the command line
        config.run_dir = config.get("resume") or config.get("output")  # null: a new folder
    return with_values_of_run(config, arguments) if is_training else config


def from_settings(settings: Mapping[str, Any], command: str = "train") -> DictConfig:
    """Compose the config of a command from a dictionary of what differs from its defaults.

    Args:
        settings: nested, or with dotted keys; a string for a group chooses one of its files:
            `{"model": "painn", "data": {"root": "data/mine"}, "trainer.max_steps": 2000}`.
        command: as for `compose`.

    Raises:
        ValueError: if there is no such option.
    """
    groups = {folder.name for folder in config_directory().iterdir() if folder.is_dir()}
    chosen = [f"{key}={value}" for key, value in settings.items() if key in groups and isinstance(value, str)]
    flat = dict(_flat({key: value for key, value in settings.items() if f"{key}={value}" not in chosen}))
    names = flat if "model._target_" in flat else rename_arguments(list(flat))
    others = dict(zip(names, flat.values(), strict=True))
    if "model._target_" in others and not isinstance(settings.get("model"), str):
        chosen.append(f"model={OWN_MODEL}")
    resume = others.pop("resume", None)
    config = compose(command, [*chosen, *([] if resume is None else [f"resume={resume}"])])
    for key, value in others.items():
        is_free = key.startswith("model.") and f"model={OWN_MODEL}" in chosen
        try:
            OmegaConf.update(config, key, value, force_add=is_free)
        except (ConfigAttributeError, ConfigKeyError) as error:
            raise ValueError(f"there is no option {key!r} in the config of deepdft-{command}") from error
    return config


def with_own_model(overrides: Sequence[str]) -> list[str]:
    """Overrides for a model class of one's own, without the keys of other models.

    `model._target_=my_package.MyModel` without a model group chooses the group `own`, and other `model.key=value` are
    arguments of that class.
    """
    keys = [override.partition("=")[0].lstrip("+") for override in overrides]
    if "model._target_" not in keys or "model" in keys:
        return list(overrides)
    return [
        f"model={OWN_MODEL}",
        *(f"++{o.lstrip('+')}" if o.lstrip("+").startswith("model.") else o for o in overrides),
    ]


def with_open_mappings(overrides: Sequence[str]) -> list[str]:
    """Overrides in which mappings of the group dft that are empty by default, such as dft.hubbard_u, may be filled.

    Hydra refuses keys that the config does not have: `dft.hubbard_u={Ni: 6.2}` and `dft.hubbard_u.Ni=6.2` become
    overrides that add them.
    """
    texts = [file.read_text(encoding="utf-8") for file in (config_directory() / "dft").glob("*.yaml")]
    open_keys = {f"dft.{name}" for text in texts for name in re.findall(r"^(\w+): \{\}", text, re.MULTILINE)}
    return [
        f"++{one}" if "=" in one and ".".join(one.partition("=")[0].split(".")[:2]) in open_keys else one
        for one in overrides
    ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values; lists and empty dictionaries count as values."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
