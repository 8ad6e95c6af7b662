"""What is expensive is made by few at once, and shared: others find a thread and a connection."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any

import falcon.testing
import pytest

from api.http import admission
from api.http.admission import Busy, Seats, Shared
from tests.makers import until

MANY = 24


@pytest.fixture
def slow() -> "Slow":
    return Slow()


class Slow:
    """A computation that takes until it is let go."""

    def __init__(self) -> None:
        self.begun, self._go = 0, threading.Event()

    def __call__(self) -> int:
        self.begun += 1
        assert self._go.wait(60)
        return self.begun

    def go(self) -> None:
        self._go.set()


def at_once(pool: ThreadPoolExecutor, ask: Callable[[], int]) -> list[Future[int]]:
    return [pool.submit(ask) for _ in range(MANY)]


def refused(futures: list[Future[int]]) -> int:
    return sum(it.done() and isinstance(it.exception(), Busy) for it in futures)


def test_of_many_who_ask_at_once_few_wait_and_the_others_give_their_thread_back(slow, monkeypatch):
    monkeypatch.setattr(admission, "TURN_S", 60)
    shared = Shared(slow)
    with ThreadPoolExecutor(MANY) as pool:
        futures = at_once(pool, shared.get)
        # One makes it, a few wait, and all others were refused while it is still being made.
        until(lambda: refused(futures) == MANY - 1 - admission.MAX_PATIENT)
        assert slow.begun == 1
        slow.go()
        results = [it.result() for it in futures if not it.exception()]
    # Those who waited had asked after the first began: one more serves all of them.
    assert sorted(results) == [1, 2, 2, 2, 2]


def test_what_is_made_quickly_serves_all_who_ask_at_once():
    made = count()
    began = threading.Barrier(MANY)

    def ask() -> int:
        began.wait(60)
        return shared.get()

    shared = Shared(lambda: next(made))
    with ThreadPoolExecutor(MANY) as pool:
        results = [it.result() for it in at_once(pool, ask)]
    assert len(results) == MANY


def test_nobody_gets_what_was_begun_before_they_asked():
    made = count()
    shared = Shared(lambda: next(made))
    assert [shared.get(), shared.get()] == [0, 1]


def test_a_result_serves_as_long_as_it_is_fresh():
    made = count()
    shared = Shared(lambda: next(made), fresh=lambda _took: 60)
    assert [shared.get(), shared.get()] == [0, 0]


def test_one_that_fails_lets_the_next_one_try():
    outcomes: list[Any] = [RuntimeError("away"), 7]

    def make() -> int:
        found = outcomes.pop(0)
        if isinstance(found, Exception):
            raise found
        return int(found)

    shared = Shared(make)
    with pytest.raises(RuntimeError):
        shared.get()
    assert shared.get() == 7


def test_so_many_take_a_seat_at_once_and_no_more(slow, monkeypatch):
    monkeypatch.setattr(admission, "TURN_S", 60)
    two = Seats(2)

    def ask() -> int:
        with two.one(falcon.testing.create_req()):
            return slow()

    with ThreadPoolExecutor(MANY) as pool:
        futures = at_once(pool, ask)
        until(lambda: refused(futures) == MANY - 2 - admission.MAX_PATIENT)
        assert slow.begun == 2
        slow.go()
        assert sum(not it.exception() for it in futures) == 2 + admission.MAX_PATIENT
