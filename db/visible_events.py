"""The event log as one caller may read it: events about payments belong to the parties of the payment."""

from typing import NamedTuple
from uuid import UUID

from db import postgres
from db.event_log import Event
from db.shown_payments import Party, Visibility

# The event does not name the parties, which may change after it (`addressee_id`): they are those of now.
# Without a party in the visibility every event is visible, also one that is about no payment.
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

LAST_SEQ = "SELECT coalesce(max(seq), 0) AS seq FROM admin.events"


class VisibleEvent(NamedTuple):
    """An event, and who may see it besides the administrators."""

    event: Event
    parties: frozenset[Party]


def last_seq() -> int:
    """Returns the number of the newest event."""
    return int(postgres.rows(LAST_SEQ)[0]["seq"])


def read(visibility: Visibility, *, after: int, until: int = MAX_SEQ, limit: int) -> list[VisibleEvent]:
    """Returns the visible events after one number and up to another, oldest first."""
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
    return [VisibleEvent(_event(row), _parties(row)) for row in found]


def _event(row: dict[str, object]) -> Event:
    return Event(**{name: value for name, value in row.items() if name not in _PARTIES})


def _parties(row: dict[str, object]) -> frozenset[Party]:
    return frozenset((name, value) for name in _PARTIES if isinstance(value := row[name], UUID))


_PARTIES = ("user_id", "payee_id", "addressee_id")
