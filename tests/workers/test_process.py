"""The watchdog ends a process whose loop hangs."""

from workers.process import Watchdog


def test_a_hanging_loop_ends_its_process():
    exit_statuses: list[int] = []
    watchdog = Watchdog("test", 3, exit_statuses.append)
    for _ in range(3):
        watchdog.tick()
    watchdog.beat()
    for _ in range(3):
        watchdog.tick()
    assert exit_statuses == []
    watchdog.tick()
    assert exit_statuses == [1]
