"""Claims: a worker removes the rows of jobs in the transaction that does them, so that each is done once.

The removal takes effect when the transaction commits, and is undone if it rolls back.
"""

from collections.abc import Sequence
from uuid import UUID

from db import job_floors, postgres
from db.job_journal import Job
from db.prepared import Statement

# `num_nulls(dead_at) = 1` instead of `dead_at IS NULL`, wherever jobs are found by their ids: the latter is
# the predicate of partial indexes, of which the planner would read one as a whole while its statistics say
# that the journal is empty.
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


# The more attempts the first job has had, the fewer jobs are claimed: a job that kills its process would
# otherwise keep the others from being done. A delayed job has no message yet (sent_at = '-infinity').
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

# Prepared, because planning takes longer than execution, and a new payment waits for it.
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

# The same, but it waits for a row that the relay has locked, because skipping the row would change the order.
# No other process claims these jobs meanwhile, so that no row has to be locked before it is deleted. A job
# that the relay has given up meanwhile stays.
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
    """Removes the first jobs of one name that no other transaction has locked, and returns them.

    Leaves out jobs that failed or are delayed, except the requested ones: a message requests each when it is
    due. With `in_order`, waits for locked jobs instead of skipping them: the caller must have the advisory
    lock of the name.
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
    """Returns whether `claim_first` would find jobs of this name."""
    return bool(job_floors.search(WAITS, name))
