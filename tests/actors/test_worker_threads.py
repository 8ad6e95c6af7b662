"""Detection of a worker whose threads all hang."""

import threading
from collections.abc import Iterator

import pytest

from actors import worker_threads
from actors.worker_threads import BusyThreads
from tests.makers import until


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """An event that ends all hanging jobs."""
    event = threading.Event()
    yield event
    event.set()


def busy(threads: BusyThreads, hang: threading.Event, many: int, part: threading.Event | None = None) -> None:
    """Starts this many jobs that hang; setting `part` makes one finish a part."""
    begun = threading.Semaphore(0)

    def perform(_id: str) -> None:
        begun.release()
        while not hang.wait(0.01):
            if part is not None and part.is_set():
                worker_threads.made_progress()
                part.clear()

    for _ in range(many):
        threading.Thread(target=threads.counted(perform), args=("",), daemon=True).start()
    for _ in range(many):
        assert begun.acquire(timeout=20)


def checks(threads: BusyThreads, many: int = 5) -> int:
    return [threads.check() for _ in range(many)][-1]


def test_checks_are_counted_while_all_threads_hang(hang):
    threads = BusyThreads(2)
    busy(threads, hang, 2)
    assert [threads.check() for _ in range(4)] == [0, 1, 2, 3]
    hang.set()
    until(lambda: threads.check() == 0)


def test_an_idle_thread_means_no_hang(hang):
    threads = BusyThreads(3)
    busy(threads, hang, 2)
    assert checks(threads) == 0


def test_a_job_that_finishes_a_part_does_not_hang(hang):
    threads, part = BusyThreads(2), threading.Event()
    busy(threads, hang, 1)
    busy(threads, hang, 1, part)
    assert checks(threads) == 4
    part.set()
    until(lambda: not part.is_set())
    assert threads.check() == 0


def test_a_single_thread_may_have_a_long_job(hang):
    threads = BusyThreads(1)
    busy(threads, hang, 1)
    assert checks(threads) == 0
