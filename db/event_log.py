"""The event log: all events, numbered without gaps in the order of publication; and who may read them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres
from db.core.request_context import RequestContext
from db.prepared import Statement
from db.shown_payments import Party, Visibility


class Event(postgres.Model, table="admin.events"):
    """An event of the log; `seq` is its number. The table is the view that shows each event in full."""

    id = peewee.UUIDField(primary_key=True)
    seq = peewee.BigIntegerField()
    type = peewee.CharField(100)
    data = peewee.JSONField()
    request_id = peewee.CharField(128, null=True)
    trace = peewee.CharField(600, null=True)
    occurred_at = DateTimeTZField()

    @property
    def traceparent(self) -> str | None:
        """Returns the trace that the event belongs to, as a published event shows it."""
        return RequestContext(self.request_id, trace=self.trace).traceparent


# A later event of a payment repeats the data of the first one, except for a few members. Only these are
# stored, with the number of the first event (`base`), if merging both gives exactly the same data again, and
# if the same request caused both events (decision 47). So all readers use the view admin.events. The first
# event may be among the new ones.
APPEND = Statement(
    "append_events",
    """
    WITH new AS MATERIALIZED (
        SELECT last.seq + ordinality AS seq, id, type, data, request_id, trace, occurred_at,
            CASE WHEN starts_with(type, 'payments:payment:') THEN data ->> 'id' END AS payment_id
        FROM (SELECT coalesce(max(seq), 0) AS seq FROM admin.event_log) AS last,
            jsonb_populate_recordset(NULL::admin.events, %(events)s::jsonb) WITH ORDINALITY
    ), first AS MATERIALIZED (
        SELECT DISTINCT ON (payment_id) * FROM (
            SELECT seq, payment_id, data, request_id, trace FROM new WHERE type = 'payments:payment:created'
            UNION ALL
            SELECT seq, data ->> 'id', data, request_id, trace
            FROM admin.first_events(ARRAY(SELECT DISTINCT payment_id FROM new WHERE payment_id IS NOT NULL))
        ) AS found ORDER BY payment_id, seq
    ), compared AS MATERIALIZED (
        SELECT new.*, first.seq AS base, first.data AS first_data, CASE WHEN first.seq IS NOT NULL THEN (
            SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(new.data)
            WHERE value IS DISTINCT FROM first.data -> key) END AS difference
        FROM new LEFT JOIN first ON first.payment_id = new.payment_id AND first.seq < new.seq
            AND new.type <> 'payments:payment:created'
            AND (first.request_id, first.trace) IS NOT DISTINCT FROM (new.request_id, new.trace)
    ), stored AS (
        SELECT *, (first_data || difference)::text IS NOT DISTINCT FROM data::text AS in_part FROM compared
    )
    INSERT INTO admin.event_log (seq, id, type, base, data, request_id, trace, occurred_at)
    SELECT seq, id, type, NULL, data, request_id, trace, occurred_at FROM stored WHERE NOT in_part
    UNION ALL
    SELECT seq, id, type, base, difference, NULL, NULL, occurred_at FROM stored WHERE in_part
    """,
)


def append(rows: Sequence[Mapping[str, Any]]) -> None:
    """Appends events in this order, with the next numbers. The caller must have the log's lock.

    Each event is a mapping of column names to JSON values.
    """
    if rows:
        postgres.rows(APPEND, events=postgres.Json(rows))


# The row of admin.event_publication has the number of the last published event, and is the lease of the
# process that publishes. If no event is unpublished, the statement takes no lease and writes nothing.
BEGIN_PUBLICATION = """
    WITH lease AS (
        UPDATE admin.event_publication
        SET generation = generation + 1, expires_at = clock_timestamp() + %(seconds)s * interval '1 second'
        WHERE expires_at <= clock_timestamp() AND seq < (SELECT max(seq) FROM admin.events)
        RETURNING generation, seq
    )
    SELECT lease.generation, new.id, new.seq, new.type, new.data, new.request_id, new.trace, new.occurred_at
    FROM lease, LATERAL (
        SELECT * FROM admin.events WHERE seq > lease.seq ORDER BY seq LIMIT %(limit)s
    ) AS new
    ORDER BY new.seq
