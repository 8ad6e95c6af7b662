"""A process whose loop hangs ends itself."""

from workers.process import Pulse


def test_a_loop_that_hangs_ends_its_process():
    ended: list[int] = []
    pulse = Pulse("test", 3, ended.append)
    for _ in range(3):
        pulse.look()
    pulse.beat()
    for _ in range(3):
        pulse.look()
    assert ended == []
    pulse.look()
    assert ended == [1]
