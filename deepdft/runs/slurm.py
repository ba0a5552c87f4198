"""Runs under SLURM: detection of its tasks, and requeueing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from deepdft.evaluation.process_count import slurm_tasks

__all__ = ["cluster_environment", "requeue"]


class _SrunTasks(SLURMEnvironment):
    """Tasks of srun, requested in any way (Lightning refuses --ntasks without --ntasks-per-node)."""

    @staticmethod
    def _validate_srun_variables() -> None:
        """`cluster_environment` has compared them with the devices."""

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """`cluster_environment` has compared them with the tasks."""

    def world_size(self) -> int:
        """Tasks of the job step; a job may have several steps."""
        return slurm_tasks()


def cluster_environment(trainer: Mapping[str, Any]) -> ClusterEnvironment | None:
    """The environment that connects the processes of a run; None leaves it to Lightning, which takes SLURM for srun.

    Args:
        trainer: settings of the trainer.

    Raises:
        ValueError: if SLURM has started another number of processes than there are devices.
    """
    tasks = slurm_tasks()
    if tasks > 1:
        devices, nodes = trainer["devices"], int(trainer.get("num_nodes") or 1)
        per_node = len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdecimal() else None
        if per_node is not None and per_node * nodes != tasks:
            raise ValueError(
                f"SLURM has started {tasks} tasks of this command, but trainer.devices={devices} on {nodes} node"
                f"{'s' if nodes > 1 else ''}: one run of {tasks} processes needs trainer=ddp trainer.devices=<tasks "
                "per node> (and +trainer.num_nodes=<nodes>); a run of one process, srun --ntasks=1"
            )
        return _SrunTasks(auto_requeue=False)
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    return LightningEnvironment() if "SLURM_NTASKS" in os.environ else None


def requeue() -> None:
    """Put the SLURM job of this process back into the queue, and report it; does nothing outside SLURM."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    except OSError as error:
        print(f"warning: job {job} was not requeued: scontrol: {error.strerror}", file=sys.stderr)
        return
    if done.returncode:
        print(f"warning: job {job} was not requeued: {' '.join(done.stderr.split())}", file=sys.stderr)
    else:
        print(f"requeued SLURM job {job}", file=sys.stderr)
