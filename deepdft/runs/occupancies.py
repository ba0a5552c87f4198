"""PAW occupancies in a training: the partial waves that the data have, and samples that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepdft.data.datamodule import DensityDataModule
from deepdft.data.partial_waves import check_partial_waves, partial_waves
from deepdft.runs.directory import is_first_process

__all__ = ["with_partial_waves"]

AUTO = "auto"
"""Value of the model's key `occupancies` that stands for the partial waves of the data."""


def with_partial_waves(config: Mapping[str, Any], data: DensityDataModule) -> dict[str, Any]:
    """The config of a model with the partial waves of the data; samples then hold occupancies.

    Args:
        config: of the model; without the key `occupancies`, or with null, it stays as it is.
        data: that has been set up.

    Raises:
        ValueError: if the data have no occupancies, or others than the partial waves in the config.
    """
    given = config.get("occupancies")
    if given is None:
        return dict(config)
    indices = [*data.split.train, *data.split.validation]
    if given == AUTO:
        given = partial_waves(data.store, data.split.train, data.label)
        if is_first_process():
            print("partial waves of PAW occupancies: " + ", ".join(f"{key} {value}" for key, value in given.items()))
    elif not isinstance(given, Mapping):
        raise ValueError(
            f"model.occupancies is auto, partial waves by element such as {{O: sspp}}, or null; got {given}"
        )
    check_partial_waves(given, data.store, indices, data.label)
    data.occupancies = True
    return {**config, "occupancies": dict(given)}
