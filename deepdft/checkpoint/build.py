"""Models from their plain configs, which may come from untrusted files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from torch.overrides import TorchFunctionMode

from deepdft.models.base import DensityModel
from deepdft.models.with_baseline import WithBaseline
from deepdft.models.with_occupancies import WithOccupancies

__all__ = ["build_model", "build_model_for", "model_name"]

TRUSTED_PACKAGES = ("deepdft.models",)
"""Packages whose classes a checkpoint may name; others need the caller's permission."""
MAX_NUMBER = 1e6
"""Limit on sizes in a config that comes with weights, or the number of weights if that is larger."""
MAX_SCRATCH_BYTES, MAX_TENSORS = 2**28, 50_000
"""Limits on memory and tensors that the construction of a model may take beside its weights."""


def build_model(config: Mapping[str, Any], *, trusted: Sequence[str] = ()) -> DensityModel:
    """Build a model from its plain config.

    Args:
        config: `_target_` and the constructor's arguments; with `baseline`, the model learns what that leaves
            (`deepdft.models.with_baseline`), with `occupancies` also those of PAW (`deepdft.models.with_occupancies`).
        trusted: packages beside deepdft.models whose classes may be built, e.g. ("my_package",).

    Raises:
        ValueError: if a `_target_` is missing, outside the trusted packages, or not a DensityModel, if there is no such
            baseline, if a value is an interpolation (`${…}`), or the constructor refuses an argument.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"a model config is a mapping with _target_, got {type(config).__name__}")
    target = config.get("_target_")
    if not isinstance(target, str):
        raise ValueError(f"a model config needs _target_, the dotted path of a DensityModel, got {target!r}")
    _refuse_interpolations(config)
    for name in _targets(config):
        _check_target(name, (*TRUSTED_PACKAGES, *trusted))
    arguments = dict(config)
    short = "model" not in arguments  # otherwise the target takes all of them
    baseline, partial_waves = (arguments.pop(key, None) if short else None for key in ("baseline", "occupancies"))
    try:
        model = instantiate(arguments, _convert_="all")
    except InstantiationException as error:  # Hydra's wrapper around whatever the constructor raised
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ValueError(f"{target.rpartition('.')[2]}: {reason}") from error
    if not isinstance(model, DensityModel):
        raise ValueError(f"{target} is a {type(model).__name__}, not a DensityModel")
    model = model if baseline is None else WithBaseline(model, baseline)
    return model if partial_waves is None else WithOccupancies(model, partial_waves)


def build_model_for(
    weights: Mapping[str, torch.Tensor], config: Mapping[str, Any], *, trusted: Sequence[str] = ()
) -> DensityModel:
    """Build the model that some weights belong to; a config that asks for far more memory than they take is refused.

    Args:
        weights: of the model, by name.
        config: as of `build_model`.
        trusted: as of `build_model`.

    Raises:
        ValueError: as of `build_model`, or if the config makes a much larger model.
    """
    _refuse_huge_numbers(config, max(MAX_NUMBER, sum(weight.numel() for weight in weights.values())))
    n_bytes = sum(weight.numel() * weight.element_size() for weight in weights.values())
    with _AllocationLimit(4 * n_bytes + MAX_SCRATCH_BYTES, 4 * len(weights) + MAX_TENSORS):
        return build_model(config, trusted=trusted)


def model_name(config: Mapping[str, Any]) -> str:
    """Name of the model that a config builds, as "SchNet" or "SchNet on fitted"."""
    baseline = config.get("baseline")
    if isinstance(baseline, Mapping):
        baseline = model_name(baseline)
    inner = config.get("model")
    name = model_name(inner) if isinstance(inner, Mapping) else str(config["_target_"]).rpartition(".")[2]
    return name if baseline is None else f"{name} on {baseline}"


class _AllocationLimit(TorchFunctionMode):
    """Raises if more memory, or more tensors, are allocated than a model with these weights needs.

    A mode of functions, not of dispatch, whose first use imports torch's compiler (1 s).
    """

    def __init__(self, n_bytes: int, n_tensors: int) -> None:
        super().__init__()
        self.n_bytes, self.n_tensors = n_bytes, n_tensors

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _FACTORIES and 2 * _n_requested(args, kwargs or {}) > self.n_bytes:
            self._refuse()  # before the memory is taken: numbers have two bytes or more
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not func.__name__.endswith("_"):
            self.n_bytes -= result.numel() * result.element_size()
            self.n_tensors -= 1
            if self.n_bytes < 0 or self.n_tensors < 0:
                self._refuse()
        return result

    def _refuse(self) -> NoReturn:
        raise ValueError("the model config makes a far larger model than the weights belong to")


_FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye}
"""Functions of torch whose first arguments are the size of what they make."""


def _n_requested(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Number of elements that a factory function is asked for."""
    size = args[0] if args and isinstance(args[0], Sequence) else kwargs.get("size", args)
    return math.prod(n for n in size if isinstance(n, int))


def _walk(config: Any) -> Iterator[tuple[str, Any]]:
    """Every value at any depth, with its key; keys of mappings are values too."""
    pending: list[tuple[str, Any]] = [("", config)]
    while pending:
        key, value = pending.pop()
        yield key, value
        if isinstance(value, Mapping):
            pending.extend(("", name) for name in value)
            pending.extend((str(name), item) for name, item in value.items())
        elif isinstance(value, list | tuple):
            pending.extend((key, item) for item in value)


def _refuse_huge_numbers(config: Any, largest: float) -> None:
    for key, value in _walk(config):
        if isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= largest):
            raise ValueError(f"the model config has {key}={value}, which no model with these weights has")


def _refuse_interpolations(config: Any) -> None:
    """Refuse interpolations: a resolver could produce a `_target_` after the literal ones have been checked."""
    for _, value in _walk(config):
        if isinstance(value, str) and "${" in value:
            raise ValueError(f"a model config is plain values, got the interpolation {value!r}")


def _targets(config: Any) -> Iterator[str]:
    """Every `_target_` at any depth."""
    return (str(value) for key, value in _walk(config) if key == "_target_")


def _check_target(name: str, packages: Sequence[str]) -> None:
    """Refuse names outside the packages, and names that leave them through an import (deepdft.x.os.system)."""
    refusal = (
        f"_target_ {name!r} is not a model class of {', '.join(packages)}; "
        "if you trust the file, name its package: trusted=[package]"
    )
    if not name.startswith(tuple(f"{package}." for package in packages)):
        raise ValueError(refusal)
    try:
        cls: Callable[..., Any] = get_class(name)
    except Exception as error:  # Hydra wraps whatever the import raised
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"_target_ {name!r} cannot be imported: {reason}") from error
    inside = any(cls.__module__ == package or cls.__module__.startswith(f"{package}.") for package in packages)
    if not (inside and isinstance(cls, type) and issubclass(cls, torch.nn.Module)):
        raise ValueError(refusal)
