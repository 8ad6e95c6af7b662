"""A fault for developers: a job dies at once, as if all its attempts had failed within the last hour."""

from typing import Any
from uuid import UUID

from db import postgres
from db.job_journal import MAX_ATTEMPTS

# Not one that a worker has at this moment: that one still ends, and would take its row along.
LET_DIE = """
    UPDATE journal.jobs
    SET attempts = %(attempts)s, error = %(error)s, leased_until = NULL, dead_at = clock_timestamp()
    WHERE id = (
        SELECT id FROM journal.jobs
        WHERE args ->> 'payment_id' = %(payment_id)s AND starts_with(name, 'payments.') AND dead_at IS NULL
        AND (leased_until IS NULL OR leased_until <= clock_timestamp())
        ORDER BY position LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id, name
"""


def let_die(payment_id: UUID, error: str) -> dict[str, Any] | None:
    """Makes the job that the payment waits for dead; returns its id and name, None if none waits now."""
    found = postgres.rows(LET_DIE, payment_id=str(payment_id), attempts=MAX_ATTEMPTS, error=error)
    return found[0] if found else None
