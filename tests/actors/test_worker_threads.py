"""A worker whose threads all hang is known by it."""

import threading
from collections.abc import Iterator

import pytest

from actors import worker_threads
from actors.worker_threads import WorkerThreads
from tests.makers import until


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """Set, it lets everything that hangs go on."""
    event = threading.Event()
    yield event
    event.set()


def busy(
    threads: WorkerThreads, hang: threading.Event, many: int, part: threading.Event | None = None
) -> None:
    """So many of its threads have a job in hand, at which they do not get on before that."""
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


def looks(threads: WorkerThreads, many: int = 5) -> int:
    return [threads.check() for _ in range(many)][-1]


def test_threads_that_all_hang_are_seen_and_count_on_until_one_gets_on(hang):
    threads = WorkerThreads(2)
    busy(threads, hang, 2)
    assert [threads.check() for _ in range(4)] == [0, 1, 2, 3]
    hang.set()
    until(lambda: threads.check() == 0)


def test_as_long_as_one_is_idle_none_hangs(hang):
    threads = WorkerThreads(3)
    busy(threads, hang, 2)
    assert looks(threads) == 0


def test_one_that_does_a_long_job_in_parts_does_not_hang(hang):
    threads, part = WorkerThreads(2), threading.Event()
    busy(threads, hang, 1)
    busy(threads, hang, 1, part)
    assert looks(threads) == 4
    part.set()
    until(lambda: not part.is_set())
    assert threads.check() == 0


def test_one_thread_alone_may_have_a_long_job(hang):
    threads = WorkerThreads(1)
    busy(threads, hang, 1)
    assert looks(threads) == 0
