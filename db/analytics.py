"""Totals of users, sessions and payments for administrators."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from db import postgres
from db.daily_totals import TOTALS_CTE

# Aggregating all payments takes longer than other requests.
STATEMENT_TIMEOUT_S = 30
# The time to settle is measured for payments of this period.
SETTLE_TIME_WINDOW = timedelta(days=7)

# One statement, so that all totals come from one snapshot.
TOTALS = f"""
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


def totals(now: datetime) -> dict[str, Any]:
    """Returns the totals, all from one snapshot. Times to settle are in milliseconds."""
    with postgres.database.atomic():
        postgres.set_statement_timeout(STATEMENT_TIMEOUT_S)
        [found] = postgres.rows(
            TOTALS,
            since="-infinity",
            until="infinity",
            payee_id=None,
            day=now - timedelta(days=1),
            week=now - timedelta(days=7),
            settled=now - SETTLE_TIME_WINDOW,
        )
    volume = {currency: Decimal(total) for currency, total in (found["volume_by_currency"] or {}).items()}
    return {**found, "volume_by_currency": volume}
