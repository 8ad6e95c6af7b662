"""Reports and analytics: totals of payments, each set of them from one snapshot.

The totals of a day (UTC) are stored once all its payments are terminal. The payments of all other days are
added in the same statement: the totals are exact at any moment.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from db import postgres

# Longer than the timeout of other statements: the payments of a long period are added up.
REPORT_TIMEOUT_S, ANALYTICS_TIMEOUT_S = 60, 30
# The time to settle is measured for payments of this period.
SETTLE_TIME_WINDOW = timedelta(days=7)

# A CTE `totals` (type, day, currency, status, count, amount) of the payments and requests created from
# `since` on and before `until`, of one payee or of all. No index serves requests by time alone: they are read
# by `indexed_status`, one status after another.
TOTALS_CTE = """
    WITH existing AS (
        SELECT greatest(%(since)s::timestamptz, min(created_at)) AS since,
            least(%(until)s::timestamptz, max(created_at) + interval '1 microsecond') AS until
        FROM payments.payments HAVING min(created_at) IS NOT NULL
    ), days AS (
        SELECT day::date, greatest(existing.since, day AT TIME ZONE 'UTC') AS since,
            least(existing.until, (day + interval '1 day') AT TIME ZONE 'UTC') AS until,
            day AT TIME ZONE 'UTC' >= %(since)s::timestamptz
                AND (day + interval '1 day') AT TIME ZONE 'UTC' <= %(until)s::timestamptz AS is_whole
        FROM existing, generate_series(date_trunc('day', existing.since AT TIME ZONE 'UTC'),
            existing.until AT TIME ZONE 'UTC', interval '1 day') AS day
    ), parts AS MATERIALIZED (
        SELECT days.day, types.type, since, until, is_whole AND closed.day IS NOT NULL AS is_stored
        FROM days CROSS JOIN (VALUES ('payment'), ('initiate')) AS types (type)
        LEFT JOIN payments.closed_days AS closed ON closed.day = days.day AND closed.type = types.type
    ), totals AS (
        SELECT t.type, t.day, t.currency, t.status, t.count, t.amount
        FROM parts JOIN payments.daily_totals t ON t.day = parts.day AND t.type = parts.type
        WHERE is_stored
            AND (t.payee_id = %(payee_id)s::uuid OR %(payee_id)s::uuid IS NULL AND t.payee_id IS NULL)
        UNION ALL
        SELECT type, day, live.* FROM parts, LATERAL (
            SELECT p.currency, p.status, count(*), sum(p.amount) FROM payments.payments p
            WHERE p.type = 'payment' AND p.created_at >= since AND p.created_at < until
                AND (%(payee_id)s::uuid IS NULL OR p.payee_id = %(payee_id)s::uuid)
            GROUP BY p.currency, p.status) AS live
        WHERE NOT is_stored AND parts.type = 'payment'
        UNION ALL
        SELECT type, day, live.* FROM parts, LATERAL (
            SELECT p.currency, p.status, count(*), sum(p.amount)
            FROM unnest(ARRAY['pending', 'initiated', 'processing', 'completed', 'failed', 'cancelled'])
                AS status (name)
            JOIN payments.payments p ON p.indexed_status = status.name
            WHERE p.type = 'initiate' AND p.created_at >= since AND p.created_at < until
                AND (%(payee_id)s::uuid IS NULL OR p.payee_id = %(payee_id)s::uuid)
            GROUP BY p.currency, p.status) AS live
        WHERE NOT is_stored AND parts.type = 'initiate'
    )
"""


class ReportPeriod(StrEnum):
    """The periods of a report; a week begins on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True)
class ReportRow:
    """The sum of one period (its first day), currency and status. Counts of requests have no period."""

    period: date | None
    currency: str | None
    status: str
    count: int
    amount: Decimal | None


REPORT = f"""
    {TOTALS_CTE}
    SELECT date_trunc(%(period)s, day)::date AS period, currency, status,
        sum(count)::bigint AS count, sum(amount) AS amount
    FROM totals WHERE type = 'payment' GROUP BY 1, 2, 3
    UNION ALL
    SELECT NULL, NULL, status, sum(count)::bigint, NULL FROM totals WHERE type = 'initiate' GROUP BY status
    ORDER BY 1, 2, 3
"""


def report_rows(
    since: datetime, until: datetime, period: ReportPeriod, *, payee_id: UUID | None = None
) -> Iterator[ReportRow]:
    """Yields the sums of payments, then those of requests, created from `since` on and before `until`.

    With `payee_id`, only those of this payee. Days are days in UTC. Rows are fetched a thousand at a time.
    """
    rows = postgres.stream(
        REPORT, period=period, since=since, until=until, payee_id=payee_id, seconds=REPORT_TIMEOUT_S
    )
    return (ReportRow(**row) for row in rows)


