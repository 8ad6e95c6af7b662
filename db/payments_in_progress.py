"""The payments for which a job must be under way, and when the reconciler looks at them next.

Triggers maintain the table (migration 0067), which serves as an index on the status of payments.
"""

from datetime import datetime, timedelta
from uuid import UUID

from db import postgres

# How long a payment is `processing` before the reconciler acts.
STUCK_AFTER = timedelta(seconds=3)
# The shortest time until the reconciler acts on the same payment again. For a payment that has been
# `processing` for long, it is a tenth of that time.
RECONCILE_AGAIN_AFTER = timedelta(seconds=30)

BY_STATUS = """
    SELECT p.status, count(*) AS count, min(p.updated_at) AS oldest
    FROM (SELECT payment_id FROM payments.payments_in_progress LIMIT %s) AS i
    JOIN payments.payments p ON p.id = i.payment_id
    WHERE p.type = 'payment' GROUP BY p.status
"""


def by_status(limit: int) -> dict[str, tuple[int, datetime]]:
    """Returns how many payments are in each status that is not final, and since when the oldest one is.

    Counts the first ones up to a limit.
    """
    return {row["status"]: (row["count"], row["oldest"]) for row in postgres.rows(BY_STATUS, limit)}


CLAIM_STUCK = """
    WITH stuck AS (
        SELECT p.id, p.updated_at
        FROM payments.payments_in_progress i JOIN payments.payments p ON p.id = i.payment_id
        WHERE i.reconcile_at < statement_timestamp() AND p.type = 'payment' AND p.status = 'processing'
            AND p.updated_at < statement_timestamp() - %s
        ORDER BY i.reconcile_at LIMIT %s
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE payments.payments_in_progress i
    SET reconcile_at = statement_timestamp() + greatest(%s, (statement_timestamp() - stuck.updated_at) / 10)
    FROM stuck WHERE i.payment_id = stuck.id RETURNING i.payment_id
"""

CLAIM_NOT_BEGUN = """
    WITH waiting AS (
        SELECT i.payment_id
        FROM payments.payments_in_progress i JOIN payments.payments p ON p.id = i.payment_id
        WHERE i.reconcile_at < statement_timestamp() AND p.status = 'pending'
            AND p.created_at < statement_timestamp() - %s
        ORDER BY i.reconcile_at LIMIT %s
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE payments.payments_in_progress i SET reconcile_at = statement_timestamp() + %s
    FROM waiting WHERE i.payment_id = waiting.payment_id RETURNING i.payment_id
"""


# min() reads the first entry of an index. For EXISTS, PostgreSQL would read all calls, because it has no
# statistics of a column that is almost always null.
MAY_NEED_RECONCILIATION = """
    SELECT (SELECT min(reconcile_at) FROM payments.payments_in_progress) < statement_timestamp()
        OR (SELECT min(unsettled_since) FROM payments.psp_attempts) IS NOT NULL
"""


def may_need_reconciliation() -> bool:
    """Returns whether a payment is due for the reconciler, or a decision is not settled."""
    return bool(postgres.value(MAY_NEED_RECONCILIATION))


def claim_not_begun(created_ago: timedelta, limit: int) -> list[UUID]:
    """Claims payments and requests that are still `pending` this long after creation, and returns their ids.

    A claimed payment is not claimed again for RECONCILE_AGAIN_AFTER.
    """
    claimed = postgres.rows(CLAIM_NOT_BEGUN, created_ago, limit, RECONCILE_AGAIN_AFTER)
    return [row["payment_id"] for row in claimed]


def claim_stuck(limit: int) -> list[UUID]:
    """Claims payments that have been `processing` for too long, and returns their ids.

    The database's clock decides: a process with a wrong clock would claim all or none.
    """
    claimed = postgres.rows(CLAIM_STUCK, STUCK_AFTER, limit, RECONCILE_AGAIN_AFTER)
    return [row["payment_id"] for row in claimed]
