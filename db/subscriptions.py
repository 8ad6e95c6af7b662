"""Subscriptions: each subscriber's cursor in the event log, and the events that it gave up."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from db import postgres
from db.event_log import Event
from db.pagination import Cursor, Page, page

# A cursor is moved past events of other types when this many have gathered: if it were moved past each of
# them, every event would cost every subscriber a write.
_SKIP_AFTER_EVENTS = 1000
# How many event numbers one statement reads: it must end within the statement timeout.
_MAX_STRIDE = 10_000


@dataclass(frozen=True)
class Claim:
    """The right to handle the next events of a subscriber: its cursor, its attempts, its last error.

    `seq` is the number of the last event that is done.
    """

    name: str
    seq: int
    attempts: int
    error: str | None


CREATE = """
    INSERT INTO admin.subscriptions (name, seq)
    SELECT name, coalesce((SELECT max(seq) FROM admin.events), 0) FROM unnest(%s::text[]) AS new (name)
    ON CONFLICT DO NOTHING
"""


def create(names: Collection[str]) -> None:
    """Creates the cursors that do not exist yet, at the end of the log."""
    postgres.rows(CREATE, list(names))


# A subquery with ORDER BY instead of EXISTS, for which PostgreSQL would read the log from its beginning.
READY_SUBSCRIBERS = """
    SELECT wanted.name, s.name IS NULL AS is_new FROM unnest(%s::text[], %s::jsonb[]) AS wanted (name, types)
    LEFT JOIN admin.subscriptions s ON s.name = wanted.name
    WHERE s.name IS NULL
        OR s.due_at <= clock_timestamp()
        AND ((SELECT e.seq FROM admin.events e
              WHERE e.seq > s.seq AND wanted.types ? e.type
              ORDER BY e.seq LIMIT 1) IS NOT NULL
             OR (SELECT max(seq) FROM admin.events) >= s.seq + %s)
"""


def find_ready(types: Mapping[str, Collection[str]]) -> tuple[set[str], set[str]]:
    """Returns which of these subscribers have events to handle now, and which have no cursor yet.

    One statement for all subscribers, which writes nothing.
    """
    found = postgres.rows(READY_SUBSCRIBERS, list(types), _as_json(types), _SKIP_AFTER_EVENTS)
    new = {row["name"] for row in found if row["is_new"]}
    return {row["name"] for row in found} - new, new


OLDEST_UNHANDLED = """
    SELECT s.name, (
        SELECT e.occurred_at FROM admin.events e
        WHERE e.seq > s.seq AND wanted.types ? e.type
        ORDER BY e.seq LIMIT 1) AS oldest
    FROM unnest(%s::text[], %s::jsonb[]) AS wanted (name, types)
    JOIN admin.subscriptions s ON s.name = wanted.name