# One statement, so that all totals come from one snapshot.
ANALYTICS = f"""
    {TOTALS_CTE}
    SELECT
        (SELECT jsonb_object_agg(role, n) FROM (
            SELECT role, count(*) AS n FROM auth.users WHERE active GROUP BY role
        ) AS by_role) AS users_by_role,
        (SELECT count(DISTINCT user_id) FROM auth.sessions WHERE last_used_at > %(day)s) AS active_day,
        (SELECT count(DISTINCT user_id) FROM auth.sessions WHERE last_used_at > %(week)s) AS active_week,
        (SELECT jsonb_object_agg(status, n) FROM (
            SELECT status, sum(count) AS n FROM totals WHERE type = 'payment' GROUP BY status
        ) AS by_status) AS payments_by_status,
        (SELECT jsonb_object_agg(currency, total::text) FROM (
            SELECT currency, sum(amount) AS total FROM totals
            WHERE type = 'payment' AND status = 'completed' GROUP BY currency
        ) AS by_currency) AS volume_by_currency,
        (SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (
            ORDER BY extract(epoch FROM updated_at - created_at) * 1000
        ) FROM payments.payments
            WHERE type = 'payment' AND status IN ('completed', 'failed') AND created_at > %(settled)s
        ) AS time_to_settle
"""


def analytics(now: datetime) -> dict[str, Any]:
    """Returns the totals of users, sessions and payments. Times to settle are in milliseconds."""
    with postgres.database.atomic():
        postgres.set_statement_timeout(ANALYTICS_TIMEOUT_S)
        [found] = postgres.rows(
            ANALYTICS,
            since="-infinity",
            until="infinity",
            payee_id=None,
            day=now - timedelta(days=1),
            week=now - timedelta(days=7),
            settled=now - SETTLE_TIME_WINDOW,
        )
    volume = {currency: Decimal(total) for currency, total in (found["volume_by_currency"] or {}).items()}
    return {**found, "volume_by_currency": volume}


# Closes days that have been over for an hour: no transaction that began before midnight takes as long.
# Payments and requests of a day are closed separately.
CLOSE_DAYS = """
    WITH ended AS (
        SELECT day::date, day AT TIME ZONE 'UTC' AS since,
            (day + interval '1 day') AT TIME ZONE 'UTC' AS until
        FROM (SELECT min(created_at) AT TIME ZONE 'UTC' AS moment FROM payments.payments) AS first,
            generate_series(date_trunc('day', moment),
                (statement_timestamp() - interval '25 hours') AT TIME ZONE 'UTC', interval '1 day') AS day
    ), complete AS (
        SELECT day, type, since, until FROM ended, (VALUES ('payment'), ('initiate')) AS types (type)
        WHERE NOT EXISTS (SELECT FROM payments.closed_days c WHERE c.day = ended.day AND c.type = types.type)
            AND CASE type WHEN 'payment' THEN NOT EXISTS (
                SELECT FROM payments.payments_in_progress i JOIN payments.payments p ON p.id = i.payment_id
                WHERE p.type = 'payment' AND p.created_at >= since AND p.created_at < until)
            ELSE NOT EXISTS (
                SELECT FROM payments.payments p
                WHERE p.indexed_status IN ('pending', 'initiated', 'processing')
                    AND p.created_at >= since AND p.created_at < until)
            END
        ORDER BY day, type LIMIT %s
    ), closed AS (
        INSERT INTO payments.closed_days (day, type) SELECT day, type FROM complete
        ON CONFLICT DO NOTHING RETURNING day, type
    ), added AS (
        INSERT INTO payments.daily_totals (day, type, payee_id, currency, status, count, amount)
        SELECT day, type, payee_id, currency, p.status, count(*), sum(amount)
        FROM closed JOIN complete USING (day, type)
        JOIN payments.payments p USING (type)
        WHERE p.created_at >= since AND p.created_at < until
        GROUP BY GROUPING SETS ((day, type, currency, p.status), (day, type, currency, p.status, payee_id))
        HAVING GROUPING(payee_id) = 1 OR payee_id IS NOT NULL
    )
    SELECT count(*) AS days FROM closed
"""


def close_days(limit: int) -> int:
    """Stores the totals of days that are over and whose payments, or requests, are all terminal.

    Takes the oldest such days, at most `limit`; returns their number. Payments and requests count separately.
    """
    return int(postgres.value(CLOSE_DAYS, limit))
