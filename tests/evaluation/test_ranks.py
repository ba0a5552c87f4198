"""Processes share structures without leaving one out or counting one twice."""

import os
import socket
import subprocess
import sys

import pytest

from deepdft.evaluation.ranks import Ranks, ranks


@pytest.mark.parametrize("n_items", [0, 1, 2, 7, 8])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_every_item_belongs_to_exactly_one_process(n_items, world_size):
    shares = [Ranks(rank, world_size).share(list(range(n_items))) for rank in range(world_size)]
    assert sorted(item for share in shares for item in share) == list(range(n_items))


def test_alone_there_is_nothing_to_gather(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with ranks() as me:
        assert (me.rank, me.world_size) == (0, 1)
        assert me.gather([1, 2]) == [1, 2]
        assert me.from_first("x") == "x"


def test_two_processes_gather_everything_and_agree_with_the_first():
    script = (
        "from deepdft.evaluation.ranks import ranks\n"
        "with ranks() as me:\n"
        "    first = me.from_first({'from': me.rank})\n"
        "    print(me.rank, first['from'], sorted(me.gather(list(me.share(range(7))))))\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    reported = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert reported == ["0 0 [0, 1, 2, 3, 4, 5, 6]", "1 0 [0, 1, 2, 3, 4, 5, 6]"]
