"""The row that /health writes: a database that answers reads may still refuse writes."""

from db import postgres


def write() -> None:
    """Updates the row, unless another transaction is doing so, without waiting for its lock.

    Raises postgres.TRANSIENT_ERRORS.
    """
    postgres.rows(
        "UPDATE journal.health_check SET written_at = clock_timestamp() WHERE one IN"
        " (SELECT one FROM journal.health_check FOR NO KEY UPDATE SKIP LOCKED)"
    )
