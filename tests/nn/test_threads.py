"""Pieces of work on threads of their own."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from deepdft.nn.threads import in_parallel


@pytest.fixture(params=[1, 3], autouse=True)
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_are_in_the_order_of_the_items() -> None:
    assert in_parallel(lambda i: i * i, range(50)) == [i * i for i in range(50)]
    assert in_parallel(lambda i: i, []) == []


def test_operations_have_one_thread_while_it_lasts(n_threads: int) -> None:
    assert in_parallel(lambda _: torch.get_num_threads(), range(5)) == [1] * 5
    assert torch.get_num_threads() == n_threads


def test_gradients_are_recorded_where_the_caller_records_them() -> None:
    x = torch.ones(2, requires_grad=True)
    assert [y.requires_grad for y in in_parallel(lambda i: i * x, range(4))] == [True] * 4
    with torch.no_grad():
        assert [y.requires_grad for y in in_parallel(lambda i: i * x, range(4))] == [False] * 4


def test_inference_mode_and_lower_precision_hold_on_all_threads() -> None:
    weight = torch.ones(3, 3)
    with torch.inference_mode():
        assert all(tensor.is_inference() for tensor in in_parallel(lambda _: weight @ weight, range(4)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert {tensor.dtype for tensor in in_parallel(lambda _: weight @ weight, range(4))} == {torch.bfloat16}
    assert {tensor.dtype for tensor in in_parallel(lambda _: weight @ weight, range(4))} == {torch.float32}


def test_items_may_be_made_while_others_are_worked_on() -> None:
    assert in_parallel(lambda i: -i, (i for i in range(7))) == [0, -1, -2, -3, -4, -5, -6]


def test_within_an_item_and_beside_another_call_items_follow_one_another() -> None:
    def nested(i: int) -> list[int]:
        return in_parallel(lambda j: 10 * i + j, range(3))

    expected = [[10 * i + j for j in range(3)] for i in range(6)]
    with ThreadPoolExecutor(3) as callers:
        calls = [callers.submit(in_parallel, nested, range(6)) for _ in range(30)]
        found = [call.result(timeout=60) for call in calls]
    assert found == [expected] * 30
    assert in_parallel(nested, range(6)) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    assert in_parallel(lambda i: i, range(5)) == list(range(5))
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # it would wait for ever for threads it does not have
        os._exit(0 if in_parallel(lambda i: i, range(5)) == list(range(5)) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_after_a_failure_nothing_is_started_or_still_running() -> None:
    done = []

    def item(i: int) -> None:
        if i == 1:
            raise ZeroDivisionError
        time.sleep(0.01)
        done.append(i)

    with pytest.raises(ZeroDivisionError):
        in_parallel(item, range(100))
    count = len(done)
    time.sleep(0.1)
    assert len(done) == count < 20


def test_a_failure_is_the_caller_s_and_threads_are_given_back(n_threads: int) -> None:
    with pytest.raises(ZeroDivisionError):
        in_parallel(lambda i: 1 / (3 - i), range(5))
    assert torch.get_num_threads() == n_threads
