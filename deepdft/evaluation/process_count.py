"""Number of processes of a command, from the environment; imports little, so that --help is fast."""

from __future__ import annotations

import os

__all__ = ["n_processes", "slurm_tasks"]

INTERACTIVE = ("bash", "interactive")
"""Names of SLURM jobs that are interactive shells."""


def slurm_tasks() -> int:
    """Number of processes of this command that SLURM has started; 1 in a shell of a job, whatever it has reserved."""
    by_hand = "SLURM_PROCID" not in os.environ or os.environ.get("SLURM_JOB_NAME") in INTERACTIVE
    if by_hand or "LOCAL_RANK" in os.environ or "WORLD_SIZE" in os.environ:
        return 1  # set by torchrun, or by the first process for those that it starts
    return int(os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("SLURM_NTASKS") or "1")


def n_processes() -> int:
    """Number of processes of this command that torchrun or SLURM has started."""
    return max(slurm_tasks(), int(os.environ.get("WORLD_SIZE", "1")))
