"""What all commands share: where the configs lie, and errors of the user as one clear line."""

from __future__ import annotations

import functools
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

import deepdft
from deepdft.cli.options import (
    explained_groups,
    explained_options,
    no_such_option,
    option_names,
    refuse_null,
    refuse_unknown,
)
from deepdft.compiled import announced
from deepdft.errors import warnings_as_lines
from deepdft.runs import resolvers
from deepdft.runs.precision import matmul_precision
from deepdft.runs.provenance import versions

__all__ = ["config_directory", "hydra_command", "one_line", "one_line_errors"]

EXPECTED = (ValueError, OSError, ImportError, HydraException, OmegaConfBaseException)
"""Errors that tell the user what to do; DensityFormatError is a ValueError. Anything else is a bug of ours."""

FULL_ERROR = "HYDRA_FULL_ERROR"
"""With this environment variable Hydra lets errors through instead of printing them itself."""


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


def hydra_command(
    name: str, *, interrupted: str = "run the same command again"
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a command of a function of the config: `conf/{name}.yaml`, overrides from `sys.argv`.

    Args:
        name: of the YAML file, without suffix.
        interrupted: how a user goes on after Ctrl-C.

    Returns:
        A decorator; the decorated function takes no arguments and reports errors like `one_line_errors`.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @one_line_errors
        @_with_version
        @functools.wraps(task)
        def command() -> None:
            resolvers.register()
            _register_help()
            asked = os.environ.get(FULL_ERROR)
            failures: list[Exception] = []

            @functools.wraps(task)
            def run_task(cfg: DictConfig) -> Any:
                try:
                    refuse_unknown(cfg, HydraConfig.get().overrides.task, names)
                    refuse_null(cfg, file)
                    # processes that the task starts see the user's environment
                    precision = cfg.get("matmul_precision", "highest")
                    with (
                        _full_error(asked),
                        warnings_as_lines(),
                        matmul_precision(precision),
                        announced(_say_compiling),
                    ):
                        return task(cfg)
                except Exception as error:
                    if HydraConfig.get().mode == RunMode.MULTIRUN:
                        raise  # Hydra says which job it was
                    failures.append(error)  # past Hydra, which would print it in its own way
                    return None

            file = config_directory() / f"{name}.yaml"
            names = option_names(file)
            main = hydra.main(version_base="1.3", config_path=str(config_directory()), config_name=name)
            try:
                with _full_error("1"):
                    main(run_task)()
            except KeyboardInterrupt as interrupt:
                raise KeyboardInterrupt(str(interrupt) or interrupted) from interrupt
            except ConfigCompositionException as error:
                if said := no_such_option(error, names):
                    raise ValueError(said) from error
                raise
            if failures:
                raise failures[0]

        return command

    return decorate


def _say_compiling() -> None:
    print("compiling for this machine, once: some seconds", file=sys.stderr, flush=True)


def _with_version(command: Callable[[], None]) -> Callable[[], None]:
    """Make --version tell our version; Hydra tells its own."""

    @functools.wraps(command)
    def told() -> None:
        if "--version" in sys.argv[1:]:
            print(f"deepdft {versions()['deepdft']}")
        else:
            command()

    return told


def _register_help() -> None:
    """Make ${option_groups:NAME} and ${options:NAME}, of which the templates of --help consist, known to OmegaConf."""

    def choices(group: str) -> list[str]:
        return GlobalHydra.instance().config_loader().get_group_options(group)

    def groups(name: str) -> str:
        return explained_groups(config_directory() / f"{name}.yaml", choices)

    def options(name: str) -> str:
        # Hydra takes the help for a template of Python, where a dollar is doubled
        return explained_options(config_directory() / f"{name}.yaml").replace("$", "$$")

    OmegaConf.register_new_resolver("option_groups", groups, replace=True)
    OmegaConf.register_new_resolver("options", options, replace=True)


def one_line_errors(function: Callable[[], Any]) -> Callable[[], Any]:
    """Decorate an entry point: errors that are the user's to mend become one line on stderr and exit status 1.

    Ctrl-C ends with status 130, a closed pipe with 141. DEEPDFT_DEBUG=1 or HYDRA_FULL_ERROR=1 in the environment show
    tracebacks.
    """

    @functools.wraps(function)
    def guarded() -> Any:
        try:
            return function()
        except KeyboardInterrupt as interrupt:
            how = str(interrupt) or "run the same command again"
            print(f"interrupted; to go on: {how}", file=sys.stderr)
            sys.exit(130)
        except EXPECTED as error:
            if os.environ.get("DEEPDFT_DEBUG") or os.environ.get(FULL_ERROR):
                raise
            if isinstance(error, BrokenPipeError) and _nobody_listens():
                sys.exit(141)  # as a program that the signal ends
            print(f"error: {one_line(error)}", file=sys.stderr)
            sys.exit(1)

    return guarded


def _nobody_listens() -> bool:
    """Whether our output goes into a pipe that its reader has closed: `… | head` has seen enough."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush succeeds
    return True


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    while isinstance(error, InstantiationException) and isinstance(error.__cause__, EXPECTED):
        error = error.__cause__  # the constructor's own words, without Hydra's around them
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}=… is required; --help shows what it means"
    technical = ("full_key:", "object_type=", "reference_type=", "set_struct")
    lines = [line.strip() for line in str(error).splitlines()]
    text = "; ".join(line.rstrip(".") for line in lines if line and not line.startswith(technical))
    return text.replace(":; ", ": ") or type(error).__name__


@contextmanager
def _full_error(value: str | None) -> Iterator[None]:
    """Set (or with None, unset) HYDRA_FULL_ERROR for a while."""
    before = os.environ.get(FULL_ERROR)
    try:
        _set(value)
        yield
    finally:
        _set(before)


def _set(value: str | None) -> None:
    if value is None:
        os.environ.pop(FULL_ERROR, None)
    else:
        os.environ[FULL_ERROR] = value
