"""Ctrl-C while other processes work for this one."""

import signal
import threading

import pytest

from deepdft.data.workers import sigint_deferred


def test_ctrl_c_is_raised_where_it_is_checked_and_only_once() -> None:
    steps = []

    def work() -> None:
        with sigint_deferred() as check_interrupt:
            check_interrupt()
            signal.raise_signal(signal.SIGINT)
            steps.append("not yet")
            try:
                check_interrupt()
                steps.append("too late")
            finally:
                signal.raise_signal(signal.SIGINT)  # impatience
                check_interrupt()
                steps.append("ended in peace")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["not yet", "ended in peace"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_that_nobody_checked_is_raised_at_the_end() -> None:
    steps = []

    def work() -> None:
        with sigint_deferred():
            signal.raise_signal(signal.SIGINT)
            steps.append("done")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["done"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_goes_before_ctrl_c() -> None:
    def work() -> None:
        with sigint_deferred():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("worse")

    with pytest.raises(ValueError, match="worse"):
        work()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_meaning_of_ctrl_c_and_other_threads_are_left_alone() -> None:
    seen = []

    def in_a_thread() -> None:
        with sigint_deferred() as check_interrupt:
            check_interrupt()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]

    calls = []
    before = signal.signal(signal.SIGINT, lambda *_: calls.append("theirs"))
    try:
        with sigint_deferred() as check_interrupt:
            signal.raise_signal(signal.SIGINT)
            check_interrupt()
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls == ["theirs"]
