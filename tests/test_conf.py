"""Every YAML that ships composes, names things that exist, and comments its units."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from deepdft.checkpoint import build_model
from deepdft.cli.app import config_directory
from deepdft.runs import resolvers

CONF = config_directory()
COMMANDS = sorted(path.stem for path in CONF.glob("*.yaml"))
GROUPS = ("data", "model", "optimizer", "scheduler", "callbacks", "logger", "trainer")
OPTIONS = [
    f"{group}={path.stem}"
    for group in GROUPS
    for path in sorted((CONF / group).glob("*.yaml"))
    if path.stem != "default"
]
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


def composed(command: str, *overrides: str) -> dict[str, Any]:
    resolvers.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose(command, overrides=list(overrides)))


def targets(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        yield from ([config["_target_"]] if "_target_" in config else [])
        for value in config.values():
            yield from targets(value)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes(command: str) -> None:
    assert composed(command)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_names_what_exists(option: str) -> None:
    for target in targets(composed("train", option)):
        assert callable(get_object(target))


@pytest.mark.parametrize("model", MODELS)
def test_every_model_can_be_built_from_its_yaml(model: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", overrides=[f"model={model}"]).model, resolve=True)
    assert build_model(config).cutoff == config["cutoff"]


@pytest.mark.parametrize("optimizer", [path.stem for path in sorted((CONF / "optimizer").glob("*.yaml"))])
@pytest.mark.parametrize("scheduler", [path.stem for path in sorted((CONF / "scheduler").glob("*.yaml"))])
def test_every_optimizer_and_schedule_can_be_made(optimizer: str, scheduler: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=[f"optimizer={optimizer}", f"scheduler={scheduler}"])
    made = instantiate(config.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    assert instantiate(config.scheduler)(made).get_last_lr()[0] > 0


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes(experiment: str) -> None:
    assert composed("train", f"experiment={experiment}")


def leaves(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(config, dict):
        yield path, config
        return
    for key, value in config.items():
        yield from leaves(value, f"{path}.{key}".lstrip("."))


@pytest.mark.parametrize("option", [*(f"experiment={name}" for name in EXPERIMENTS), "debug=default"])
def test_an_experiment_has_the_last_word(option: str) -> None:
    group, name = option.split("=")
    said = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
    said.pop("defaults", None)
    whole = dict(leaves(composed("train", option)))
    assert said
    for key, value in leaves(said):
        assert whole[key] == value, key


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_yaml_begins_with_what_it_is(path: Path) -> None:
    text = path.read_text()
    if path.parent.name in ("data", "experiment") or path.parent == CONF:
        assert text.startswith("#"), "a comment says what the file is for"