"""


def oldest_unhandled(types: Mapping[str, Collection[str]]) -> dict[str, datetime | None]:
    """Returns when the next event of each of these subscribers occurred; None where there is none."""
    found = postgres.rows(OLDEST_UNHANDLED, list(types), _as_json(types))
    return {row["name"]: row["oldest"] for row in found}


# SQL: the pause after a number of attempts. A quarter of a second, doubled at each up to five minutes, with
# jitter.
_PAUSE = "least(300, 0.25 * 2 ^ ({attempts})) * (0.5 + random() / 2) * interval '1 second'"

CLAIM = f"""
    UPDATE admin.subscriptions
    SET attempts = attempts + 1,
        due_at = clock_timestamp() + {_PAUSE.format(attempts="attempts + 1")}
    WHERE name = (
        SELECT name FROM admin.subscriptions s
        WHERE name = %(name)s AND due_at <= clock_timestamp()
        AND ((SELECT e.seq FROM admin.events e
              WHERE e.seq > s.seq AND e.type = ANY(%(types)s::text[])
              ORDER BY e.seq LIMIT 1) IS NOT NULL
             OR (SELECT max(seq) FROM admin.events) >= s.seq + %(skip)s)
        FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING name, seq, attempts, error
"""


def claim(name: str, types: Collection[str]) -> Claim | None:
    """Claims the next events of a subscriber; None if none exist or are due, or another process has them.

    Counts the attempt in advance, so that an attempt that kills its process counts too. No other process gets
    the claim before the pause is over, or `advance`, `record_failure` or `release` has ended the claim.
    """
    return postgres.first(Claim, CLAIM, name=name, types=list(types), skip=_SKIP_AFTER_EVENTS)


LOCK_NEXT = """
    WITH cursor AS (
        SELECT FROM admin.subscriptions WHERE name = %(name)s AND seq = %(seq)s AND attempts = %(attempts)s
        FOR NO KEY UPDATE SKIP LOCKED
    ), log AS (
        SELECT coalesce(least(max(seq), %(seq)s + %(stride)s), 0) AS "end" FROM admin.events
    )
    SELECT log."end", new.* FROM cursor CROSS JOIN log LEFT JOIN LATERAL (
        SELECT id, seq, type, data, request_id, trace, occurred_at FROM admin.events e
        WHERE seq > %(seq)s AND seq <= log."end" AND type = ANY(%(types)s::text[])
        ORDER BY seq LIMIT %(limit)s
    ) AS new ON true
    ORDER BY new.seq
"""


def lock_next(claim: Claim, types: Collection[str], limit: int) -> tuple[Sequence[Event], int] | None:
    """Locks the cursor to the end of the transaction; None when another process has claimed it since.

    Returns the next events of these types in order, and the number to which the cursor then advances. It may
    return events that are not published yet: an event becomes visible only after all events before it.
    """
    rows = postgres.rows(
        LOCK_NEXT,
        name=claim.name,
        seq=claim.seq,
        attempts=claim.attempts,
        types=list(types),
        stride=_MAX_STRIDE,
        limit=limit,
    )
    if not rows:
        return None
    end = int(rows[0]["end"])
    columns = [{name: row[name] for name in row if name != "end"} for row in rows]
    found = [Event(**row) for row in columns if row["id"] is not None]
    return found, found[-1].seq if len(found) == limit else end


ADVANCE = """
    UPDATE admin.subscriptions
    SET seq = %s, attempts = 0, error = NULL, due_at = clock_timestamp(), moved_at = clock_timestamp()
    WHERE name = %s
"""


def advance(claim: Claim, seq: int) -> Claim:
    """Moves a locked cursor to this event number; returns the claim that follows."""
    postgres.rows(ADVANCE, seq, claim.name)
    return replace(claim, seq=seq, attempts=0, error=None)


RECORD_FAILURE = f"""
    UPDATE admin.subscriptions
    SET error = %s, attempts = greatest(1, attempts),
        due_at = clock_timestamp() + {_PAUSE.format(attempts="greatest(1, attempts)")}
    WHERE name = %s AND seq = %s AND attempts = %s
"""


def record_failure(claim: Claim, error: str) -> None:
    """Records what went wrong and postpones the next attempt, unless the cursor has moved since."""
    postgres.rows(RECORD_FAILURE, error, claim.name, claim.seq, claim.attempts)


RELEASE = """
    UPDATE admin.subscriptions
    SET attempts = attempts - 1, due_at = clock_timestamp() + (0.25 + random() / 4) * interval '1 second'
    WHERE name = %s AND seq = %s AND attempts = %s
"""


def release(claim: Claim) -> None:
    """Ends a claim without counting the attempt, because the event was not the cause."""
    postgres.rows(RELEASE, claim.name, claim.seq, claim.attempts)


def record_missed(claim: Claim, event: Event, error: str) -> None:
    """Records that the subscriber gave this event up."""
    postgres.rows(
        "INSERT INTO admin.missed_events (name, seq, error) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        claim.name,
        event.seq,
        error,
    )


def missed(name: str, limit: int) -> list[int]:
    """Returns the numbers of the first events that a subscriber gave up."""
    sql = "SELECT seq FROM admin.missed_events WHERE name = %s ORDER BY seq LIMIT %s"
    return [row["seq"] for row in postgres.rows(sql, name, limit)]


def is_missed(name: str, seq: int) -> bool:
    """Returns whether a subscriber gave this event up."""
    return bool(postgres.rows("SELECT FROM admin.missed_events WHERE name = %s AND seq = %s", name, seq))


@dataclass(frozen=True)
class ListedMissedEvent:
    """An event that a subscriber gave up, for operators. `created_at` is when it was given up."""

    id: UUID
    name: str
    error: str
    created_at: datetime
    event: Event


NEWEST_MISSED = """
    SELECT m.id AS missed_id, m.name, m.error, m.given_up_at,
        e.id, e.seq, e.type, e.data, e.request_id, e.trace, e.occurred_at
    FROM admin.missed_events m JOIN admin.events e ON e.seq = m.seq
    WHERE (m.given_up_at, m.id) < (%(before)s, %(before_id)s::uuid)
        AND (%(name)s IS NULL OR m.name = %(name)s)
    ORDER BY m.given_up_at DESC, m.id DESC LIMIT %(count)s
"""


def missed_page(name: str | None, *, limit: int, after: Cursor | None) -> Page[ListedMissedEvent]:
    """Returns a page of the events that subscribers, or one of them, gave up; the last one first."""
    found = postgres.rows(
        NEWEST_MISSED,
        name=name,
        before=after.created_at if after else "infinity",
        before_id=after.id if after else UUID(int=0),
        count=limit + 1,
    )
    return page([_listed(row) for row in found], limit)


def _listed(row: dict[str, Any]) -> ListedMissedEvent:
    id, name, error, given_up_at = (row.pop(key) for key in ("missed_id", "name", "error", "given_up_at"))
    return ListedMissedEvent(id, name, error, given_up_at, Event(**row))


CLAIM_MISSED = """
    WITH claimed AS (
        DELETE FROM admin.missed_events
        WHERE (name, seq) = (
            SELECT name, seq FROM admin.missed_events WHERE name = %s AND seq = %s FOR UPDATE SKIP LOCKED)
        RETURNING seq
    )
    SELECT e.id, e.seq, e.type, e.data, e.request_id, e.trace, e.occurred_at
    FROM claimed JOIN admin.events e ON e.seq = claimed.seq
"""


def claim_missed(name: str, seq: int) -> Event | None:
    """Removes a missed event and returns it, in the open transaction; None when another process has it."""
    return postgres.first(Event, CLAIM_MISSED, name, seq)


def record_missed_again(name: str, seq: int, error: str) -> None:
    """Records what went wrong when a missed event was handled again."""
    sql = "UPDATE admin.missed_events SET error = %s WHERE name = %s AND seq = %s"
    postgres.rows(sql, error, name, seq)


def _as_json(types: Mapping[str, Collection[str]]) -> list[postgres.Json]:
    return [postgres.Json(list(names)) for names in types.values()]
