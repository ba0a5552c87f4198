"""The queue: order, cancelling, bounds."""

import threading
import time
from dataclasses import dataclass

import pytest

from deepdft.viewer.work import BusyError, Jobs


@dataclass
class Result:
    value: int
    n_bytes: int = 10


@pytest.fixture
def jobs():
    made = Jobs(max_waiting=3, max_kept=4, max_kept_bytes=1000, max_seconds=30)
    yield made
    made.close()


def blocked(jobs):
    """A job under way that ends when the event is set, or when it is cancelled."""
    release, started = threading.Event(), threading.Event()

    def task(progress):
        started.set()
        while not release.wait(0.01):
            progress(0.5)
        return Result(0)

    job = jobs.submit(task)
    assert started.wait(10)
    return job, release


def test_tasks_are_done_one_at_a_time_in_the_order_they_came(jobs):
    first, release = blocked(jobs)
    done = []
    rest = [jobs.submit(lambda _, i=i: done.append(i) or Result(i)) for i in range(3)]
    assert [jobs.ahead(job) for job in rest] == [1, 2, 3]
    assert not done
    release.set()
    assert all(job.finished.wait(10) for job in [first, *rest])
    assert done == [0, 1, 2]
    assert [job.result.value for job in rest] == [0, 1, 2]


def test_a_full_queue_refuses_and_takes_again_later(jobs):
    job, release = blocked(jobs)
    for _ in range(3):
        jobs.submit(lambda _: Result(1))
    with pytest.raises(BusyError, match="3 predictions are waiting"):
        jobs.submit(lambda _: Result(1))
    release.set()
    assert job.finished.wait(10)
    last = jobs.submit(lambda _: Result(7))
    assert last.finished.wait(10)
    assert last.result.value == 7


def test_a_job_is_cancelled_in_the_queue_and_under_way(jobs):
    running, _ = blocked(jobs)
    waiting = jobs.submit(lambda _: pytest.fail("a cancelled task was started"))
    jobs.cancel(waiting)
    assert waiting.state == "cancelled"
    jobs.cancel(running)
    assert running.finished.wait(10)
    assert running.state == "cancelled"
    assert jobs.submit(lambda _: Result(1)).finished.wait(10)


def test_a_task_that_takes_too_long_is_ended():
    jobs = Jobs(max_waiting=3, max_kept=4, max_kept_bytes=1000, max_seconds=0.05)
    try:

        def task(progress):
            while True:
                time.sleep(0.01)
                progress(0.1)

        job = jobs.submit(task)
        assert job.finished.wait(10)
        assert (job.state, "longer than 0.05 s" in job.error) == ("failed", True)
    finally:
        jobs.close()


def test_errors_of_the_visitor_are_told_and_faults_of_ours_are_not(jobs, capsys):
    def broken(_):
        raise ValueError("no such\n grid")

    def fault(_):
        raise AttributeError("secret/path")

    told, hidden = jobs.submit(broken), jobs.submit(fault)
    assert told.finished.wait(10)
    assert hidden.finished.wait(10)
    assert told.error == "no such grid"
    assert "secret" not in hidden.error
    assert "secret/path" in capsys.readouterr().err


@pytest.mark.parametrize(("kept", "size"), [(4, 1), (2, 500)])
def test_the_oldest_results_are_dropped(jobs, kept, size):
    made = [jobs.submit(lambda _, i=i: Result(i, size)) for i in range(3)]
    assert made[-1].finished.wait(10)
    made += [jobs.submit(lambda _, i=i: Result(i, size)) for i in range(3, 6)]
    assert made[-1].finished.wait(10)
    time.sleep(0.05)  # dropping follows finishing
    for job in made[:-kept]:
        with pytest.raises(KeyError):
            jobs.get(job.id)
    for job in made[-kept:]:
        assert jobs.get(job.id) is job
