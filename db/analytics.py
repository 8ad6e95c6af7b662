"""What all payments and people add up to, for an administrator to look at."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from db import postgres

# How long adding up may take, in seconds, and of which last days the time to settle is measured.
STATEMENT_TIMEOUT_S, SETTLE_TIME_WINDOW = 30, timedelta(days=7)


def totals(now: datetime) -> dict[str, Any]:
    """Everything, in one consistent snapshot: it is one statement."""
    with postgres.database.atomic():
        postgres.set_statement_timeout(STATEMENT_TIMEOUT_S)
        [found] = postgres.rows(
            """
            SELECT
                (SELECT jsonb_object_agg(role, n) FROM (SELECT role, count(*) AS n FROM auth.users
                    WHERE active GROUP BY role) AS people) AS users_by_role,
                (SELECT count(DISTINCT user_id) FROM auth.sessions WHERE last_used_at > %s) AS active_day,
                (SELECT count(DISTINCT user_id) FROM auth.sessions WHERE last_used_at > %s) AS active_week,
                (SELECT jsonb_object_agg(status, n) FROM (SELECT status, count(*) AS n FROM payments.payments
                    WHERE type = 'payment' GROUP BY status) AS paid) AS payments_by_status,
                (SELECT jsonb_object_agg(currency, total::text) FROM (SELECT currency, sum(amount) AS total
                    FROM payments.payments WHERE type = 'payment' AND status = 'completed' GROUP BY currency)
                    AS moved) AS volume_by_currency,
                (SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (
                    ORDER BY extract(epoch FROM updated_at - created_at) * 1000) FROM payments.payments
                    WHERE type = 'payment' AND status IN ('completed', 'failed') AND created_at > %s)
                    AS time_to_settle
            """,
            now - timedelta(days=1),
            now - timedelta(days=7),
            now - SETTLE_TIME_WINDOW,
        )
    volume = {currency: Decimal(total) for currency, total in (found["volume_by_currency"] or {}).items()}
    return {**found, "volume_by_currency": volume}