"""


def begin_publication(limit: int, seconds: float) -> tuple[int, list[Event]] | None:
    """Takes the lease of publication for this time; returns its generation and the next unpublished events.

    None when another process has it, or when no event is unpublished.
    """
    found = postgres.rows(BEGIN_PUBLICATION, limit=limit, seconds=seconds)
    if not found:
        return None
    generation = int(found[0]["generation"])
    return generation, [Event(**{name: row[name] for name in row if name != "generation"}) for row in found]


END_PUBLICATION = """
    UPDATE admin.event_publication SET seq = coalesce(%s, seq), expires_at = '-infinity'
    WHERE generation = %s
    RETURNING seq < (SELECT max(seq) FROM admin.events) AS more
"""


def end_publication(generation: int, seq: int | None) -> bool:
    """Releases the lease, and records the number of the last published event if it is given.

    Returns whether there may be unpublished events. If another process has taken the lease, changes nothing:
    that process publishes the same events again.
    """
    ended = postgres.rows(END_PUBLICATION, seq, generation)
    return bool(ended[0]["more"]) if ended else True


UNPUBLISHED = """
    SELECT id, seq, type, data, request_id, trace, occurred_at FROM admin.events
    WHERE seq > (SELECT seq FROM admin.event_publication) ORDER BY seq LIMIT %s
"""


def unpublished(limit: int) -> Sequence[Event]:
    """Returns the first events that are not published, in order."""
    return [Event(**row) for row in postgres.rows(UNPUBLISHED, limit)]


def is_unpublished_before(time: datetime) -> bool:
    """Returns whether the first event that is not published occurred before this time."""
    return any(event.occurred_at < time for event in unpublished(1))


def after(seq: int, limit: int) -> Sequence[Event]:
    """Returns the events after this number, oldest first."""
    return list(Event.select().where(Event.seq > seq).order_by(Event.seq).limit(limit))


# The parties are those of the payment now: an event does not name them, and the addressee may change
# afterwards. With `everything`, all events are visible, also those that are not about payments.
VISIBLE_EVENTS = """
    SELECT p.user_id, p.payee_id, p.addressee_id, e.* FROM admin.events e
    LEFT JOIN payments.payments p
        ON p.id = CASE WHEN starts_with(e.type, 'payments:payment:') THEN (e.data ->> 'id')::uuid END
    WHERE e.seq > %(after)s AND e.seq <= %(until)s
        AND (%(everything)s OR p.user_id = %(user_id)s::uuid OR p.payee_id = %(payee_id)s::uuid
            OR p.addressee_id = %(addressee_id)s::uuid)
    ORDER BY e.seq LIMIT %(limit)s
"""

# The largest bigint.
MAX_SEQ = 2**63 - 1


class VisibleEvent(NamedTuple):
    """An event, and the parties that may see it besides the administrators."""

    event: Event
    parties: frozenset[Party]


def last_seq() -> int:
    """Returns the number of the newest event."""
    return int(postgres.value("SELECT coalesce(max(seq), 0) FROM admin.events"))


def read_visible(
    visibility: Visibility, *, after: int, until: int = MAX_SEQ, limit: int
) -> list[VisibleEvent]:
    """Returns the visible events with numbers greater than `after`, up to `until`, oldest first."""
    found = postgres.rows(
        VISIBLE_EVENTS,
        after=after,
        until=until,
        limit=limit,
        everything=not visibility.parties,
        user_id=visibility.user_id,
        payee_id=visibility.payee_id,
        addressee_id=visibility.addressee_id,
    )
    return [_visible(row) for row in found]


def _visible(row: dict[str, Any]) -> VisibleEvent:
    parties = {name: row.pop(name) for name in ("user_id", "payee_id", "addressee_id")}
    return VisibleEvent(Event(**row), frozenset(party for party in parties.items() if party[1]))
