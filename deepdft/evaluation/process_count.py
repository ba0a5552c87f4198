"""How many processes of a command have been started, read from the environment; light, so that --help is fast."""

from __future__ import annotations

import os

__all__ = ["n_processes", "slurm_tasks"]

INTERACTIVE = ("bash", "interactive")
"""Names of SLURM jobs that are a shell in which commands are started by hand."""


def slurm_tasks() -> int:
    """How many processes of this command SLURM has started; 1 in a shell of a job, whatever it has reserved."""
    by_hand = "SLURM_PROCID" not in os.environ or os.environ.get("SLURM_JOB_NAME") in INTERACTIVE
    if by_hand or "LOCAL_RANK" in os.environ or "WORLD_SIZE" in os.environ:
        return 1  # of torchrun, or started by the first process
    return int(os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("SLURM_NTASKS") or "1")


def n_processes() -> int:
    """How many processes of this command torchrun or SLURM has started."""
    return max(slurm_tasks(), int(os.environ.get("WORLD_SIZE", "1")))
