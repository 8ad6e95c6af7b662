"""Events: their catalogue, their log, and their broadcast on the Redis channel `events`."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4

from pydantic_core import to_json

from actors import broker, origin
from actors.verbs import Entry, effect, promise, records
from db import admin, journal, postgres, times

CHANNEL = "events"
# How many events go out in one round trip, and how many trips one broadcast makes.
_BATCH, _TURNS = 200, 20


class Type(StrEnum):
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


class Event(Entry):
    """One event, as it was true in the transaction that caused it."""

    type: Type
    data: dict[str, Any]
    request_id: str | None
    occurred_at: datetime


def announce(type: Type, data: dict[str, Any]) -> None:
    """Promises that everybody hears of this: `data` is a snapshot, without secrets."""
    request_id = origin.current().request_id
    event = Event(id=uuid4(), type=type, data=data, request_id=request_id, occurred_at=times.now())
    promise(log.message(event))


@records("events", Event)
def log(events: Sequence[Event]) -> None:
    """Gives events their numbers and puts them into the log. Under the verb's lock nobody else numbers."""
    admin.append_events([event.model_dump() for event in events])
    promise(broadcast.message())


@effect("events")
def broadcast() -> journal.Task | None:
    """Publishes what the log has and subscribers have not, in the log's order; promises the rest, if any.

    The lock keeps two broadcasters from overtaking one another, and dies with its holder. Whoever does not
    get it leaves: the holder looks once more after letting go. Killed between publishing and marking, the
    next one publishes again, under the same ids.
    """
    with postgres.connection():
        for _ in range(_TURNS):
            with postgres.held("events.broadcast") as mine:
                if not mine:
                    return None
                events = admin.unpublished_events(_BATCH)
                broker.publish(CHANNEL, [to_json(message(event)) for event in events])
                admin.mark_published(events)
            if not admin.unpublished_events(1):
                return None
    return broadcast.message()


def message(event: admin.Event) -> dict[str, Any]:
    """An event as subscribers get it."""
    return {
        "id": str(event.id),
        "seq": event.seq,
        "type": event.type,
        "data": event.data,
        "timestamp": times.text(event.occurred_at),
        "requestId": event.request_id,
    }
