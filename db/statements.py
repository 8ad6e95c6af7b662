"""The PSP's daily statements, and the differences between a statement and the payments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres
from db.reviews import ReviewCause
from db.states import PaymentStatus


class StatementLine(postgres.Model, table="payments.statement_lines"):
    """A booking of the PSP; `reference` is the id of a payment."""

    id = peewee.TextField(primary_key=True)
    day = peewee.DateField()
    reference = peewee.TextField()
    # As the PSP sent it: it need not fit an amount of ours.
    amount = postgres.AnyDecimal()
    currency = peewee.TextField()
    outcome = peewee.CharField(50)
    booked_at = DateTimeTZField(null=False)


# Comparing a day must end before the time limit of its job.
STATEMENT_TIMEOUT_S = 8

# The clocks of the PSP and of the database differ: a payment completed in the last minute of a day may be in
# the statement of the next day.
CLOCK_TOLERANCE = timedelta(minutes=1)

# SQL: the payment id in a reference; null for a reference that another system has chosen.
_PAYMENT_ID = """
    CASE WHEN l.reference ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN l.reference::uuid END
"""

UNMATCHED_DAYS = """
    WITH known AS (SELECT min(day) AS first FROM payments.statements),
    ended AS (SELECT least(%s::date, (clock_timestamp() AT TIME ZONE 'UTC')::date) - 1 AS last)
    SELECT day::date
    FROM known, ended, generate_series(coalesce(first + 1, last)::timestamp, last, '1 day') AS day
    WHERE NOT EXISTS (SELECT FROM payments.statements s WHERE s.day = day.day::date)
    ORDER BY day DESC LIMIT %s
"""

CHARGED_TWICE = f"""
    SELECT l.reference, {_PAYMENT_ID} AS payment_id, 'charged ' || count(*) || ' times' AS reason,
        'statement_differs' AS cause
    FROM payments.statement_lines l
    WHERE l.outcome = 'charged' AND l.reference IN (
        SELECT reference FROM payments.statement_lines WHERE day = %s)
    GROUP BY l.reference HAVING count(*) > 1
"""

LINES_UNLIKE_PAYMENTS = f"""
    SELECT l.reference, p.id AS payment_id,
        CASE
            WHEN p.id IS NULL THEN l.outcome || ', and there is no such payment'
            WHEN l.currency <> p.currency OR l.amount <> p.amount
                THEN l.outcome || ' ' || l.amount || ' ' || l.currency || ', but the payment is over '
                    || p.amount || ' ' || p.currency
            ELSE l.outcome || ', but the payment is ' || p.status
        END AS reason,
        CASE
            WHEN p.status IN ('pending', 'processing') AND l.currency = p.currency AND l.amount = p.amount
                THEN 'statement_' || l.outcome
            ELSE 'statement_differs'
        END AS cause
    FROM payments.statement_lines l
    LEFT JOIN payments.payments p ON p.type = 'payment' AND p.id = {_PAYMENT_ID}
    WHERE l.day = %s AND (p.id IS NULL OR l.currency <> p.currency OR l.amount <> p.amount
        OR p.status <> CASE l.outcome WHEN 'charged' THEN 'completed' ELSE 'failed' END)
"""

# Finds payments by their history: one that was completed on this day was charged then or before, so that a
# statement must have it.
PAYMENTS_WITHOUT_LINE = """
    SELECT p.id::text AS reference, p.id AS payment_id, 'completed, but never charged' AS reason,
        'statement_differs' AS cause
    FROM payments.payment_transactions t
    JOIN payments.payments p ON p.id = t.payment_id AND p.type = 'payment'
    WHERE t.transaction_type = 'complete' AND t.created_at >= %s AND t.created_at < %s
        AND NOT EXISTS (SELECT FROM payments.statement_lines l WHERE l.reference = p.id::text)
