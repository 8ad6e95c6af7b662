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
