"""Totals of payments by the day of their creation (UTC): stored once all payments of the day are terminal.

Reports and analytics add the payments of all other days, in the same statement. So they are exact at any
moment.
"""

from db import postgres

# One (day, type) a row. An hour is far more than a transaction that began before midnight may take.
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

# Rows `totals` (type, day, currency, status, count, amount) of what was created from :since on and before
# :until, of one payee or of all. Requests have no index by time alone: `indexed_status` has one.
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


def close_days(limit: int) -> int:
    """Stores the totals of days that are over and whose payments, or requests, are all terminal.

    Takes the oldest such days, at most `limit`; returns their number. Payments and requests count separately.
    """
    [closed] = postgres.rows(CLOSE_DAYS, limit)
    return int(closed["days"])
