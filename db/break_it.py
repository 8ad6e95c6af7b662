"""What only the break-it page needs: the payments of its runs, and a job that dies at once."""

from typing import Any
from uuid import UUID

from db import postgres
from db.job_journal import MAX_ATTEMPTS

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
    """Returns the newest payments of the last hour whose metadata name a run, or this one, oldest first."""
    return postgres.rows(PAYMENTS, run=run)


# Leaves out a job that a worker has at this moment: the worker would remove the row at the end of its work.
LET_DIE = f"""
    UPDATE journal.jobs
    SET attempts = {MAX_ATTEMPTS}, error = %(error)s, leased_until = NULL, dead_at = clock_timestamp()
    WHERE id = (
        SELECT id FROM journal.jobs
        WHERE args ->> 'payment_id' = %(payment_id)s AND starts_with(name, 'payments.') AND dead_at IS NULL
        AND (leased_until IS NULL OR leased_until <= clock_timestamp())
        ORDER BY position LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id, name
"""


def let_job_die(payment_id: UUID, error: str) -> dict[str, Any] | None:
    """Makes the job that the payment waits for dead, as if all its attempts had failed within the last hour.

    Returns its id and name, None if none waits now.
    """
    found = postgres.rows(LET_DIE, payment_id=str(payment_id), error=error)
    return found[0] if found else None
