"""Every event of the log is published in order, even if a process hangs or dies while it publishes."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis
from peewee import SQL

from actors import broker, events
from actors.jobs import enqueue, transaction
from db import event_log, invariants, postgres
from db.core import times
from tests import makers
from tests.makers import until, work
from tests.tables import EventPublication, JobRow

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def channel(valkey_server) -> Iterator[redis.client.PubSub]:
    with (
        redis.from_url(valkey_server.url) as client,
        client.pubsub(ignore_subscribe_messages=True) as channel,
    ):
        channel.subscribe(events.CHANNEL)
        channel.get_message(timeout=5)
        yield channel


def logged(many: int = 1) -> list[int]:
    """Appends unpublished events; returns their numbers."""
    at: dict[str, Any] = {
        "type": "x",
        "data": {},
        "request_id": None,
        "occurred_at": times.iso(makers.MOMENT),
    }
    event_log.append([{"id": str(uuid4()), **at} for _ in range(many)])
    return [event.seq for event in event_log.unpublished(many)]


def publish() -> None:
    """Enqueues a publication job, and runs it once."""
    job = events.publish.job()
    with transaction():
        enqueue(job)
    events.publish(str(job.id))


def waiting() -> list[JobRow]:
    return list(JobRow.select().where(JobRow.name == events.publish.name))


def numbers(channel: redis.client.PubSub, many: int) -> list[int]:
    """The numbers of the next messages on the channel."""
    received: list[int] = []
    while len(received) < many:
        message = channel.get_message(timeout=10)
        assert message is not None
        received.append(json.loads(message["data"])["seq"])
    return received


def acquire_for_another() -> None:
    assert event_log.begin_publication(1, 60)


def expire_the_lease() -> None:
    EventPublication.update(expires_at=SQL("clock_timestamp()")).execute()


def is_free() -> bool:
    return bool(
        EventPublication.select().where(EventPublication.expires_at < SQL("clock_timestamp()")).exists()
    )


def test_logged_events_are_published_in_order_and_the_lease_is_released(channel):
    made = logged(events._PUBLISH_BATCH * 2 + 1)
    publish()
    assert numbers(channel, len(made)) == made
    assert event_log.unpublished(1) == []
    assert waiting() == []
    assert is_free()


def test_a_holder_of_the_lease_that_hangs_or_dies_leaves_no_event_unpublished(channel):
    [seq] = logged()
    acquire_for_another()
    publish()
    publish()
    # Only the holder may publish. The jobs that found the lease taken leave one job behind.
    assert len(event_log.unpublished(2)) == 1
    [standing] = waiting()

    events.publish.perform(standing.id)
    [standing] = waiting()

    # The holder never returns, and no new event is logged.
    expire_the_lease()
    events.publish.perform(standing.id)
    assert numbers(channel, 1) == [seq]
    assert waiting() == []
    assert event_log.unpublished(1) == []


def test_an_event_logged_at_the_release_of_the_lease_is_published(channel, monkeypatch):
    first = logged()
    end = event_log.end_publication

    def log_and_end(generation: int, seq: int) -> bool:
        monkeypatch.undo()
        first.append(logged(2)[-1])
        return end(generation, seq)

    monkeypatch.setattr(event_log, "end_publication", log_and_end)
    publish()
    assert numbers(channel, 2) == first


def test_a_replaced_holder_marks_nothing_and_publishes_nothing_more(channel, monkeypatch):
    made = logged(events._PUBLISH_BATCH + 1)
    broker_publish = broker.publish

    def publish_and_lose_the_lease(channel: str, messages: list[bytes], last: tuple[str, str]) -> None:
        broker_publish(channel, messages, last=last)
        expire_the_lease()
        acquire_for_another()

    monkeypatch.setattr(broker, "publish", publish_and_lose_the_lease)
    publish()
    monkeypatch.undo()
    assert numbers(channel, events._PUBLISH_BATCH) == made[:-1]
    assert len(event_log.unpublished(len(made))) == len(made)
    # The new holder begins at the first unpublished event: twice is allowed, out of order is not.
    expire_the_lease()
    work()
    assert numbers(channel, len(made)) == made


def test_an_unavailable_redis_keeps_the_job_and_releases_the_lease(monkeypatch):
    logged()

    def unavailable(*_args: object, **_last: object) -> None:
        raise redis.ConnectionError("unavailable")

    monkeypatch.setattr(broker, "publish", unavailable)
    publish()
    [kept] = waiting()
    assert kept.error == "ConnectionError: unavailable"
    assert is_free()
    monkeypatch.undo()
    work()
    assert event_log.unpublished(1) == []


def test_an_event_without_a_job_is_published(channel):
    [seq] = logged()
    makers.enqueue_scheduled(events.publish_overdue)
    work()
    assert numbers(channel, 1) == [seq]


def test_a_new_event_is_left_to_its_own_job():
    logged()
    event_log.Event.update(
        occurred_at=until(lambda: postgres.rows("SELECT clock_timestamp() AS t"))[0]["t"]
    ).execute()
    makers.enqueue_scheduled(events.publish_overdue)
    events.publish_overdue.perform(events.publish_overdue.scheduled().id)
    assert waiting() == []


def test_an_unpublished_event_breaks_an_invariant():
    assert invariants.check("every_event_is_published", makers.MOMENT, seconds=5).ok
    logged()
    [event] = event_log.unpublished(1)
    found = invariants.check("every_event_is_published", makers.MOMENT + timedelta(days=1), seconds=5)
    assert (found.count, found.offenders) == (1, [str(event.id)])
