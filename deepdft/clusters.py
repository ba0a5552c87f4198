"""Workers that run independent tasks: this process, others on this machine, SLURM jobs, or Dask (conf/cluster).

Tasks are coarse, and repeating one does no harm: they write their results to files, and find what is done already.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeVar

from deepdft.data.workers import sigint_blocked

__all__ = ["Address", "DaskWorkers", "InProcess", "Local", "Slurm", "Workers", "slurm_cluster"]

T = TypeVar("T", bound=Callable[[], Any])


class Workers(Protocol):
    """Runs tasks and yields each, in the order in which they end, with its result or the exception of a lost worker."""

    def __call__(self, tasks: Sequence[T]) -> Iterator[tuple[T, Any]]:
        """Run them."""


class InProcess:
    """Runs tasks one after the other in this process."""

    def __call__(self, tasks: Sequence[T]) -> Iterator[tuple[T, Any]]:
        """Run the tasks in their order."""
        for task in tasks:
            yield task, task()


SETTINGS: dict[str, Any] = {
    "distributed.scheduler.worker-saturation": 1.0,  # a killed worker takes down the task it runs, no queued one
    "distributed.scheduler.allowed-failures": 2,
    "distributed.scheduler.default-task-durations": {"task": "1h"},  # worth a worker each, from the start
    "distributed.worker.memory.target": False,  # nothing to spill: results are small
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,  # a paused worker may wait for ever
    "distributed.worker.memory.terminate": 0.95,
    "distributed.comm.timeouts.connect": "60s",
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _environment() -> dict[str, str]:
    """Environment of a worker that is started by a script."""
    memory = {key: value for key, value in SETTINGS.items() if key.startswith("distributed.worker.")}
    return ONE_THREAD | {f"DASK_{key.replace('.', '__').upper()}": str(value) for key, value in memory.items()}


class DaskWorkers(ABC):
    """Runs tasks on a Dask cluster; each worker runs one at a time.

    A task whose worker dies is restarted elsewhere, up to three times.
    """

    def __call__(self, tasks: Sequence[T]) -> Iterator[tuple[T, Any]]:
        """Run them; each comes back as it ends.

        Raises:
            ModuleNotFoundError: if Dask is not installed.
        """
        if not tasks:
            return
        try:
            import dask
            from dask.distributed import Client, as_completed

            logging.getLogger("distributed").setLevel(logging.ERROR)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "Dask is not installed: pip install 'deepdft-lightning[cluster]', or choose cluster=none"
            ) from error
        with dask.config.set(SETTINGS), self.start(len(tasks)) as cluster, Client(cluster) as client:
            by_key = {f"task-{number}-{secrets.token_hex(4)}": task for number, task in enumerate(tasks)}
            futures = client.map(_call, tasks, key=list(by_key), pure=False)
            for future in as_completed(futures):
                task = by_key[future.key]
                yield task, _outcome(future)
                future.release()

    @abstractmethod
    def start(self, n_tasks: int) -> Any:
        """A running Dask cluster."""


def _call(task: Callable[[], Any]) -> Any:
    return task()


def _outcome(future: Any) -> Any:
    from dask.distributed import KilledWorker

    error = future.exception()
    if isinstance(error, KilledWorker):
        return ChildProcessError("its worker was killed three times, perhaps for lack of memory or time")
    if error is not None:
        raise error
    return future.result()


class Local(DaskWorkers):
    """Processes on this machine.

    Args:
        workers: processes, or None for one on each core.
        dashboard: port on localhost of Dask's dashboard, or None.
    """

    def __init__(self, *, workers: int | None = None, dashboard: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers={workers}: expected at least 1")
        self.workers = workers or len(os.sched_getaffinity(0))
        self.dashboard = dashboard

    def start(self, n_tasks: int) -> Any:
        """A LocalCluster."""
        from dask.distributed import LocalCluster, Nanny

        class SingleThreaded(Nanny):
            """One thread for each worker's numerics, set before its Python starts."""

            pre_spawn_environ = ONE_THREAD

        with sigint_blocked():  # the cluster's thread and all workers it ever starts leave Ctrl-C to this process
            return LocalCluster(
                n_workers=min(self.workers, n_tasks),
                threads_per_worker=1,
                worker_class=SingleThreaded,
                host="127.0.0.1",
                dashboard_address=f"127.0.0.1:{self.dashboard or 0}",  # Dask always has a web server; 0: any free port
                local_directory=tempfile.gettempdir(),
                silence_logs=logging.ERROR,
            )


class Address(DaskWorkers):
    """Workers of a Dask scheduler that is running already, on any kind of cluster; they need this package too.

    Args:
        address: of the scheduler, e.g. tcp://node01:8786.
    """

    def __init__(self, *, address: str) -> None:
        self.address = address

    def start(self, n_tasks: int) -> Any:
        """The address, to which the client connects."""
        return nullcontext(self.address)


class Slurm(DaskWorkers):
    """Jobs of SLURM, each with one worker, as many as are allowed to run at once.

    The output folder must be on a file system that the jobs share with this process, which must live as long as they:
    start it on a login node in tmux, or as a small job of its own.

    Args:
        workers: jobs at once.
        walltime: of a job, hours:minutes:seconds; where it ends, its task is started again in another.
        memory: of a job, e.g. 8GB.
        queue: partition.
        account: to be charged.
        directives: further lines for the job script, e.g. ["--constraint=avx512"].
        prologue: shell lines before the worker starts, e.g. ["module load gcc"].
        log_directory: for what the jobs print.
    """

    def __init__(
        self,
        *,
        workers: int | None,
        walltime: str,
        memory: str,
        queue: str | None = None,
        account: str | None = None,
        directives: Sequence[str] = (),
        prologue: Sequence[str] = (),
        log_directory: str | None = None,
    ) -> None:
        if workers is None or workers < 1:
            raise ValueError("cluster=slurm needs workers=N, the number of jobs that may run at once")
        self.workers = workers
        self.job: Mapping[str, Any] = {
            "cores": 1,
            "processes": 1,
            "memory": memory,
            "walltime": walltime,
            "queue": queue,
            "account": account,
            "job_extra_directives": list(directives),
            "job_script_prologue": [*(f"export {name}={value}" for name, value in _environment().items()), *prologue],
            "log_directory": None if log_directory is None else str(Path(log_directory).absolute()),
        }

    def start(self, n_tasks: int) -> Any:
        """A SLURMCluster whose jobs are submitted."""
        cluster = slurm_cluster()(scheduler_options={"dashboard_address": None}, **self.job)
        cluster.adapt(minimum_jobs=1, maximum_jobs=min(self.workers, n_tasks))
        return cluster


def slurm_cluster() -> Any:
    """The class of dask-jobqueue, whose import makes Ctrl-C end the process as if all were done: not so here."""
    before = signal.getsignal(signal.SIGINT)
    from dask_jobqueue import SLURMCluster

    signal.signal(signal.SIGINT, before)
    return SLURMCluster
