"""Events: their types, the event log, and its publication on the Redis channel `events`."""

import time
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

import structlog
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from actors import broker, records, tracing, worker_threads
from actors.external_jobs import external_job
from actors.jobs import enqueue, transaction, transactional_job
from actors.tracing import Attributes
from db import event_log, job_journal, postgres, redis
from db.core import times
from db.core.json_model import Id, JsonModel, Timestamp

CHANNEL = "events"
# Has one message after each batch of events: their types. It serves processes that read the events in the
# log, and only have to know that there are new ones.
TYPES_CHANNEL = "events:types"
# How many events are published in one round trip.
_PUBLISH_BATCH = 200
# One process publishes at a time. If it hangs, another one replaces it when the lease expires. The lease
# lasts longer than one round trip to Redis may take (connect, send, answer).
LEASE_S = 20.0
# For how long one thread goes on publishing before it does something else.
_PUBLISH_FOR_S = 8.0
# How long the thread that appends and publishes rests after each batch: at most twenty batches a second.
_REST_S = 0.05
# The delay of a job that follows because the lease was taken or Redis was away.
_RETRY_S = 1.0
# After how long an event that is not published is overdue.
_OVERDUE = timedelta(seconds=10)

log = structlog.get_logger(__name__)


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
    # The W3C trace that the request belongs to.
    traceparent: Annotated[
        str | None, Field(examples=["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])
    ]


def emit(type: EventType, data: dict[str, Any]) -> None:
    """Adds an event to the records of the open transaction. `data` is a snapshot without secrets."""
    records.add("events", {"type": type, "data": data, "occurred_at": times.now()})


@records.append.after_commit
def publish_appended() -> None:
    """Publishes the events of a batch in the thread that appended them, without a job.

    If Redis is away, or another process is publishing, a job is enqueued that tries again. If this process
    dies, or the database is away too, `publish_overdue` finds the events.
    """
    try:
        following = _publish()
    except redis.Unreachable as error:
        log.warning("events not published, will be retried", error=str(error))
        following = _standing_job().delayed(_RETRY_S)
    if following:
        with postgres.connection(), transaction():
            enqueue(following)
    # Meanwhile the records of further transactions gather, for one batch. After idle time nothing is delayed.
    worker_threads.rest(_REST_S)


def _publish() -> job_journal.Job | None:
    """Publishes the unpublished events of the log in order; returns the job that continues if some are left.

    A lease keeps two processes from publishing at the same time, out of order. If another process has it, the
    returned job tries again later: that process may be dead, and the events would wait for the next event.
    """
    deadline = time.monotonic() + _PUBLISH_FOR_S
    while time.monotonic() < deadline:
        with postgres.connection():
            begun = event_log.begin_publication(_PUBLISH_BATCH, LEASE_S)
            if begun is None:
                return _standing_job().delayed(_RETRY_S) if event_log.unpublished(1) else None
        if not _publish_batch(*begun):
            return None
    return publish.job()


# Publishes what was left unpublished.
publish = external_job("events.publish", queue="events")(_publish)


def _publish_batch(generation: int, events: list[event_log.Event]) -> bool:
    """Publishes these events and releases the lease; returns whether more events may be unpublished.

    If another process has taken the lease meanwhile, nothing is recorded: that process publishes the same
    events again, with the same ids, and then all later ones.
    """
    published: int | None = None
    try:
        types = " ".join({event.type for event in events})
        with tracing.spans(f"send {CHANNEL}", "PRODUCER", map(_traced, events)):
            broker.publish(CHANNEL, [message(event) for event in events], last=(TYPES_CHANNEL, types))
        published = events[-1].seq
    finally:
        with postgres.connection():
            more = event_log.end_publication(generation, published)
    return more


def _standing_job() -> job_journal.Job:
    return publish.job().unique("standing")


@transactional_job("events.publish_overdue", queue="events")
def publish_overdue() -> None:
    """Enqueues publication if an event has not been published for ten seconds."""
    if event_log.is_unpublished_before(times.now() - _OVERDUE):
        job = _standing_job()
        job_journal.make_due(job.id)
        enqueue(job)


def _traced(event: event_log.Event) -> tuple[str | None, Attributes]:
    attributes = tracing.message_attributes("redis", "send", CHANNEL, event.id)
    return event.trace, {**attributes, "paywright.event.type": event.type, "paywright.event.seq": event.seq}


def message(event: event_log.Event) -> bytes:
    """Returns an event as it is published: JSON on one line."""
    # `warnings=False`: pydantic would warn about a type of a later release.
    return Event.model_validate(event).model_dump_json(warnings=False).encode()
