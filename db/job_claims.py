"""Claims: a worker's transaction removes the rows of the jobs that it does, so they are done exactly once.

A removal takes effect when the transaction commits, and is undone if it rolls back.
"""

from collections.abc import Sequence
from uuid import UUID

from db import job_floors, postgres
from db.job_journal import Job
from db.prepared import Statement

# num_nulls, as wherever jobs are found by their ids: `dead_at IS NULL` is the predicate of partial indexes,
# and the planner reads one of them as a whole while it takes the journal for empty.
CLAIM = Statement(
    "claim_job",
    """
    DELETE FROM journal.jobs
    WHERE id = (SELECT id FROM journal.jobs WHERE id = %(id)s::uuid AND num_nulls(dead_at) = 1
        FOR UPDATE SKIP LOCKED)
    RETURNING id, name, queue, args, request_id, trace, attempts, position
    """,
    by_index=True,
)


def claim(id: UUID) -> Job | None:
    """Removes a job and returns it; None when it is done, dead, or locked by another transaction."""
    return postgres.first(Job, CLAIM, id=id)


# Fewer jobs where the first one was sent before and not done: a job that kills its process must not take the
# others with it for ever. A delayed job has no message yet (sent_at = '-infinity').
FIRST = """
    SELECT id FROM journal.jobs
    WHERE name = %(name)s::text AND position >= %(floor)s::bigint AND dead_at IS NULL
    AND (error IS NULL AND sent_at > '-infinity' OR id = ANY(%(requested)s::uuid[]))
    ORDER BY position
    LIMIT (SELECT greatest(1, %(limit)s::int >> least(16, 2 * attempts)) FROM journal.jobs
           WHERE name = %(name)s AND position >= %(floor)s
           AND dead_at IS NULL AND error IS NULL AND sent_at > '-infinity'
           ORDER BY position LIMIT 1)
"""

# Prepared: to plan it takes longer than to execute it, and a new payment waits for it.
CLAIM_ANY = Statement(
    "claim_jobs",
    f"""
    WITH claimed AS (
        DELETE FROM journal.jobs WHERE id = ANY(ARRAY({FIRST} FOR UPDATE SKIP LOCKED))
        RETURNING id, name, queue, args, request_id, trace, attempts, position
    )
    SELECT * FROM claimed ORDER BY position
    """,
    by_index=True,
)

# The same, but waits for a row that the relay has locked: to skip it would change the order. Nobody else
# claims these jobs meanwhile, so that no row has to be locked before it is deleted. A job that the relay gave
# up meanwhile stays.
CLAIM_IN_ORDER = Statement(
    "claim_jobs_in_order",
    f"""
    WITH claimed AS (
        DELETE FROM journal.jobs WHERE id = ANY(ARRAY({FIRST})) AND num_nulls(dead_at) = 1
        RETURNING id, name, queue, args, request_id, trace, attempts, position
    )
    SELECT * FROM claimed ORDER BY position
    """,
    by_index=True,
)


def claim_first(
    name: str, limit: int, requested: Sequence[UUID] = (), *, in_order: bool = False
) -> list[Job]:
    """Removes the first jobs of one name that no other transaction has, and returns them.

    Leaves out jobs that failed or are delayed, except the requested ones: each comes back when it is due.
    With `in_order` it skips no job that another transaction has: the caller must have the lock of the name.
    """
    sql = CLAIM_IN_ORDER if in_order else CLAIM_ANY
    return [Job(**row) for row in job_floors.search(sql, name, limit=limit, requested=list(requested))]


WAITS = Statement(
    "job_waits",
    """
    SELECT FROM journal.jobs
    WHERE name = %(name)s::text AND position >= %(floor)s::bigint
    AND dead_at IS NULL AND error IS NULL AND sent_at > '-infinity' LIMIT 1
    """,
    by_index=True,
)


def waits(name: str) -> bool:
    """Tells whether a batch of this name would have jobs."""
    return bool(job_floors.search(WAITS, name))
