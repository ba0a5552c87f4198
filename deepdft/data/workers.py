"""What worker processes have in common: they end with the process that started them, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import threading

__all__ = ["end_with_parent"]


def end_with_parent(worker: int = 0) -> None:
    """Call it in a worker; without it, one that waits for work outlives a parent that was killed.

    Args:
        worker: its number, which a DataLoader gives to its `worker_init_fn`.
    """
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
