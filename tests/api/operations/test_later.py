"""What many requests leave behind is done once for all of them."""

from api.operations.later import Later
from tests.makers import until


def test_requests_of_one_moment_are_served_together():
    done: list[int] = []
    left: list[int] = []
    later = Later(lambda: done.append(len(left)), 0.2)
    for number in range(3):
        left.append(number)
        later.request()
    until(lambda: done)
    assert done == [3]
    left.append(3)
    later.request()
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
