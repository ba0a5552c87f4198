"""Common to all commands: configs are found, Hydra's features work, and user errors are one line."""

import importlib.metadata
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import deepdft
from deepdft.cli.app import hydra_command, one_line, one_line_errors
from deepdft.runs.compose import config_directory

Call = Callable[..., None]


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any of our settings, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for variable in ("DEEPDFT_DEBUG", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a command that does `task`, with arguments."""

    def run(task: Callable[[DictConfig], Any], *arguments: str, name: str = "convert") -> None:
        monkeypatch.setattr(sys, "argv", [f"deepdft-{name}", *arguments])
        hydra_command(name)(task)()

    return run


def expect_line(capsys: pytest.CaptureFixture[str], failed: pytest.ExceptionInfo[SystemExit]) -> str:
    """The single stderr line of a command that failed."""
    assert failed.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_the_task_gets_the_config_with_the_overrides(call: Call, user: Path) -> None:
    seen: list[DictConfig] = []
    call(seen.append, "source=a.tar", "compression=zfp")
    assert [(cfg.source, cfg.compression, cfg.on_error) for cfg in seen] == [("a.tar", "zfp", "stop")]
    assert list(user.iterdir()) == []


def test_a_sweep_does_the_task_for_every_combination(call: Call, user: Path) -> None:
    seen: list[tuple[int, str]] = []
    call(
        lambda cfg: seen.append((cfg.workers, cfg.label)),
        *("-m", "workers=1,2", "label=PBE,RPBE", f"hydra.sweep.dir={user}/sweep"),
    )
    assert seen == [(1, "PBE"), (1, "RPBE"), (2, "PBE"), (2, "RPBE")]


def test_a_job_of_a_sweep_that_fails_is_named_without_a_traceback(
    call: Call, user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def task(cfg: DictConfig) -> None:
        if cfg.workers == 2:
            raise ValueError("workers=2: too many")

    with pytest.raises(SystemExit) as failed:
        call(task, "-m", "workers=1,2", f"hydra.sweep.dir={user}/sweep")
    assert failed.value.code == 1
    which, what = capsys.readouterr().err.splitlines()
    assert "workers=2" in which
    assert what == "error: workers=2: too many"


@pytest.mark.parametrize("name", ["convert", "generate", "train", "evaluate", "predict", "report", "start", "view"])
def test_every_command_shows_its_help_and_its_config_without_running(
    call: Call, name: str, user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def task(cfg: DictConfig) -> None:
        raise AssertionError("ran")

    call(task, "--help", name=name)
    config = OmegaConf.load(config_directory() / f"{name}.yaml")
    options = [str(key) for key in config if key not in ("defaults", "hydra")]
    help_text = capsys.readouterr().out
    assert [option for option in options if option not in help_text] == []
    call(task, "--cfg", "job", name=name)
    shown = OmegaConf.create(capsys.readouterr().out)
    assert set(options) <= set(shown)
    assert "hydra" not in shown
    assert list(user.iterdir()) == []


def shown_help(call: Call, capsys: pytest.CaptureFixture[str], *arguments: str, name: str) -> list[str]:
    """Lines of the help."""
    call(lambda cfg: None, "--help", *arguments, name=name)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", ["generate", "train", "evaluate", "predict", "report", "start", "view"])
def test_the_help_has_the_options_with_their_comments(
    call: Call, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown_help(call, capsys, name=name)
    written = (config_directory() / f"{name}.yaml").read_text().splitlines()
    options = {str(key) for key in OmegaConf.load(config_directory() / f"{name}.yaml")} - {"defaults"}
    explained = [line for line in written if line.partition(":")[0] in options]
    assert len(explained) == len(options)
    assert [line for line in explained if line not in lines] == []
    assert not any(line.startswith(("defaults", "hydra", "  - ", "#")) for line in lines)
    assert any(line.startswith(f"  deepdft-{name} ") for line in lines), "examples"


def test_the_help_has_the_groups_of_the_command_with_their_choices(
    call: Call, user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (user / "mine" / "dft").mkdir(parents=True)
    (user / "mine" / "dft" / "vasp.yaml").touch()
    lines = shown_help(call, capsys, "--config-dir", str(user / "mine"), name="generate")
    assert "dft=gpaw_molecule, or gpaw_periodic, qe, vasp" in lines
    assert "cluster=local, or address, none, slurm" in lines  # without the former name of none
    assert not any(line.startswith(("model", "trainer", "hydra", "override")) for line in lines)
    comment = "# wandb logs the summary, the table and the pictures too"
    assert f"logger=null, or csv, mlflow, tensorboard, wandb {comment}" in shown_help(call, capsys, name="evaluate")


def test_the_version_is_that_of_the_package(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    call(lambda cfg: pytest.fail("ran"), "--version")
    assert capsys.readouterr().out == f"deepdft {importlib.metadata.version('deepdft-lightning')}\n"


def test_a_model_from_outside_the_package_is_found_on_the_search_path(
    call: Call, user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (user / "mine" / "model").mkdir(parents=True)
    (user / "mine" / "model" / "new.yaml").write_text("_target_: somewhere.Model\nwidth: 7\n")
    arguments = ["--cfg", "job", "-p", "model", "model=new", f"hydra.searchpath=[file://{user}/mine]"]
    call(lambda cfg: None, *arguments, name="train")
    shown = OmegaConf.create(capsys.readouterr().out.partition("\n")[2])  # the first line names the part
    assert shown == {"_target_": "somewhere.Model", "width": 7}


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError, OSError, ImportError])
def test_errors_of_the_user_are_one_line(
    call: Call, error: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    def task(cfg: DictConfig) -> None:
        raise error("a.tar: broken\nat byte 7")

    with pytest.raises(SystemExit) as failed:
        call(task)
    assert expect_line(capsys, failed) == "error: a.tar: broken; at byte 7\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["labell=x"], "labell"),
        (["model=nothing"], "model"),
        (["source=[a"], "[a"),
        (["--config-name=nothing"], "nothing"),
    ],
)
def test_what_hydra_refuses_is_one_line(
    call: Call, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as failed:
        call(lambda cfg: None, *arguments)
    assert expected in expect_line(capsys, failed)


def test_an_unknown_option_of_a_group_lists_the_ones_there_are(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as failed:
        call(lambda cfg: None, "model=shnet", name="train")
    line = expect_line(capsys, failed)
    assert "shnet" in line
    assert "did you mean model=schnet? expected one of free_atoms, orbital" in line
    assert line.rstrip().endswith("schnet_released, superposition")


def test_characters_that_a_terminal_lacks_are_written_as_the_nearest(tmp_path: Path) -> None:
    for encoding, expected in (("ascii", "|rho - rho^|"), ("iso-8859-1", "Å³"), ("utf-8", "|ρ - ρ̂|")):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        name = "generate" if "Å" in expected else "train"
        command = [sys.executable, "-m", f"deepdft.cli.{name}", "--help"]
        result = subprocess.run(command, capture_output=True, env=environment, check=True)
        assert expected in result.stdout.decode(encoding)


def test_what_a_command_does_not_need_is_not_imported() -> None:
    for name in ("convert", "evaluate", "generate", "predict", "report", "train", "view"):
        code = f"import sys, deepdft.cli.{name} as m; sys.argv = ['x', '--help']; m.main()\n"
        code += (
            "heavy = {'torch', 'numba', 'ase', 'h5py', 'matplotlib', 'pytorch_lightning', 'scipy'} & set(sys.modules)"
        )
        code += "\nassert not heavy, heavy"
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)


def test_a_missing_value_is_named(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as failed:
        call(lambda cfg: cfg.source)
    assert expect_line(capsys, failed).startswith("error: source=… is required")


@pytest.mark.parametrize(
    ("name", "given", "reported"),
    [
        ("convert", "output", "it is required; --help shows what it means"),
        ("convert", "source", "it is required; --help shows what it means"),
        ("generate", "output", "it is required; --help shows what it means"),
        ("predict", "fields", "expected a list, as fields=[]"),
        ("evaluate", "trusted", "expected a list, as trusted=[]"),
        ("generate", "xc", "expected a list, as xc=[PBE]"),
    ],
)
def test_null_is_refused_where_there_must_be_something(
    call: Call, user: Path, name: str, given: str, reported: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as failed:
        call(lambda cfg: None, f"{given}=null", name=name)
    assert expect_line(capsys, failed) == f"error: {given}=null: {reported}\n"
    call(lambda cfg: None, name=name)  # a task that does not read it


def test_a_constructor_that_refuses_its_arguments_speaks_for_itself(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    target = {"_target_": "deepdft.data.writer.Compression", "name": "gzip"}
    with pytest.raises(SystemExit) as failed:
        call(lambda cfg: instantiate({"outer": {"inner": target}, "_target_": "builtins.dict"}))
    assert expect_line(capsys, failed).startswith("error: compression=gzip: expected one of none, ")


def test_a_bug_of_ours_keeps_its_traceback(call: Call) -> None:
    with pytest.raises(ZeroDivisionError):
        call(lambda cfg: 1 / 0)


@pytest.mark.parametrize("variable", ["DEEPDFT_DEBUG", "HYDRA_FULL_ERROR"])
def test_tracebacks_can_be_asked_for(call: Call, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(FileNotFoundError):
        call(lambda cfg: Path("nothing").read_text())


@pytest.mark.parametrize("value", [None, "1"])
def test_the_task_and_its_processes_see_the_environment_of_the_user(
    call: Call, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv("HYDRA_FULL_ERROR", value)
    seen: list[str | None] = []
    call(lambda cfg: seen.append(os.environ.get("HYDRA_FULL_ERROR")))
    assert [*seen, os.environ.get("HYDRA_FULL_ERROR")] == [value, value]


def test_ctrl_c_says_how_to_continue(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def task(cfg: DictConfig) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys, "argv", ["deepdft-convert"])
    with pytest.raises(SystemExit) as ended:
        hydra_command("convert", interrupted="resume=DIR")(task)()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted; to continue: resume=DIR\n"


def test_an_entry_point_gives_back_what_it_returns() -> None:
    assert one_line_errors(lambda: 3)() == 3


def test_an_error_without_words_is_named_by_its_kind() -> None:
    assert one_line(OSError()) == "OSError"


def test_configs_lie_in_the_installed_package_or_beside_it(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepdft, "__file__", str(user / "deepdft" / "__init__.py"))
    with pytest.raises(FileNotFoundError, match=r"the configs .* are missing beside the package"):
        config_directory()
    for folder in (user / "conf", user / "deepdft" / "conf"):  # a checkout, then an installed wheel
        folder.mkdir(parents=True)
        (folder / "train.yaml").touch()
        assert config_directory() == folder
    assert Path(deepdft.__file__).parent == user / "deepdft"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "deepdft.cli.generate", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # before the first word
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


def test_a_pipe_that_breaks_elsewhere_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    @one_line_errors
    def broken() -> None:
        raise BrokenPipeError(32, "Broken pipe")  # of a worker, or of the service of a logger

    with pytest.raises(SystemExit) as stop:
        broken()
    assert stop.value.code == 1
    assert capfd.readouterr().err == "error: [Errno 32] Broken pipe\n"


@pytest.mark.parametrize("name", ["train", "evaluate", "predict"])
def test_products_have_the_precision_that_is_asked_for_while_the_command_runs(call: Call, name: str) -> None:
    found = []

    def task(cfg: DictConfig) -> None:
        found.append(torch.get_float32_matmul_precision())

    before = torch.get_float32_matmul_precision()
    call(task, name=name)
    call(task, "matmul_precision=medium", name=name)
    assert found == ["highest", "medium"]
    assert torch.get_float32_matmul_precision() == before


def test_a_precision_that_there_is_not_is_refused(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call(lambda cfg: None, "matmul_precision=bf16", name="predict")
    assert "matmul_precision=bf16: expected one of highest, high, medium" in capsys.readouterr().err


def test_keys_that_the_command_line_adds_are_read_or_refused(
    call: Call, user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[int] = []

    def task(cfg: DictConfig) -> None:
        found.append(cfg.model.hidden_size)

    (user / "mine" / "experiment").mkdir(parents=True)
    (user / "mine" / "experiment" / "wide.yaml").write_text(
        "# @package _global_\nwidth: 24\nmodel: {hidden_size: '${width}'}\n"
    )
    call(task, "+n=16", "model.hidden_size=${n}", name="train")
    call(task, "--config-dir", str(user / "mine"), "experiment=wide", name="train")
    assert found == [16, 24]
    with pytest.raises(SystemExit):
        call(task, "+n=16", name="train")
    assert "there is no option 'n': --help explains" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        call(task, "trainer.max_step=3", name="train")
    assert "there is no option 'trainer.max_step': did you mean trainer.max_steps? " in capsys.readouterr().err
    assert found == [16, 24]


@pytest.mark.parametrize(
    ("name", "key", "meant"),
    [
        ("train", "trainer.max_step", "trainer.max_steps"),
        ("train", "model.hiden_size", "model.hidden_size"),
        ("train", "data.structure_per_step", "data.structures_per_step"),
        ("train", "mdoel.hidden_size", "model.hidden_size"),
        ("train", "callbacks.best.moniter", "callbacks.best.monitor"),
        ("train", "trainr", "trainer"),
        ("convert", "spilt", "split"),
    ],
)
def test_the_key_that_was_meant_is_named(
    call: Call, name: str, key: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as failed:
        call(lambda cfg: None, f"{key}=3", name=name)
    assert f"there is no option '{key}': did you mean {meant}? --help" in expect_line(capsys, failed)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("evaluate", "structure"),
        ("train", "experiment.loss"),
        ("train", "model.structures_per_step"),
        ("train", "seed.first"),
        ("train", "init.path"),
    ],
)
def test_a_key_like_no_other_is_no_other(call: Call, name: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as failed:
        call(lambda cfg: None, f"{key}=3", name=name)
    assert f"there is no option '{key}': --help" in expect_line(capsys, failed)
