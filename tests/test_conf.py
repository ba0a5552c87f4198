"""Every YAML that ships composes, names things that exist, and comments its units."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from deepdft.checkpoint import build_model
from deepdft.runs import resolvers
from deepdft.runs.compose import compose as compose_library
from deepdft.runs.compose import config_directory

CONF = config_directory()
COMMANDS = sorted(path.stem for path in CONF.glob("*.yaml"))
GROUPS = ("data", "model", "optimizer", "scheduler", "callbacks", "logger", "trainer")
OPTIONS = [
    f"{group}={path.stem}"
    for group in GROUPS
    for path in sorted((CONF / group).glob("*.yaml"))
    if path.stem not in ("default", "own")
]
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if path.stem != "own")


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
    reported = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
    reported.pop("defaults", None)
    whole = dict(leaves(composed("train", option)))
    for key, value in leaves(reported):
        assert whole[key] == value, key


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_yaml_begins_with_what_it_is(path: Path) -> None:
    text = path.read_text()
    if path.parent.name in ("data", "experiment") or path.parent == CONF:
        assert text.startswith("#"), "a comment says what the file is for"


def published(model: str, data: str, **differs: Any) -> dict[str, Any]:
    """Table 1 of Jørgensen & Bhowmik 2020 and the released arguments, by key."""
    return {
        "model._target_": f"deepdft.models.{model.lower()}.{model}",
        "model.cutoff": 4.0,
        "model.hidden_size": 128,
        "model.n_interactions": {"SchNet": 6, "PaiNN": 3}[model],
        "optimizer._target_": "torch.optim.Adam",
        "optimizer.lr": 1e-4,
        "scheduler._target_": "deepdft.training.schedules.exponential",
        "scheduler.factor": 0.96,
        "scheduler.every": 100_000,
        "loss": "mse",
        "callbacks.ema": None,
        "callbacks.early_stopping.patience": 400,
        "trainer.max_steps": 10_000_000,
        "trainer.val_check_interval": 5000,
        "trainer.gradient_clip_val": None,
        "trainer.accumulate_grad_batches": 1,
        "data.root": f"data/{data}",
        "data.pbc": None,
        "data.structures_per_step": 2,
        "data.probes_per_structure": 1000,
        "data.validation_probes": 5000,
        "data.importance_fraction": 0.0,
    } | differs


PUBLISHED = {
    "qm9_schnet": published("SchNet", "qm9", **{"trainer.max_steps": 100_000_000, "data.pbc": False}),
    "qm9_painn": published("PaiNN", "qm9"),
    "nmc_schnet": published("SchNet", "nmc"),
    "nmc_painn": published("PaiNN", "nmc"),
    "ec_schnet": published("SchNet", "ethylene_carbonate"),
    "ec_painn": published("PaiNN", "ethylene_carbonate"),
}


@pytest.mark.parametrize("experiment", PUBLISHED)
def test_the_published_experiments_are_as_published(experiment: str) -> None:
    whole = dict(leaves(composed("train", f"experiment={experiment}")))
    assert {key: whole[key] for key in PUBLISHED[experiment]} == PUBLISHED[experiment]


def test_a_newcomer_trains_the_orbital_model_with_what_belongs_to_it() -> None:
    whole = dict(leaves(composed("train", "data.root=mine")))
    expected = {  # as experiments/model_comparison trained it
        "model._target_": "deepdft.models.orbital.Orbital",
        "loss": "l1",
        "optimizer.lr": 2e-3,
        "scheduler._target_": "deepdft.training.schedules.warmup_cosine",
        "scheduler.warmup": 0.02,
        "trainer.gradient_clip_val": 1.0,
        "data.importance_fraction": 0.5,
        "data.pbc": None,
    }
    assert {key: whole[key] for key in expected} == expected
    assert whole["callbacks.ema._target_"]


def test_a_model_of_ones_own_has_no_keys_of_another() -> None:
    config = compose_library("train", ["model._target_=my_package.MyModel", "model.width=4", "data.root=mine"])
    assert config.model == {"_target_": "my_package.MyModel", "width": 4}
    named = compose_library("train", ["model=orbital", "model._target_=my_package.Better", "data.root=mine"])
    assert named.model.n_orbitals == 12  # a group that is named stays


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_a_number_has_a_comment_with_its_meaning(path: Path) -> None:
    """A key whose value is a number says in its line, or in that of its section, what it counts or its unit."""
    for line in path.read_text(encoding="utf-8").splitlines():
        found = re.match(r"^\s*([a-z]\w*): (-?\d[\d.e+-]*)\s*(#.*)?$", line)
        if found and found[1] not in SELF_EXPLAINING:
            assert found[3], f"{path.name}: {line.strip()}: a comment gives the unit"


SELF_EXPLAINING = {
    "structures_per_step",
    "probes_per_structure",
    "save_top_k",
    "count",
    "seed",
    "devices",
    "n_interactions",
    "max_epochs",
    "num_sanity_val_steps",
    "num_workers",
    "log_every_n_steps",
    "limit_val_batches",
    "weight_decay",
    "hidden_size",
}
"""Keys whose names say what they count, or numbers without a unit."""
