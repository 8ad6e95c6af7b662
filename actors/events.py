"""Events: their catalogue, their log, and their broadcast on the Redis channel `events`."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import uuid4

from pydantic_core import to_json

from actors import broker
from actors.jobs import BatchEntry, batch_job, enqueue, external_job, transaction, transactional_job
from db import event_log, job_journal, leases, postgres
from db.core import request_context, times

CHANNEL = "events"
# How many events go out in one round trip.
_BATCH = 200
# Who publishes is alone at it. A holder that hangs is replaced after so many seconds: more than Redis has for
# one round trip (to connect, to take it and to answer), and than a broadcast goes on.
LEASE, LEASE_S = "events.publish", 20.0
_DEADLINE_S = 8.0
# When a broadcast that found the lease taken looks again, in seconds; how long an event waits before it is
# overdue.
_LOOK_AGAIN_S, _OVERDUE = 1.0, timedelta(seconds=10)


class EventType(StrEnum):
    """Every event there is."""

    USER_REGISTERED = "auth:user:registered"
    USER_LOGGED_IN = "auth:user:logged_in"
    USER_LOGGED_OUT = "auth:user:logged_out"
    PASSWORD_CHANGED = "auth:password:changed"
    PAYMENT_CREATED = "payments:payment:created"
    PAYMENT_UPDATED = "payments:payment:updated"
    PAYMENT_COMPLETED = "payments:payment:completed"
    PAYMENT_FAILED = "payments:payment:failed"
    ADMIN_USER_CREATED = "admin:user:created"
    ADMIN_USER_UPDATED = "admin:user:updated"
    ADMIN_USER_DELETED = "admin:user:deleted"
    CONFIG_UPDATED = "admin:config:updated"


class Event(BatchEntry):
    """One event, as it was true in the transaction that caused it."""

    type: EventType
    data: dict[str, Any]
    request_id: str | None
    occurred_at: datetime


def emit(type: EventType, data: dict[str, Any]) -> None:
    """Promises that everybody hears of this: `data` is a snapshot, without secrets."""
    request_id = request_context.current().request_id
    event = Event(id=uuid4(), type=type, data=data, request_id=request_id, occurred_at=times.now())
    enqueue(append.job(event))


@batch_job("events.append", Event, queue="events")
def append(events: Sequence[Event]) -> None:
    """Gives events their numbers and puts them into the log. Under the verb's lock nobody else numbers."""
    event_log.append([event.model_dump() for event in events])
    enqueue(publish.job())


@external_job("events.publish", queue="events")
def publish() -> job_journal.Job | None:
    """Publishes what the log has and subscribers have not, in the log's order; enqueues the rest, if any.

    A lease keeps two broadcasters from overtaking one another. One that finds it taken leaves a standing job
    behind: its holder may hang or be gone, and the event of this job would wait for the next one.
    """
    with postgres.connection():
        generation = leases.acquire(LEASE, leases.process_name(), LEASE_S)
    if generation is None:
        return _standing().delayed(_LOOK_AGAIN_S)
    deadline, replaced = time.monotonic() + _DEADLINE_S, False
    try:
        while not replaced and time.monotonic() < deadline and (events := _next(generation)):
            broker.publish(CHANNEL, [to_json(to_message(event)) for event in events])
            replaced = not _published(generation, events)
    finally:
        with postgres.connection():
            leases.release(LEASE, generation)
    # After the lease is free: what was logged while others found it taken is seen here, or by who takes it.
    with postgres.connection():
        return publish.job() if event_log.unpublished(1) else None


def _next(generation: int) -> Sequence[event_log.Event]:
    """What is to be published next; nothing for a holder that was replaced."""
    with postgres.connection():
        kept = leases.renew(LEASE, generation, LEASE_S)
        return event_log.unpublished(_BATCH) if kept else []


def _published(generation: int, events: Sequence[event_log.Event]) -> bool:
    """Marks events that went out; False, and marks none, where another holds the lease by now: it publishes
    them again, under the same ids and with all that follows them."""
    with postgres.connection(), transaction():
        if not leases.is_held(LEASE, generation):
            return False
        event_log.mark_published(events)
    return True


def _standing() -> job_journal.Job:
    return publish.job().unique("standing")


@transactional_job("events.publish_overdue", queue="events")
def publish_overdue() -> None:
    """Enqueues a broadcast where events have waited too long, whatever became of their own."""
    if event_log.unpublished_before(times.now() - _OVERDUE):
        task = _standing()
        job_journal.make_due(task.id)
        enqueue(task)


def to_message(event: event_log.Event) -> dict[str, Any]:
    """An event as subscribers get it."""
    return {
        "id": str(event.id),
        "seq": event.seq,
        "type": event.type,
        "data": event.data,
        "timestamp": times.iso(event.occurred_at),
        "requestId": event.request_id,
    }