"""


@dataclass(frozen=True)
class Difference:
    """A difference between the PSP and Paywright; `payment_id` is None if there is no such payment."""

    reference: str
    payment_id: UUID | None
    reason: str
    cause: ReviewCause


@dataclass(frozen=True)
class OurPayment:
    """Our side of a difference: the payment as it is now, and whether a review of it is open."""

    id: UUID
    status: PaymentStatus
    amount: Decimal
    currency: str
    updated_at: datetime
    needs_review: bool


COMPARED_PAYMENTS = """
    SELECT id, status, amount, currency, updated_at, EXISTS (
        SELECT FROM payments.payment_reviews r WHERE r.payment_id = p.id AND r.resolved_at IS NULL
    ) AS needs_review
    FROM payments.payments p WHERE id = ANY(%s)
"""


def payments_of(differences: Sequence[Difference]) -> dict[UUID, OurPayment]:
    """Returns the payments of these differences by their ids."""
    ids = [difference.payment_id for difference in differences if difference.payment_id]
    found = [OurPayment(**row) for row in postgres.rows(COMPARED_PAYMENTS, ids)]
    return {payment.id: payment for payment in found}


def lines_of(differences: Sequence[Difference]) -> dict[str, list[StatementLine]]:
    """Returns the lines of statements of any day with the references of these differences, oldest first."""
    references = [difference.reference for difference in differences]
    query = StatementLine.select().where(StatementLine.reference.in_(references))
    lines: dict[str, list[StatementLine]] = {reference: [] for reference in references}
    for line in query.order_by(StatementLine.booked_at, StatementLine.id):
        lines[line.reference].append(line)
    return lines


def is_matched(day: date) -> bool:
    """Returns whether this day's statement was matched."""
    return bool(postgres.rows("SELECT FROM payments.statements WHERE day = %s", day))


def unmatched_days(until: date, limit: int) -> list[date]:
    """Returns the days before `until` whose statement was not matched, oldest first.

    They begin after the first day that was matched; if none was, only the day before `until` is returned. Of
    more than `limit` days, the newest are returned. A day is left out until it is over by the database's
    clock: a match is final, and the clock of a process may be wrong.
    """
    return sorted(row["day"] for row in postgres.rows(UNMATCHED_DAYS, until, limit))


def add_lines(rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts lines of a statement, and replaces those with a known id."""
    columns = (StatementLine.day, StatementLine.reference, StatementLine.amount, StatementLine.currency)
    StatementLine.insert_many(list({row["id"]: row for row in rows}.values())).on_conflict(
        conflict_target=[StatementLine.id],
        preserve=[*columns, StatementLine.outcome, StatementLine.booked_at],
    ).execute()


MARK_MATCHED = """
    INSERT INTO payments.statements (day, lines, differences)
    SELECT %(day)s, count(*), %(differences)s FROM payments.statement_lines WHERE day = %(day)s
    ON CONFLICT (day) DO UPDATE
        SET lines = excluded.lines, differences = excluded.differences, matched_at = clock_timestamp()
    RETURNING lines
"""


def mark_matched(day: date, differences: int) -> int:
    """Records that this day was matched, with its number of differences. Returns its number of lines."""
    return int(postgres.value(MARK_MATCHED, day=day, differences=differences))


def find_differences(day: date) -> list[Difference]:
    """Returns every difference between a day's statement and the payments as they are now."""
    midnight = datetime.combine(day, time.min, UTC)
    # Before the first statement there is none that could have payments of the last minute.
    has_earlier = postgres.rows("SELECT FROM payments.statements WHERE day < %s LIMIT 1", day)
    begin = midnight - CLOCK_TOLERANCE if has_earlier else midnight
    end = midnight + timedelta(days=1) - CLOCK_TOLERANCE
    with postgres.database.atomic():
        postgres.set_statement_timeout(STATEMENT_TIMEOUT_S)
        found = postgres.rows(LINES_UNLIKE_PAYMENTS, day) + postgres.rows(PAYMENTS_WITHOUT_LINE, begin, end)
        found += postgres.rows(CHARGED_TWICE, day)
    differences = [Difference(**{**row, "cause": ReviewCause(row["cause"])}) for row in found]
    return sorted(differences, key=lambda difference: difference.reference)
