"""Processes started by SLURM are joined or refused, according to its variables alone."""

import os
import sys
from pathlib import Path

import pytest
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from deepdft.evaluation.process_count import n_processes, slurm_tasks
from deepdft.runs.compose import compose
from deepdft.runs.slurm import cluster_environment, requeue

SRUN = {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0",
}


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch):
    """Set the variables of a job and no others of SLURM or torchrun."""

    def set_variables(**variables: str) -> None:
        for name in list(os.environ):
            if name.startswith("SLURM_") or name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    set_variables()
    return set_variables


def test_the_trainer_takes_nodes_and_tasks_from_srun(slurm) -> None:
    slurm(**SRUN | {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2"})
    trainer = compose("train", overrides=["trainer=slurm", "data.root=x"]).trainer
    assert (trainer.devices, trainer.num_nodes) == (4, 2)
    assert isinstance(cluster_environment(trainer), SLURMEnvironment)
    slurm()
    trainer = compose("train", overrides=["trainer=slurm", "data.root=x"]).trainer
    assert (trainer.devices, trainer.num_nodes) == (1, 1)


def test_tasks_of_srun_are_one_run_on_as_many_devices(slurm) -> None:
    slurm(**SRUN)
    assert slurm_tasks() == n_processes() == 2
    environment = cluster_environment({"devices": 2})
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue, "states are kept in one way, which is ours"


@pytest.mark.parametrize("devices", [1, "1", [0], 4])
def test_tasks_that_would_each_be_a_run_are_refused(slurm, devices) -> None:
    slurm(**SRUN)
    with pytest.raises(ValueError, match=r"SLURM has started 2 tasks of this command, but trainer\.devices"):
        cluster_environment({"devices": devices})


def test_a_step_has_as_many_tasks_as_it_was_started_with(slurm) -> None:
    slurm(**SRUN | {"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"})
    assert slurm_tasks() == 1
    assert isinstance(cluster_environment({"devices": 1}), LightningEnvironment)


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "77"},  # salloc
        SRUN | {"SLURM_JOB_NAME": "interactive", "SLURM_PROCID": "0"},  # srun --pty bash
        SRUN | {"LOCAL_RANK": "1"},  # started by the first process
    ],
)
def test_a_shell_of_a_job_is_one_process(slurm, variables: dict[str, str]) -> None:
    slurm(**variables)
    assert slurm_tasks() == 1
    assert isinstance(cluster_environment({"devices": 1}), LightningEnvironment)


def test_outside_of_slurm_nothing_is_assumed(slurm) -> None:
    assert slurm_tasks() == n_processes() == 1
    assert cluster_environment({"devices": 1}) is None
    requeue()


@pytest.mark.parametrize(
    ("more", "job"), [({}, "77"), ({"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"}, "70_3")]
)
def test_a_job_is_requeued(slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more, job: str) -> None:
    slurm(SLURM_JOB_ID="77", **more)
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(tmp_path / 'reported')!r}, 'w').write(str(sys.argv[1:]))"
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    requeue()
    assert (tmp_path / "reported").read_text() == str(["requeue", job])


def test_a_job_that_cannot_be_requeued_is_a_line(slurm, monkeypatch, capsys: pytest.CaptureFixture) -> None:
    slurm(SLURM_JOB_ID="77")
    monkeypatch.setenv("PATH", "")
    requeue()
    assert capsys.readouterr().err == "warning: job 77 was not requeued: scontrol: No such file or directory\n"
