"""Shared by all commands: the Hydra entry point, --help and --version, and user errors as one clear line."""

from __future__ import annotations

import functools
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from deepdft.cli.options import (
    help_text,
    no_such_choice,
    no_such_option,
    option_names,
    refuse_null,
    refuse_unknown,
)
from deepdft.cli.output import degrade_output
from deepdft.errors import warnings_as_lines
from deepdft.runs import resolvers
from deepdft.runs.command import running_command
from deepdft.runs.compose import config_directory
from deepdft.version import version

__all__ = ["hydra_command", "one_line", "one_line_errors"]

EXPECTED = (ValueError, OSError, ImportError, HydraException, OmegaConfBaseException)
"""Errors whose message tells the user what to do (DensityFormatError is a ValueError); others are bugs of deepdft."""

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Environment variable with which Hydra raises errors instead of printing them itself."""


def hydra_command(
    name: str, *, interrupted: str = "run the same command again"
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Turn a function of the config into a command: `conf/{name}.yaml` with overrides from `sys.argv`.

    Args:
        name: of the YAML file, without suffix.
        interrupted: how to continue after Ctrl-C.

    Returns:
        A decorator; the decorated function takes no arguments and reports errors like `one_line_errors`.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @one_line_errors
        @_with_version_and_help(name)
        @functools.wraps(task)
        def command() -> None:
            resolvers.register()
            file = config_directory() / f"{name}.yaml"
            names = option_names(file)
            requested = os.environ.get(FULL_ERROR)
            failures: list[Exception] = []

            @functools.wraps(task)
            def run_task(cfg: DictConfig) -> Any:
                try:
                    refuse_unknown(cfg, HydraConfig.get().overrides.task, names)
                    refuse_null(cfg, file)
                    # processes started by the task see the user's environment
                    with _full_error(requested), _process_settings(cfg), running_command(HydraConfig.get()):
                        return task(cfg)
                except Exception as error:
                    if HydraConfig.get().mode == RunMode.MULTIRUN:
                        raise  # Hydra reports which job it was
                    failures.append(error)  # bypasses Hydra, which would print it in its own way
                    return None

            try:
                with _full_error("1"):
                    hydra.main(version_base="1.3", config_path=str(file.parent), config_name=name)(run_task)()
            except KeyboardInterrupt as interrupt:
                raise KeyboardInterrupt(str(interrupt) or interrupted) from interrupt
            except ConfigCompositionException as error:
                if message := no_such_option(error, names) or no_such_choice(error):
                    raise ValueError(message) from error
                raise
            if failures:
                raise failures[0]

        return command

    return decorate


@contextmanager
def _process_settings(cfg: DictConfig) -> Iterator[None]:
    """Apply settings of the process while a command runs; slow imports are made here, not for --help."""
    from deepdft.compiled import announced

    target = str(OmegaConf.select(cfg, "model._target_", throw_on_missing=False) or "deepdft.")
    if cfg.get("trusted") or not target.startswith("deepdft."):
        sys.path.append(os.getcwd())  # last, so that nothing there hides what is installed
    with warnings_as_lines(), announced(_say_compiling):
        if "matmul_precision" in cfg:
            from deepdft.runs.precision import matmul_precision

            with matmul_precision(cfg.matmul_precision):
                yield
        else:
            yield


def _say_compiling() -> None:
    print("compiling for this machine (once, takes several seconds)", file=sys.stderr, flush=True)


def _with_version_and_help(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Answer --version and --help here: Hydra would print its own version, and reads all configs before --help."""

    def decorate(command: Callable[[], None]) -> Callable[[], None]:
        @functools.wraps(command)
        def answered() -> None:
            if "--version" in sys.argv[1:]:
                print(f"deepdft {version()}")
            elif {"--help", "-h"} & set(sys.argv[1:]):
                print(help_text(name, config_directory(), sys.argv[1:]))
            else:
                command()

        return answered

    return decorate


def one_line_errors(function: Callable[[], Any]) -> Callable[[], Any]:
    """Decorate an entry point: errors that the user can fix become one line on stderr and exit status 1.

    Ctrl-C ends with status 130, a closed pipe with 141. DEEPDFT_DEBUG=1 or HYDRA_FULL_ERROR=1 in the environment show
    tracebacks.
    """

    @functools.wraps(function)
    def guarded() -> Any:
        degrade_output()
        try:
            return function()
        except KeyboardInterrupt as interrupt:
            how = str(interrupt) or "run the same command again"
            print(f"interrupted; to continue: {how}", file=sys.stderr)
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
    """Whether our output goes into a pipe that its reader has closed, as `… | head` does."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush succeeds
    return True


def one_line(error: BaseException) -> str:
    """The message of an error in one line."""
    while isinstance(error, InstantiationException) and isinstance(error.__cause__, EXPECTED):
        error = error.__cause__  # the constructor's own message, without Hydra's around it
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}=… is required; --help shows what it means"
    technical = ("full_key:", "object_type=", "reference_type=", "set_struct")
    lines = [line.strip() for line in str(error).splitlines()]
    text = "; ".join(line.rstrip(".") for line in lines if line and not line.startswith(technical))
    return text.replace(":; ", ": ") or type(error).__name__


@contextmanager
def _full_error(value: str | None) -> Iterator[None]:
    """Set HYDRA_FULL_ERROR within a context; None unsets it."""
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
