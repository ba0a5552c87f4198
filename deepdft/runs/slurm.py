"""Runs under SLURM: who started how many processes, and requeueing."""

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

__all__ = ["cluster_environment", "requeue", "slurm_tasks"]

INTERACTIVE = ("bash", "interactive")
"""Names of jobs that are a shell in which commands are started by hand."""


def slurm_tasks() -> int:
    """How many processes of this command SLURM has started; 1 in a shell of a job, whatever it has reserved."""
    by_hand = "SLURM_PROCID" not in os.environ or os.environ.get("SLURM_JOB_NAME") in INTERACTIVE
    if by_hand or "LOCAL_RANK" in os.environ or TorchElasticEnvironment.detect():
        return 1  # of torchrun, or started by the first process
    return int(os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("SLURM_NTASKS") or "1")


def cluster_environment(trainer: Mapping[str, Any]) -> ClusterEnvironment | None:
    """What joins the processes of a run; None leaves it to Lightning, which takes any SLURM variable for srun.

    Args:
        trainer: settings of the trainer.

    Raises:
        ValueError: if SLURM has started another number of processes than there are devices.
    """
    tasks = slurm_tasks()
    if tasks > 1:
        devices, nodes = trainer["devices"], int(trainer.get("num_nodes") or 1)
        per_node = devices if isinstance(devices, int) else len(devices) if isinstance(devices, list) else None
        if per_node is not None and per_node >= 0 and per_node * nodes != tasks:
            raise ValueError(
                f"SLURM has started {tasks} tasks of this command, but trainer.devices={devices} on {nodes} node"
                f"{'s' if nodes > 1 else ''}: one run of {tasks} processes needs trainer=ddp trainer.devices=<tasks "
                "per node> (and +trainer.num_nodes=<nodes>); a run of one process, srun --ntasks=1"
            )
        return SLURMEnvironment(auto_requeue=False)
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    return LightningEnvironment() if "SLURM_NTASKS" in os.environ else None


def requeue() -> None:
    """Put the SLURM job of this process back into the queue, and say so; nothing happens outside of SLURM."""
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
