"""Few requests do expensive work at once; the others keep threads and connections free."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from threading import BoundedSemaphore
from typing import Any

import pytest

from api.http import admission
from api.http.admission import Busy, Shared, slot
from tests.makers import until

REQUESTS = 24


@pytest.fixture
def slow() -> "Slow":
    return Slow()


class Slow:
    """A computation that lasts until `finish`."""

    def __init__(self) -> None:
        self.begun, self._finished = 0, threading.Event()

    def __call__(self) -> int:
        self.begun += 1
        assert self._finished.wait(60)
        return self.begun

    def finish(self) -> None:
        self._finished.set()


def start_all(pool: ThreadPoolExecutor, call: Callable[[], int]) -> list[Future[int]]:
    return [pool.submit(call) for _ in range(REQUESTS)]


def refused_count(futures: list[Future[int]]) -> int:
    return sum(future.done() and isinstance(future.exception(), Busy) for future in futures)


def test_few_of_many_requests_wait_and_the_others_are_refused_at_once(slow, monkeypatch):
    monkeypatch.setattr(admission, "SLOT_WAIT_S", 60)
    shared = Shared(slow)
    with ThreadPoolExecutor(REQUESTS) as pool:
        futures = start_all(pool, shared.get)
        # One computes and a few wait; all others are refused before the computation ends.
        until(lambda: refused_count(futures) == REQUESTS - 1 - admission.MAX_LONG_WAITS)
        assert slow.begun == 1
        slow.finish()
        results = [future.result() for future in futures if not future.exception()]
    # Those that waited arrived after the first computation began: a second one serves all of them.
    assert sorted(results) == [1, 2, 2, 2, 2]


def test_a_quick_computation_serves_all_requests_that_arrive_together(monkeypatch):
    # What is quick may still be interrupted on a loaded machine.
    for name in ("SLOT_WAIT_S", "CROWDED_SLOT_WAIT_S"):
        monkeypatch.setattr(admission, name, 60)
    made = count()
    began = threading.Barrier(REQUESTS)

    def call() -> int:
        began.wait(60)
        return shared.get()

    shared = Shared(lambda: next(made))
    with ThreadPoolExecutor(REQUESTS) as pool:
        results = [future.result() for future in start_all(pool, call)]
    assert len(results) == REQUESTS


def test_a_request_gets_no_result_whose_computation_began_before_it():
    made = count()
    shared = Shared(lambda: next(made))
    assert [shared.get(), shared.get()] == [0, 1]


def test_a_fresh_result_serves_later_requests():
    made = count()
    shared = Shared(lambda: next(made), fresh=lambda _took: 60)
    assert [shared.get(), shared.get()] == [0, 0]


def test_a_failed_computation_does_not_block_the_next():
    outcomes: list[Any] = [RuntimeError("failed"), 7]

    def make() -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return int(outcome)

    shared = Shared(make)
    with pytest.raises(RuntimeError):
        shared.get()
    assert shared.get() == 7


def test_slots_admit_no_more_than_their_count(slow, monkeypatch):
    monkeypatch.setattr(admission, "SLOT_WAIT_S", 60)
    two = BoundedSemaphore(2)

    def call() -> int:
        with slot(two):
            return slow()

    with ThreadPoolExecutor(REQUESTS) as pool:
        futures = start_all(pool, call)
        until(lambda: refused_count(futures) == REQUESTS - 2 - admission.MAX_LONG_WAITS)
        assert slow.begun == 2
        slow.finish()
        assert sum(not future.exception() for future in futures) == 2 + admission.MAX_LONG_WAITS
