"""Requests are counted in windows: in Redis, and in memory while Redis is away."""

from concurrent.futures import ThreadPoolExecutor
from typing import cast
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from db import redis
from db.breaker import OPEN_S, Breaker
from db.rate_counters import KEY_PREFIX, MAX_KEYS_IN_MEMORY, MemoryCounter, SharedCounter, Window


@pytest.fixture
def redis_client(stores):
    client = redis.connect(stores["REDIS_URL"])
    for key in client.scan_iter(f"{KEY_PREFIX}*"):
        client.delete(key)
    return client


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class FakeRedis:
    """A Redis that does not answer, and the number of calls to it."""

    def __init__(self, clock):
        self.calls, self.away, self.breaker = 0, True, Breaker(clock)

    def register_script(self, _script):
        def run(keys, windows):
            self.calls += 1
            if self.away:
                raise redis.Unreachable("no answer")
            return [[1, window] for window in windows]

        return run


def test_parallel_requests_are_all_counted(redis_client):
    shared = SharedCounter(redis_client, MemoryCounter())
    with ThreadPoolExecutor(16) as pool:
        counts = list(pool.map(lambda _: shared.count([("{a}:api", 60)])[0].count, range(200)))
    assert sorted(counts) == list(range(1, 201))


def test_a_redis_that_does_not_answer_is_called_once_a_second():
    clock = Clock()
    client = FakeRedis(clock)
    shared = SharedCounter(cast(redis.Client, client), MemoryCounter(clock))
    with capture_logs() as lines:
        for _ in range(50):
            shared.count([("a", 60)])
        assert client.calls == 1
        clock.now += OPEN_S
        for _ in range(50):
            shared.count([("a", 60)])
        assert client.calls == 2
        client.away = False
        clock.now += OPEN_S
        assert shared.count([("a", 60)]) == [Window(1, 60.0)]
        shared.count([("a", 60)])
    assert client.calls == 4
    assert [line["event"] for line in lines] == ["redis unavailable, each process counts for itself"] * 2


def test_memory_counts_in_windows():
    clock = Clock()
    memory = MemoryCounter(clock)
    assert [memory.count([("a", 60), ("b", 5)]) for _ in range(2)][1] == [Window(2, 60.0), Window(2, 5.0)]
    clock.now += 5
    assert memory.count([("a", 60), ("b", 5)]) == [Window(3, 55.0), Window(1, 5.0)]


def test_memory_drops_the_oldest_keys_when_it_is_full():
    memory = MemoryCounter(max_keys=3)
    for n in range(10):
        memory.count([(str(n), 60)])
    assert len(memory._windows) == 3
    assert memory.count([("9", 60)])[0].count == 2
    assert memory.count([("0", 60)])[0].count == 1
    assert MAX_KEYS_IN_MEMORY <= 100_000


def test_memory_counts_for_many_threads():
    memory, name = MemoryCounter(), uuid4().hex
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: memory.count([(name, 60)])[0].count, range(500)))
    assert sorted(counts) == list(range(1, 501))
