"""Which processes are alive, and which are gone."""

import os
import time
from collections.abc import Callable

import pytest

from db import heartbeats, redis


@pytest.fixture
def client(stores) -> redis.Client:
    client = redis.connect(stores["REDIS_URL"])
    client.delete(heartbeats._KEY)
    return client


@pytest.fixture
def start(client, monkeypatch) -> Callable[..., None]:
    """Lets a process with this PROCESS_NAME send a heartbeat."""

    def start(name: str, pid: int, kinds: list[str], type: str | None = None) -> None:
        monkeypatch.setenv("PROCESS_NAME", name)
        monkeypatch.setattr(os, "getpid", lambda: pid)
        heartbeats.beat(client, kinds, type=type)

    return start


@pytest.fixture
def clock(monkeypatch) -> "Clock":
    return Clock(monkeypatch)


class Clock:
    def __init__(self, monkeypatch) -> None:
        self._now = time.time()
        monkeypatch.setattr(time, "time", lambda: self._now)

    def advance(self, seconds: float) -> None:
        self._now += seconds


def listed(client: redis.Client) -> list[tuple[str, int | None, int, bool]]:
    return [(each.type, each.number, each.pid, each.alive) for each in heartbeats.processes(client)]


def test_each_process_is_listed_with_its_number_and_counted_by_what_it_serves(client, start):
    start("events.1", 1, ["housekeeping", "events"])
    start("events.2", 2, ["housekeeping", "events"])
    start("", 3, ["relay"])
    start("web.1", 4, [], type="web")
    assert listed(client) == [
        ("events", 1, 1, True), ("events", 2, 2, True), ("relay", None, 3, True), ("web", 1, 4, True),
    ]  # fmt: skip
    assert heartbeats.count_workers(heartbeats.processes(client)) == {
        "events": 2,
        "housekeeping": 2,
        "relay": 1,
    }


def test_a_process_that_is_gone_is_listed_until_another_takes_its_place(client, start, clock):
    start("psp.1", 1, ["psp", "psp-inquiries"])
    clock.advance(heartbeats.EXPIRES_S + 1)
    assert (listed(client), heartbeats.count_workers(heartbeats.processes(client))) == (
        [("psp", 1, 1, False)],
        {},
    )
    start("psp.2", 2, ["psp", "psp-inquiries"])
    assert listed(client) == [("psp", 1, 1, False), ("psp", 2, 2, True)]
    start("psp.1", 3, ["psp", "psp-inquiries"])
    assert listed(client) == [("psp", 1, 3, True), ("psp", 2, 2, True)]


def test_a_process_that_ended_in_order_is_not_listed(client, start):
    start("mail.1", 1, ["mail"])
    heartbeats.leave(client, ["mail"])
    assert listed(client) == []


def test_a_process_that_is_gone_for_long_is_forgotten(client, start, clock):
    start("mail.1", 1, ["mail"])
    clock.advance(heartbeats.LISTED_S + 1)
    start("mail.2", 2, ["mail"])
    assert listed(client) == [("mail", 2, 2, True)]
    assert client.zcard(heartbeats._KEY) == 1
