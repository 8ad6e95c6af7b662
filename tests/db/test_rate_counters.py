"""Requests are counted in windows: in Redis, a lease at a time, and in memory while Redis is away."""

from concurrent.futures import ThreadPoolExecutor
from typing import cast
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from db import redis
from db.breaker import OPEN_S, Breaker
from db.rate_counters import KEY_PREFIX, MAX_KEYS_IN_MEMORY, Limit, MemoryCounter, SharedCounter, Window
from tests.counting import counted


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
    """A Redis that does not answer, and the number of calls to it; it grants what it is asked for."""

    def __init__(self, clock):
        self.calls, self.away, self.breaker = 0, True, Breaker(clock)
        self.taken = 0

    def register_script(self, _script):
        def run(keys, arguments):
            self.calls += 1
            if self.away:
                raise redis.Unreachable("no answer")
            granted = min(arguments[1], arguments[0] - self.taken)
            self.taken += granted
            return [[self.taken, granted, arguments[2]] for _ in keys]

        return run


def limit(requests, window_s=60, name="{a}:api"):
    return Limit(name, requests, window_s)


def counter(client, clock=None):
    """The counter of a process."""
    return SharedCounter(cast(redis.Client, client), MemoryCounter(clock) if clock else MemoryCounter())


def passes(counter, limit):
    return counter.count([limit])[0].count <= limit.requests


def test_parallel_requests_are_all_counted(redis_client):
    shared = counter(redis_client)
    with ThreadPoolExecutor(16) as pool:
        counts = list(pool.map(lambda _: shared.count([limit(999)])[0].count, range(200)))
    assert sorted(counts) == list(range(1, 201))


def test_a_hundred_pass_exactly_in_two_processes_with_a_round_trip_each(redis_client):
    processes, hundred = [counter(redis_client), counter(redis_client)], limit(100, 900)
    with counted() as asked:
        counts = [processes[n % 2].count([hundred])[0].count for n in range(100)]
    assert counts == list(range(1, 101))
    assert len(asked.trips) == 100
    assert [process.count([hundred])[0].count for process in processes] == [101, 101]


def test_of_a_hundred_thousand_a_hundred_cost_one_round_trip(redis_client):
    shared, many = counter(redis_client), limit(100_000)
    with counted() as asked:
        counts = [shared.count([many])[0].count for _ in range(1000)]
    assert counts == list(range(1, 1001))
    assert len(asked.trips) == 10


def test_two_processes_that_use_their_leases_pass_the_limit_exactly(redis_client):
    processes, some = [counter(redis_client), counter(redis_client)], limit(3_500)
    passed = sum(passes(processes[n % 2], some) for n in range(3_600))
    assert passed == 3_500


def test_a_process_leaves_at_most_a_lease_unused(redis_client):
    idle, busy, some = counter(redis_client), counter(redis_client), limit(5_000)
    assert passes(idle, some)
    passed = sum(passes(busy, some) for _ in range(5_100))
    assert passed == 5_000 - some.lease
    # The rest of it is the idle process's, and no more than that.
    assert sum(passes(idle, some) for _ in range(10)) == some.lease - 1


def test_parallel_requests_use_every_lease_that_they_took(redis_client):
    shared, some = counter(redis_client), limit(20_000)
    with counted() as asked, ThreadPoolExecutor(16) as pool:
        counts = list(pool.map(lambda _: shared.count([some])[0].count, range(2_000)))
    assert max(counts) <= 2_000 + 16 * some.lease
    assert len(asked.trips) <= 2_000 / some.lease + 16


def test_the_count_of_a_process_only_rises_in_a_window(redis_client):
    processes, some = [counter(redis_client), counter(redis_client)], limit(3_000)
    for process in processes:
        counts = [process.count([some])[0].count for _ in range(1_600)]
        assert counts == sorted(counts)


def test_an_answer_that_arrives_late_loses_no_lease():
    memory, some = MemoryCounter(lambda: 0.0), limit(5_000)
    assert memory.add(some, 10, 5, 60.0).count == 6
    assert memory.add(some, 5, 5, 59.99).count == 2
    used = 0
    while memory.use(some):
        used += 1
    assert used == 8


def test_a_lease_ends_with_its_window():
    clock = Clock()
    client = FakeRedis(clock)
    client.away = False
    shared, some = counter(client, clock), limit(5_000)
    assert [shared.count([some])[0].count for _ in range(3)] == [1, 2, 3]
    clock.now += 60
    client.taken = 0
    assert shared.count([some]) == [Window(1, 60.0)]
    assert client.calls == 2


def test_a_window_that_redis_forgot_begins_anew(redis_client):
    shared, three = counter(redis_client), limit(3)
    assert [shared.count([three])[0].count for _ in range(4)] == [1, 2, 3, 4]
    redis_client.delete(KEY_PREFIX + three.key)
    assert [shared.count([three])[0].count for _ in range(4)] == [1, 2, 3, 4]


def test_only_the_limit_without_a_lease_costs_a_round_trip(redis_client):
    shared, many, few = counter(redis_client), limit(100_000), limit(10, name="{a}:auth")
    with counted() as asked:
        counts = [[window.count for window in shared.count([many, few])] for _ in range(3)]
    assert counts == [[1, 1], [2, 2], [3, 3]]
    assert len(asked.trips) == 3
    assert many.key.encode() not in b"".join(asked.trips[1:])


def test_a_redis_that_does_not_answer_is_called_once_a_second():
    clock = Clock()
    client = FakeRedis(clock)
    shared, hundred = counter(client, clock), limit(100)
    with capture_logs() as lines:
        for _ in range(50):
            shared.count([hundred])
        assert client.calls == 1
        clock.now += OPEN_S
        for _ in range(50):
            shared.count([hundred])
        assert client.calls == 2
        client.away = False
        clock.now += OPEN_S
        assert shared.count([hundred]) == [Window(1, 60.0)]
        shared.count([hundred])
    assert client.calls == 4
    assert [line["event"] for line in lines] == ["redis unavailable, each process counts for itself"] * 2


def test_without_redis_a_process_uses_its_lease_and_then_counts_on():
    clock = Clock()
    client = FakeRedis(clock)
    client.away = False
    shared, some = counter(client, clock), limit(3_000)
    assert shared.count([some])[0].count == 1
    client.away = True
    assert [shared.count([some])[0].count for _ in range(5)] == [2, 3, 4, 5, 6]
    assert client.calls == 2


def test_memory_counts_in_windows():
    clock = Clock()
    memory, minute, moment = MemoryCounter(clock), limit(9, 60), limit(9, 5, "b")
    counts = [[memory.count(each) for each in (minute, moment)] for _ in range(2)]
    assert counts[1] == [Window(2, 60.0), Window(2, 5.0)]
    clock.now += 5
    assert [memory.count(each) for each in (minute, moment)] == [Window(3, 55.0), Window(1, 5.0)]


def test_memory_drops_the_oldest_keys_when_it_is_full():
    memory = MemoryCounter(max_keys=3)
    for n in range(10):
        memory.count(limit(9, name=str(n)))
    assert len(memory._windows) == 3
    assert memory.count(limit(9, name="9")).count == 2
    assert memory.count(limit(9, name="0")).count == 1
    assert MAX_KEYS_IN_MEMORY <= 100_000


def test_memory_counts_for_many_threads():
    memory, name = MemoryCounter(), uuid4().hex
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: memory.count(limit(9, name=name)).count, range(500)))
    assert sorted(counts) == list(range(1, 501))
