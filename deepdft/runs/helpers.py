"""The cluster that a config asks for."""

from __future__ import annotations

from hydra.utils import instantiate
from omegaconf import DictConfig

from deepdft.clusters import InProcess, Workers

__all__ = ["workers_of"]


def workers_of(cfg: DictConfig) -> Workers | None:
    """What runs tasks elsewhere, from the group `cluster`; None of cluster=none, which leaves it to the command."""
    workers: Workers = instantiate(cfg.cluster, _convert_="all")
    return None if isinstance(workers, InProcess) else workers
