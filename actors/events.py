"""Events: their types, the event log, and its publication on the Redis channel `events`."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any
from uuid import uuid4

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from actors import broker
from actors.batch_jobs import BatchEntry, batch_job
from actors.jobs import enqueue, external_job, transaction, transactional_job
from db import event_log, job_journal, leases, postgres
from db.core import request_context, times
from db.core.json_model import Id, JsonModel, Timestamp

CHANNEL = "events"
# How many events are published in one round trip.
_PUBLISH_BATCH = 200
# One process publishes at a time. If it hangs, another replaces it when the lease expires: after more time
# than one round trip to Redis may take (connect, send, answer), and more than one job publishes.
LEASE, LEASE_S = "events.publish", 20.0
_PUBLISH_FOR_S = 8.0
# When a job that found the lease taken tries again.
_RETRY_S = 1.0
# After how long an event that is not published is overdue.
_OVERDUE = timedelta(seconds=10)


class EventType(StrEnum):
    """Every type of event."""

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


class NewEvent(BatchEntry):
    """An event that has no number yet, with a snapshot taken in the transaction that caused it."""

    type: EventType
    data: dict[str, Any]
    request_id: str | None
    occurred_at: datetime


def _known_or_text(value: Any, known: ValidatorFunctionWrapHandler) -> Any:
    # After a rollback the log holds types of the later release.
    try:
        return known(value)
    except ValidationError:
        return value


class Event(JsonModel):
    """An event, as published on the channel `events`. `seq` rises by one from each event to the next."""

    id: Id
    seq: Annotated[int, Field(ge=1, examples=[276])]
    type: Annotated[EventType, WrapValidator(_known_or_text), Field(examples=[EventType.PAYMENT_FAILED])]
    data: Annotated[dict[str, Any], Field(examples=[{"status": "completed"}])]
    timestamp: Annotated[Timestamp, Field(validation_alias="occurred_at")]
    request_id: Annotated[str | None, Field(examples=["a54f0afe"])]


def emit(type: EventType, data: dict[str, Any]) -> None:
    """Enqueues an event in the open transaction. `data` is a snapshot of the record, without secrets."""
    request_id = request_context.current().request_id
    event = NewEvent(id=uuid4(), type=type, data=data, request_id=request_id, occurred_at=times.now())
    enqueue(append.job(event))


@batch_job("events.append", NewEvent, queue="events", ordered=True)
def append(events: Sequence[NewEvent]) -> None:
    """Appends events to the log with the next numbers. As a batch job, it is the only writer of numbers."""
    event_log.append([event.model_dump() for event in events])
    enqueue(publish.job())


@external_job("events.publish", queue="events")
def publish() -> job_journal.Job | None:
    """Publishes the unpublished events of the log in order; returns another such job if some are left.

    A lease keeps two processes from publishing at the same time and out of order. A job that finds the lease
    taken leaves a unique job behind: the holder may hang or be dead, and the event would wait for the next
    one.
    """
    with postgres.connection():
        generation = leases.acquire(LEASE, leases.process_name(), LEASE_S)
    if generation is None:
        return _standing_job().delayed(_RETRY_S)
    deadline = time.monotonic() + _PUBLISH_FOR_S
    try:
        while time.monotonic() < deadline and _publish_batch(generation):
            pass
    finally:
        with postgres.connection():
            leases.release(LEASE, generation)
    # Read after the release: a job that found the lease taken before it may have brought new events.
    with postgres.connection():
        return publish.job() if event_log.unpublished(1) else None


def _publish_batch(generation: int) -> bool:
    """Publishes the next unpublished events; returns False when none are left, or the lease is lost.

    Events are not marked once the lease is lost. Its new holder publishes them again, with the same ids and
    followed by all later ones.
    """
    with postgres.connection():
        renewed = leases.renew(LEASE, generation, LEASE_S)
        events = event_log.unpublished(_PUBLISH_BATCH) if renewed else []
    if not events:
        return False
    broker.publish(CHANNEL, [_message(event) for event in events])
    with postgres.connection(), transaction():
        if not leases.is_held(LEASE, generation):
            return False
        event_log.mark_published(events)
    return True


def _standing_job() -> job_journal.Job:
    return publish.job().unique("standing")


@transactional_job("events.publish_overdue", queue="events")
def publish_overdue() -> None:
    """Enqueues publication where events are overdue, whatever happened to their own jobs."""
    if event_log.unpublished_before(times.now() - _OVERDUE):
        job = _standing_job()
        job_journal.make_due(job.id)
        enqueue(job)


def _message(event: event_log.Event) -> bytes:
    # Without the warning about a type that this release does not know.
    return Event.model_validate(event).model_dump_json(warnings=False).encode()
