"""Every event of the log is published, in its order, also when a broadcaster hangs or dies over it."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis

from actors import broker, events
from actors.jobs import enqueue, transaction
from db import event_log, invariants, job_journal, leases, postgres
from tests import makers
from tests.makers import until, work

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def heard(valkey_server) -> Iterator[redis.client.PubSub]:
    with redis.from_url(valkey_server.url) as client, client.pubsub(ignore_subscribe_messages=True) as line:
        line.subscribe(events.CHANNEL)
        line.get_message(timeout=5)
        yield line


def logged(many: int = 1) -> list[int]:
    """Events in the log that nobody has published; their numbers."""
    at: dict[str, Any] = {"type": "x", "data": {}, "request_id": None, "occurred_at": makers.MOMENT}
    event_log.append([{"id": uuid4(), **at} for _ in range(many)])
    return [event.seq for event in event_log.unpublished(many)]


def broadcast() -> None:
    """A job that publishes is done, once."""
    task = events.publish.job()
    with transaction():
        enqueue(task)
    events.publish(str(task.id))


def waiting() -> list[job_journal.JobRow]:
    return list(job_journal.JobRow.select().where(job_journal.JobRow.name == events.publish.name))


def numbers(line: redis.client.PubSub, many: int) -> list[int]:
    """What was said on the channel."""
    said: list[int] = []
    while len(said) < many:
        message = line.get_message(timeout=10)
        assert message is not None
        said.append(json.loads(message["data"])["seq"])
    return said


def another_holds_it() -> int:
    generation = leases.acquire(events.LEASE, "another", 60)
    assert generation is not None
    return generation


def expire_the_lease() -> None:
    leases.Lease.update(expires_at=postgres.rows("SELECT clock_timestamp() AS now")[0]["now"]).execute()


def test_what_was_logged_is_published_in_its_order_and_the_lease_is_free_again(heard):
    made = logged(events._PUBLISH_BATCH * 2 + 1)
    broadcast()
    assert numbers(heard, len(made)) == made
    assert event_log.unpublished(1) == []
    assert waiting() == []
    assert leases.holder(events.LEASE) is None


def test_a_holder_that_hangs_or_dies_leaves_no_event_unpublished(heard):
    another_holds_it()
    [seq] = logged()
    broadcast()
    broadcast()
    # Nobody but the holder may publish; and one job is left behind for all who found the lease taken.
    assert len(event_log.unpublished(2)) == 1
    [standing] = waiting()

    events.publish(str(standing.id))
    [standing] = waiting()

    # It never comes back, and nothing new happens.
    expire_the_lease()
    events.publish(str(standing.id))
    assert numbers(heard, 1) == [seq]
    assert waiting() == []
    assert event_log.unpublished(1) == []


def test_what_is_logged_while_a_broadcaster_leaves_is_published_by_it(heard, monkeypatch):
    first = logged()
    release = leases.release

    def and_meanwhile(name: str, generation: int) -> None:
        first.extend(logged())
        release(name, generation)

    monkeypatch.setattr(leases, "release", and_meanwhile)
    broadcast()
    monkeypatch.undo()
    work()
    assert numbers(heard, 2) == first


def test_a_broadcaster_that_was_replaced_marks_nothing_and_says_nothing_after_that(heard, monkeypatch):
    made = logged(events._PUBLISH_BATCH + 1)
    publish = broker.publish

    def and_is_frozen(channel: str, messages: list[bytes]) -> None:
        publish(channel, messages)
        expire_the_lease()
        another_holds_it()

    monkeypatch.setattr(broker, "publish", and_is_frozen)
    broadcast()
    monkeypatch.undo()
    assert numbers(heard, events._PUBLISH_BATCH) == made[:-1]
    assert len(event_log.unpublished(len(made))) == len(made)
    # Its successor begins where the log is unpublished: twice is allowed, out of order is not.
    expire_the_lease()
    work()
    assert numbers(heard, len(made)) == made


def test_a_redis_that_is_away_keeps_the_job_and_not_the_lease(monkeypatch):
    logged()

    def away(*_args: object) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(broker, "publish", away)
    broadcast()
    [kept] = waiting()
    assert kept.error == "ConnectionError: away"
    assert leases.holder(events.LEASE) is None
    monkeypatch.undo()
    work()
    assert event_log.unpublished(1) == []


def test_an_event_whose_job_is_gone_is_published_all_the_same(heard):
    [seq] = logged()
    makers.enqueue_scheduled(events.publish_overdue)
    work()
    assert numbers(heard, 1) == [seq]


def test_an_event_that_was_logged_just_now_is_left_to_its_own_job():
    logged()
    event_log.Event.update(
        occurred_at=until(lambda: postgres.rows("SELECT clock_timestamp() AS t"))[0]["t"]
    ).execute()
    makers.enqueue_scheduled(events.publish_overdue)
    events.publish_overdue.perform(events.publish_overdue.scheduled().id)
    assert waiting() == []


def test_an_event_that_nobody_publishes_breaks_an_invariant():
    assert invariants.check("every_event_is_published", makers.MOMENT, seconds=5).ok
    logged()
    [event] = event_log.unpublished(1)
    found = invariants.check("every_event_is_published", makers.MOMENT + timedelta(days=1), seconds=5)
    assert (found.count, found.offenders) == (1, [str(event.id)])
