"""Former names of settings still work, with a warning, wherever a user may have written them."""

from typing import Any

import pytest
from omegaconf import OmegaConf

import deepdft
from deepdft.errors import RenamedWarning
from deepdft.runs.compose import from_settings
from deepdft.runs.renamed import RENAMED, rename_arguments, rename_keys

OLD = ["data.density_share=0.25", "model.max_order=2"]


def values(config: Any) -> tuple[float, int]:
    assert not {"max_order", "density_share"} & {*config.model, *config.data}
    return config.data.importance_fraction, config.model.l_max


def test_overrides_of_before_are_taken_with_a_warning_each() -> None:
    with pytest.warns(RenamedWarning) as caught:
        config = deepdft.compose("train", OLD)
    assert values(config) == (0.25, 2)
    assert [str(warning.message) for warning in caught] == [
        f"{old}= is now {now}=; the old name will be removed in the next version" for old, now in RENAMED.items()
    ]
    assert all(issubclass(warning.category, DeprecationWarning) for warning in caught)


def test_settings_of_before_are_taken_with_a_warning() -> None:
    with (
        pytest.warns(DeprecationWarning, match="data.density_share= is now data.importance_fraction="),
        pytest.warns(DeprecationWarning, match="model.max_order= is now model.l_max="),
    ):
        config = from_settings({"data": {"density_share": 0.25}, "model.max_order": 2})
    assert values(config) == (0.25, 2)


def test_keys_of_an_own_yaml_file_are_taken_with_a_warning() -> None:
    config = deepdft.compose("train")
    OmegaConf.update(config, "data.density_share", 0.25, force_add=True)
    OmegaConf.update(config, "model.max_order", 2, force_add=True)
    with pytest.warns(RenamedWarning) as caught:
        assert values(rename_keys(config)) == (0.25, 2)
    assert len(caught) == 2


def test_a_model_from_elsewhere_keeps_its_own_names() -> None:
    own = ["model._target_=my_package.Model", "model.max_order=2"]
    assert rename_arguments(own) == own
    config = OmegaConf.create({"model": {"_target_": "my_package.Model", "max_order": 2}})
    assert rename_keys(config) == config


def test_other_arguments_are_left_alone() -> None:
    others = ["-m", "model=orbital", "data.root=density_share=1", "+data.density_shares=1", "--help"]
    assert rename_arguments(others) == others
    with pytest.warns(RenamedWarning):
        assert rename_arguments(["++data.density_share=0,0.5"]) == ["++data.importance_fraction=0,0.5"]
