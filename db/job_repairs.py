"""Repairs of jobs by operators: retry jobs that failed, drop dead ones.

No statement waits for a job that a worker or another operator has at this moment: it is left alone.
"""

from datetime import datetime
from uuid import UUID

from db import job_journal, postgres

# A dead job gets new attempts. One that waits for its next attempt keeps its count, which the relay raises
# when it sends the job.
RETRY = """
    UPDATE journal.jobs
    SET attempts = CASE WHEN dead_at IS NULL THEN attempts ELSE 0 END,
        error = CASE WHEN dead_at IS NULL THEN error END,
        dead_at = NULL, leased_until = NULL, due_at = clock_timestamp(), sent_at = '-infinity'
    WHERE id = (
        SELECT id FROM journal.jobs
        WHERE id = %s AND (dead_at IS NOT NULL
            OR error IS NOT NULL AND (leased_until IS NULL OR leased_until <= clock_timestamp()))
        FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING name
"""


def retry(id: UUID) -> str | None:
    """Makes a job that failed or is dead due at once; returns its name, None if it was left alone."""
    found = postgres.rows(RETRY, id)
    return str(found[0]["name"]) if found else None


def now() -> datetime:
    """Returns the time by the database's clock, which tells when a job died."""
    [found] = postgres.rows("SELECT clock_timestamp() AS now")
    moment: datetime = found["now"]
    return moment


LOCK_DEAD = """
    SELECT id FROM journal.jobs
    WHERE dead_at <= %(dead_until)s AND (%(name)s IS NULL OR name = %(name)s)
    ORDER BY name, position LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
"""


def retry_dead(name: str | None, *, dead_until: datetime, limit: int) -> int:
    """Gives dead jobs of a name, or of all names, new attempts; returns how many.

    Only those that were dead at a given time, so that repeated calls come to an end.
    """
    dead = [row["id"] for row in postgres.rows(LOCK_DEAD, name=name, dead_until=dead_until, limit=limit)]
    job_journal.retry_dead(dead)
    return len(dead)


DROP = """
    DELETE FROM journal.jobs WHERE id = (
        SELECT id FROM journal.jobs WHERE id = %s AND dead_at IS NOT NULL FOR UPDATE SKIP LOCKED)
    RETURNING name
"""


def drop(id: UUID) -> str | None:
    """Deletes a dead job; returns its name, None if it was left alone."""
    found = postgres.rows(DROP, id)
    return str(found[0]["name"]) if found else None
