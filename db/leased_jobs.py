"""Leased jobs: while a worker calls the outside for a job, the row stays, and no other worker gets the job.

A lease that has expired counts as an attempt when the job is leased again; after the last attempt the job is
dead. No index has the column leased_until, so that a lease writes one row and no index entry.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from db import job_floors, postgres
from db.job_journal import MAX_ATTEMPTS, Attempted, Job, attempted
from db.prepared import Statement

# The beginning and the end of each statement that leases. An expired lease counts as an attempt.
_LEASE = f"""
    UPDATE journal.jobs
    SET leased_until = clock_timestamp() + %(seconds)s::float8 * interval '1 second',
        attempts = attempts + CASE WHEN leased_until IS NULL THEN 0 ELSE 1 END,
        dead_at = CASE WHEN leased_until IS NOT NULL AND attempts >= {MAX_ATTEMPTS} THEN clock_timestamp() END
"""
_RETURNING = """
    RETURNING id, name, queue, args, request_id, trace, attempts, position, share, leased_until, dead_at
"""

LEASE_FIRST = Statement(
    "lease_first_jobs",
    f"""
    {_LEASE} WHERE id = ANY(ARRAY(
        SELECT id FROM journal.jobs
        WHERE name = %(name)s::text AND share = '' AND position >= %(floor)s::bigint AND sent_at = 'infinity'
        AND dead_at IS NULL AND (leased_until IS NULL OR leased_until <= statement_timestamp())
        ORDER BY position LIMIT %(limit)s::int FOR UPDATE SKIP LOCKED))
    {_RETURNING}
    """,
    by_index=True,
)


def lease_first(name: str, limit: int, seconds: float) -> Attempted:
    """Leases the first jobs of a name whose jobs have no share; `seconds` is how long the leases last."""
    return attempted(job_floors.search(LEASE_FIRST, name, limit=limit, seconds=seconds), shared=True)


# Steps from each share to the next by the index jobs_leasable, which has jobs with a share only (share > ''),
# until there are enough jobs: ten thousand jobs of one share cost as little as one.
LEASE_SHARES = Statement(
    "lease_jobs_of_shares",
    f"""
    WITH RECURSIVE shares AS (
        (SELECT share FROM journal.jobs
         WHERE name = %(name)s::text AND share > '' AND share > %(after)s::text
         AND position >= %(floor)s::bigint AND sent_at = 'infinity' AND dead_at IS NULL
         ORDER BY share LIMIT 1)
        UNION ALL
        SELECT (SELECT j.share FROM journal.jobs j
                WHERE j.name = %(name)s AND j.share > '' AND j.share > shares.share
                AND j.position >= %(floor)s AND j.sent_at = 'infinity' AND j.dead_at IS NULL
                ORDER BY j.share LIMIT 1)
        FROM shares WHERE shares.share IS NOT NULL
    ), first AS (
        SELECT of_share.id FROM shares, LATERAL (
            SELECT j.id FROM journal.jobs j
            WHERE j.name = %(name)s AND j.share > '' AND j.share = shares.share
            AND j.position >= %(floor)s AND j.sent_at = 'infinity' AND j.dead_at IS NULL
            AND (j.leased_until IS NULL OR j.leased_until <= statement_timestamp())
            ORDER BY j.position
            LIMIT greatest(0, %(share)s::int - coalesce((%(running)s::jsonb ->> shares.share)::integer, 0))
            FOR UPDATE SKIP LOCKED) AS of_share
        LIMIT %(limit)s::int
    )
    {_LEASE} WHERE id = ANY(ARRAY(SELECT id FROM first))
    {_RETURNING}
    """,
    by_index=True,
)


def lease_shares(
    name: str, limit: int, seconds: float, *, share: int, running: Mapping[str, int], after: str
) -> Attempted:
    """Leases the first jobs of each share of a name, beginning with the share that follows `after`.

    A share gets up to `share` leases at a time, of which it already has the number in `running`.
    """
    found = job_floors.search(
        LEASE_SHARES,
        name,
        limit=limit,
        seconds=seconds,
        share=share,
        running=postgres.Json(dict(running)),
        after=after,
    )
    return attempted(found, shared=True)


LEASE = f"""
    {_LEASE} WHERE id = (
        SELECT id FROM journal.jobs
        WHERE id = %(id)s AND num_nulls(dead_at) = 1
        AND (leased_until IS NULL OR leased_until <= statement_timestamp())
        FOR UPDATE SKIP LOCKED)
    {_RETURNING}
"""


def lease(id: UUID, seconds: float) -> Attempted:
    """Leases a job unless it is done, dead, leased, or locked."""
    return attempted(postgres.rows(LEASE, id=id, seconds=seconds), shared=True)


LEASABLE_IDS = """
    SELECT id FROM journal.jobs
    WHERE name = %s AND share IS NOT NULL AND sent_at = 'infinity' AND dead_at IS NULL
    AND (leased_until IS NULL OR leased_until <= statement_timestamp())
    ORDER BY share, position LIMIT %s
"""


def leasable_ids(name: str, limit: int) -> list[UUID]:
    """Returns the ids of jobs of a name that could be leased."""
    return [row["id"] for row in postgres.rows(LEASABLE_IDS, name, limit)]


RENEW = """
    WITH held AS (
        SELECT j.id, h.until FROM journal.jobs j
        JOIN unnest(%s::uuid[], %s::timestamptz[]) AS h (id, until)
            ON j.id = h.id AND j.leased_until = h.until
        FOR UPDATE OF j SKIP LOCKED
    )
    UPDATE journal.jobs j SET leased_until = clock_timestamp() + %s * interval '1 second'
    FROM held WHERE j.id = held.id
    RETURNING j.id, held.until, j.leased_until
"""


def renew(leases: Collection[tuple[UUID, datetime]], seconds: float) -> dict[tuple[UUID, datetime], datetime]:
    """Renews leases, each named by its job and the time when it expires; returns the new times of expiry.

    Leaves out leases that another worker has taken since, and rows that are locked: those are being leased or
    removed at this moment.
    """
    ids, ends = [id for id, _until in leases], [until for _id, until in leases]
    renewed = postgres.rows(RENEW, ids, ends, seconds)
    return {(row["id"], row["until"]): row["leased_until"] for row in renewed}


# The rows are not locked first: that would write each of them once more.
REMOVE = """
    DELETE FROM journal.jobs j USING unnest(%s::uuid[], %s::bigint[]) AS done (id, position)
    WHERE j.id = done.id AND j.position = done.position
    RETURNING j.id
"""


def remove(jobs: Sequence[Job]) -> set[UUID]:
    """Removes jobs that were done, and returns the ids of those that were still there.

    Removes a job even if its lease has expired and another worker has leased it: the call to the outside was
    made, and a third worker must not repeat it.
    """
    # Sorted by id, so that two workers that have done the same jobs do not deadlock.
    jobs = sorted(jobs, key=lambda job: job.id)
    ids, positions = [job.id for job in jobs], [job.position for job in jobs]
    return {row["id"] for row in postgres.rows(REMOVE, ids, positions)}
