"""The event log: all events, numbered without gaps in the order of publication."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres


class Event(postgres.Model, table="admin.events"):
    """An event of the log; `seq` is its number."""

    id = peewee.UUIDField(primary_key=True)
    seq = peewee.BigIntegerField()
    type = peewee.CharField(100)
    data = peewee.JSONField()
    request_id = peewee.CharField(128, null=True)
    occurred_at = DateTimeTZField()
    published_at = DateTimeTZField(null=True)


def append(rows: Sequence[Mapping[str, Any]]) -> None:
    """Appends events in this order. The caller holds the lock of the job `events.append`."""
    last = last_seq()
    Event.insert_many([{**row, "seq": last + offset} for offset, row in enumerate(rows, 1)]).execute()


def unpublished(limit: int) -> Sequence[Event]:
    """Returns the first events that are not published, in order."""
    query = Event.select().where(Event.published_at.is_null())
    return list(query.order_by(Event.seq).limit(limit))


def unpublished_before(time: datetime) -> bool:
    """Whether an event that occurred before this time is not published."""
    query = Event.select().where(Event.published_at.is_null(), Event.occurred_at < time)
    return bool(query.exists())


def mark_published(events: Sequence[Event]) -> None:
    """Marks events as published. All writers lock these rows in the order of `seq`."""
    postgres.rows(
        "UPDATE admin.events SET published_at = clock_timestamp() WHERE seq = ANY(ARRAY("
        "SELECT seq FROM admin.events WHERE seq = ANY(%s) ORDER BY seq FOR NO KEY UPDATE))",
        [event.seq for event in events],
    )


def after(seq: int, limit: int) -> Sequence[Event]:
    """Returns the events after this number, oldest first."""
    return list(Event.select().where(Event.seq > seq).order_by(Event.seq).limit(limit))


def last_seq() -> int:
    """Returns the number of the last event; 0 when the log is empty."""
    return int(Event.select(peewee.fn.COALESCE(peewee.fn.MAX(Event.seq), 0)).scalar())
