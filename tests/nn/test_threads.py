"""Pieces of work on threads of their own."""

from collections.abc import Iterator

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


def test_a_failure_is_the_caller_s_and_threads_are_given_back(n_threads: int) -> None:
    with pytest.raises(ZeroDivisionError):
        in_parallel(lambda i: 1 / (3 - i), range(5))
    assert torch.get_num_threads() == n_threads
