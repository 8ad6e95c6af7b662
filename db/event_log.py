"""The event log: every event in the order of publication, numbered without gaps."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import peewee
from peewee import SQL
from playhouse.postgres_ext import DateTimeTZField

from db import postgres


class Event(postgres.Model):
    """One event of the log; `seq` is its place in the order of publication, without gaps."""

    id = peewee.UUIDField(primary_key=True)
    seq = peewee.BigIntegerField(constraints=[SQL("UNIQUE")])
    type = peewee.CharField(100)
    data = peewee.JSONField()
    request_id = peewee.CharField(128, null=True)
    occurred_at = DateTimeTZField()
    published_at = DateTimeTZField(null=True)

    class Meta:
        schema = "admin"
        table_name = "events"


Event.add_index(SQL("CREATE INDEX events_unpublished ON admin.events (seq) WHERE published_at IS NULL"))


Event.add_index(SQL("CREATE INDEX events_occurred_at ON admin.events (occurred_at)"))


Event.add_index(SQL("CREATE INDEX events_about ON admin.events ((data ->> 'id'))"))


Event.add_index(
    SQL(
        "CREATE INDEX events_customer_email ON admin.events (lower(data ->> 'customerEmail'))"
        " WHERE data ->> 'customerEmail' IS NOT NULL"
    )
)


def append(rows: Sequence[Mapping[str, Any]]) -> None:
    """Puts events at the end of the log, in the order given. The caller holds the log's lock."""
    last = last_seq()
    Event.insert_many([{**row, "seq": last + place} for place, row in enumerate(rows, 1)]).execute()


def unpublished(limit: int) -> Sequence[Event]:
    """The first events that have not been published, in their order."""
    query = Event.select().where(Event.published_at.is_null())
    return list(query.order_by(Event.seq).limit(limit))


def unpublished_before(moment: datetime) -> bool:
    """Whether an event that occurred before this moment has not been published yet."""
    query = Event.select().where(Event.published_at.is_null(), Event.occurred_at < moment)
    return bool(query.exists())


def mark_published(events: Sequence[Event]) -> None:
    """Remembers that these events went out. All writers lock these rows in the order of `seq`."""
    postgres.rows(
        "UPDATE admin.events SET published_at = clock_timestamp() WHERE seq = ANY(ARRAY("
        "SELECT seq FROM admin.events WHERE seq = ANY(%s) ORDER BY seq FOR NO KEY UPDATE))",
        [event.seq for event in events],
    )


def after(seq: int, limit: int) -> Sequence[Event]:
    """The log from the event behind `after` on, oldest first."""
    return list(Event.select().where(Event.seq > seq).order_by(Event.seq).limit(limit))


def last_seq() -> int:
    """The number of the last event in the log; 0 when it is empty."""
    return int(Event.select(peewee.fn.COALESCE(peewee.fn.MAX(Event.seq), 0)).scalar())
