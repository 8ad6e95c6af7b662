"""Runs of the break-it page: payments that name one in their metadata, and what the stubbed PSP charged."""

from typing import Any

from db import postgres

PAYMENTS = """
    SELECT p.metadata ->> 'run' AS run, p.id, p.metadata ->> 'simulate' AS simulate, p.status, p.failure_code,
        EXISTS (SELECT FROM payments.payment_reviews r
            WHERE r.payment_id = p.id AND r.resolved_at IS NULL) AS needs_review,
        (SELECT count(*) FROM payments.psp_attempts a
            WHERE a.payment_id = p.id AND a.operation <> 'notice') AS calls,
        (SELECT count(*) FROM psp.charges c WHERE c.payment_id = p.id AND c.outcome = 'charged') AS charges,
        p.created_at, p.updated_at
    FROM (
        SELECT * FROM payments.payments
        WHERE created_at > statement_timestamp() - interval '1 hour' AND type = 'payment'
            AND metadata ->> 'run' = coalesce(%(run)s, metadata ->> 'run')
        ORDER BY created_at DESC, id DESC LIMIT 500
    ) AS p
    ORDER BY p.created_at, p.id
"""


def payments(run: str | None) -> list[dict[str, Any]]:
    """Returns the newest payments of the last hour's runs, or of one of them, oldest first."""
    return postgres.rows(PAYMENTS, run=run)
