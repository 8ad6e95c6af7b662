"""The PSP's statements: what it says it decided, day by day, and where we say otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres
from db.reviews import ReviewCause


class Statement(postgres.Model):
    """A day that was matched."""

    day = peewee.DateField(primary_key=True)
    lines = peewee.IntegerField()
    differences = peewee.IntegerField()
    matched_at = DateTimeTZField()

    class Meta:
        schema = "payments"
        table_name = "statements"


class StatementLine(postgres.Model):
    """One booking of the PSP, under a reference of ours."""

    id = peewee.TextField(primary_key=True)
    day = peewee.DateField()
    reference = peewee.TextField()
    # As the PSP says it, whether or not it fits our own money.
    amount = postgres.AnyDecimal()
    currency = peewee.TextField()
    outcome = peewee.CharField(50)
    booked_at = DateTimeTZField(null=False)

    class Meta:
        schema = "payments"
        table_name = "statement_lines"


# How long comparing a day may take, in seconds: less than an actor has.
STATEMENT_TIMEOUT_S = 8


@dataclass(frozen=True)
class Difference:
    """Where the PSP and we disagree: about a payment, or about one that we do not have."""

    reference: str
    payment_id: UUID | None
    reason: str
    cause: ReviewCause


def day_bounds(day: date) -> tuple[datetime, datetime]:
    """A day in UTC: its first moment, and that of the next one."""
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return begin, begin + timedelta(days=1)


def is_matched(day: date) -> bool:
    """Whether this day's statement was matched already."""
    return bool(Statement.select().where(Statement.day == day).exists())


def unmatched_days(until: date, limit: int) -> list[date]:
    """The days before `until` that were not matched, back to the first one that was, the oldest first; of
    very many, the newest. The day before, where none ever was.

    A day that is not over by the database's clock is none of them: what is matched is closed for good, and
    the clock of a process may be wrong.
    """
    found = postgres.rows(
        "WITH known AS (SELECT min(day) AS first FROM payments.statements),"
        " ended AS (SELECT"
        " least(%s::date, (clock_timestamp() AT TIME ZONE 'UTC')::date) - 1 AS last)"
        " SELECT day::date FROM known, ended,"
        " generate_series(coalesce(first + 1, last)::timestamp, last, '1 day') AS day"
        " WHERE NOT EXISTS (SELECT FROM payments.statements s WHERE s.day = day.day::date)"
        " ORDER BY day DESC LIMIT %s",
        until,
        limit,
    )
    return sorted(row["day"] for row in found)


def add_lines(rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes lines of a statement; one that is known is replaced."""
    columns = (StatementLine.day, StatementLine.reference, StatementLine.amount, StatementLine.currency)
    StatementLine.insert_many(list({row["id"]: row for row in rows}.values())).on_conflict(
        conflict_target=[StatementLine.id],
        preserve=[*columns, StatementLine.outcome, StatementLine.booked_at],
    ).execute()


def mark_matched(day: date, differences: int) -> Statement:
    """Writes down that this day was matched, and with how many differences."""
    lines = StatementLine.select().where(StatementLine.day == day).count()
    insert = Statement.insert(day=day, lines=lines, differences=differences)
    again = [Statement.lines, Statement.differences]
    moment = {Statement.matched_at: peewee.fn.clock_timestamp()}
    closed = insert.on_conflict(conflict_target=[Statement.day], preserve=again, update=moment)
    return postgres.execute_returning(closed, Statement)[0]


# A reference of ours is a payment's id; another company may still send others.
_OURS = "CASE WHEN l.reference ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN l.reference::uuid END"

_TWICE = f"""
SELECT l.reference, {_OURS} AS payment_id, 'charged ' || count(*) || ' times' AS reason,
    'statement_differs' AS cause
FROM payments.statement_lines l
WHERE l.outcome = 'charged' AND l.reference IN (
    SELECT reference FROM payments.statement_lines WHERE day = %s)
GROUP BY l.reference HAVING count(*) > 1
"""
_THEY_SAY = f"""
SELECT l.reference, p.id AS payment_id, CASE
    WHEN p.id IS NULL THEN l.outcome || ', and there is no such payment'
    WHEN l.currency <> p.currency OR l.amount <> p.amount
        THEN l.outcome || ' ' || l.amount || ' ' || l.currency || ', but the payment is over '
             || p.amount || ' ' || p.currency
    ELSE l.outcome || ', but the payment is ' || p.status END AS reason,
    CASE WHEN p.status IN ('pending', 'processing') AND l.currency = p.currency AND l.amount = p.amount
        THEN 'statement_' || l.outcome ELSE 'statement_differs' END AS cause
FROM payments.statement_lines l LEFT JOIN payments.payments p ON p.type = 'payment' AND p.id = {_OURS}
WHERE l.day = %s AND (p.id IS NULL OR l.currency <> p.currency OR l.amount <> p.amount
    OR p.status <> CASE l.outcome WHEN 'charged' THEN 'completed' ELSE 'failed' END)
"""
# By the history: what was completed on that day was charged then or before, and stands in some statement.
_WE_SAY = """
SELECT p.id::text AS reference, p.id AS payment_id, 'completed, but never charged' AS reason,
    'statement_differs' AS cause
FROM payments.payment_transactions t JOIN payments.payments p ON p.id = t.payment_id AND p.type = 'payment'
WHERE t.transaction_type = 'complete' AND t.created_at >= %s AND t.created_at < %s
    AND NOT EXISTS (SELECT FROM payments.statement_lines l WHERE l.reference = p.id::text)
"""


def find_differences(day: date) -> list[Difference]:
    """Every difference between a day's statement and the payments as they are now."""
    # Clocks differ: what was completed in a day's last minute may stand in the statement of the next. Before
    # the first day there is no statement.
    begin, end = (moment - timedelta(minutes=1) for moment in day_bounds(day))
    if not Statement.select().where(Statement.day < day).exists():
        begin, _ = day_bounds(day)
    with postgres.database.atomic():
        postgres.set_statement_timeout(STATEMENT_TIMEOUT_S)
        found = postgres.rows(_THEY_SAY, day) + postgres.rows(_WE_SAY, begin, end)
        found += postgres.rows(_TWICE, day)
    for row in found:
        row["cause"] = ReviewCause(row["cause"])
    return [Difference(**row) for row in sorted(found, key=lambda row: str(row["reference"]))]
