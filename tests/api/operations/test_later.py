"""What many requests leave behind is done once for all of them."""

import threading
from types import SimpleNamespace

from api.operations import later as later_module
from api.operations.later import Later
from tests.makers import until


def test_requests_of_one_moment_are_served_together(monkeypatch):
    done: list[int] = []
    left: list[int] = []
    slept: list[float] = []
    may_go_on = threading.Semaphore(0)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        assert may_go_on.acquire(timeout=60)

    # The moment lasts until the test ends it, however slow the machine is.
    monkeypatch.setattr(later_module, "time", SimpleNamespace(sleep=sleep))
    later = Later(lambda: done.append(len(left)), 0.2)
    for number in range(3):
        left.append(number)
        later.request()
    may_go_on.release()
    until(lambda: done)
    assert (done, slept) == ([3], [0.2])
    left.append(3)
    later.request()
    may_go_on.release()
    until(lambda: len(done) == 2)
    assert done == [3, 4]


def test_work_that_failed_once_is_done_again():
    done: list[int] = []

    def work() -> None:
        done.append(len(done))
        if len(done) == 1:
            raise OSError("no space left")

    later = Later(work, 0.01)
    later.request()
    until(lambda: len(done) == 1)
    later.request()
    until(lambda: len(done) == 2)
