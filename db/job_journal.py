"""The job journal: rows inserted by the transaction that makes work due, removed by the one that does it.

How workers get jobs: db/job_claims.py and db/leased_jobs.py. Redelivery of overdue jobs: db/redelivery.py.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import NAMESPACE_OID, UUID, uuid5

from db import packed_args, postgres
from db.prepared import Statement

# How many attempts a job has before it is dead: three quarters of an hour.
MAX_ATTEMPTS = 20
# For how long the relay leaves a new job to the message that was sent after its commit.
DISPATCH_GRACE_S = 5

# SQL: the pause before the next attempt. Half a second, doubled at each attempt up to five minutes, with
# jitter, so that jobs that failed together do not return together.
BACKOFF = "least(300, 0.5 * 2 ^ attempts) * (0.5 + random() / 2) * interval '1 second'"


@dataclass(frozen=True)
class Job:
    """A job to enqueue, or one that a worker has claimed or leased."""

    id: UUID
    name: str
    queue: str
    args: dict[str, Any]
    request_id: str | None
    # The trace that the request belongs to, if it does not follow from its id (db/core/trace.py).
    trace: str | None = None
    # How often the job was sent again, or its lease expired.
    attempts: int = 0
    # The number of the row, in the order of insertion. It differs where two jobs had one id, one after
    # another.
    position: int = 0
    # In how many seconds the job is due.
    after: float = 0
    # Whether one message serves all jobs of the name.
    shared: bool = False
    # Jobs with the same share occupy a limited part of the threads. Empty if the job may use all threads;
    # None for a job that is never leased.
    share: str | None = None
    # When the lease expires, which identifies the lease.
    leased_until: datetime | None = None

    def __post_init__(self) -> None:
        # The row may have packed arguments.
        object.__setattr__(self, "args", packed_args.unpack(self.args))

    def delayed(self, seconds: float) -> "Job":
        """Returns the same job, due only after this time; the relay sends it then."""
        return replace(self, after=seconds)

    def unique(self, key: str) -> "Job":
        """Returns the same job with an id made of its name and the key: enqueued twice, inserted once."""
        return replace(self, id=id_for_key(self.name, key))


class Attempted(NamedTuple):
    """Jobs that get one more attempt, in the order of enqueueing, and jobs whose last attempt is over."""

    jobs: list[Job]
    dead: list[Job]


def attempted(rows: list[dict[str, Any]], *, shared: bool = False) -> Attempted:
    """Returns the jobs of the rows of a statement that counts attempts; `shared` is as in `Job`."""
    jobs = Attempted([], [])
    for row in sorted(rows, key=lambda row: int(row["position"])):
        is_dead = row.pop("dead_at") is not None
        job = Job(**row, shared=shared or row["share"] is not None)
        (jobs.dead if is_dead else jobs.jobs).append(job)
    return jobs


def id_for_key(name: str, key: str) -> UUID:
    """Returns the id of the job that is unique for this key."""
    return uuid5(NAMESPACE_OID, f"{name}:{key}")


# Inserts the `records` of jobs; a condition may follow.
INSERT_RECORDS = """
    INSERT INTO journal.jobs (id, name, queue, args, request_id, trace, share, sent_at, due_at)
    SELECT id, name, queue, args, request_id, trace, share, coalesce(sent_at, clock_timestamp()),
        clock_timestamp() + after * interval '1 second'
    FROM jsonb_to_recordset(%(jobs)s::jsonb) AS job
        (id uuid, name text, queue text, args jsonb, request_id text, trace text, share text,
        sent_at timestamptz, after float8)
"""

# A dead job gets new attempts, due at once.
_RETRY = """
    UPDATE journal.jobs
    SET dead_at = NULL, attempts = 0, error = NULL, leased_until = NULL, due_at = clock_timestamp(),
        sent_at = '-infinity'
"""

# DO NOTHING instead of DO UPDATE, which would lock the row: a worker that claims the job would skip it.
INSERT = Statement(
    "insert_jobs",
    f"""
    WITH inserted AS ({INSERT_RECORDS} ON CONFLICT (id) DO NOTHING)
    {_RETRY} WHERE id = ANY(%(ids)s::uuid[]) AND num_nulls(dead_at) = 0
    """,
    by_index=True,
)


def insert(jobs: Sequence[Job]) -> None:
    """Inserts jobs in their order, in the open transaction.

    A job is not inserted if the journal has its id; if the known job is dead, it gets new attempts.
    """
    if jobs:
        postgres.rows(INSERT, **_arguments(jobs))


def insert_with_commit(jobs: Sequence[Job]) -> None:
    """Does what `insert` does in the round trip that commits the transaction."""
    if jobs:
        postgres.database.execute_with_commit(INSERT, _arguments(jobs))


def _arguments(jobs: Sequence[Job]) -> dict[str, Any]:
    return {"jobs": postgres.Json(records(jobs)), "ids": [job.id for job in jobs]}


def records(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Returns the columns of jobs to insert, for a statement that reads them from JSON.

    `sent_at` is when the last message was sent: null for the present time, `-infinity` if no message was sent
    because the job is delayed, `infinity` for a job that shares its message with all jobs of its name.
    `after` is in how many seconds the job is due, or the relay sends it again.
    """
    return [
        {
            "id": job.id,
            "name": job.name,
            "queue": job.queue,
            "args": packed_args.pack(job.args),
            "request_id": job.request_id,
            "trace": job.trace,
            "share": job.share,
            "sent_at": "-infinity" if job.after else "infinity" if job.shared else None,
            "after": job.after or DISPATCH_GRACE_S,
        }
        for job in jobs
    ]


def record_failure(id: UUID, error: str, *, attempts: int | None = None) -> None:
    """Records an error and postpones the next attempt, which is counted when the job is sent again.

    With `attempts`, does nothing if the job has another number of attempts: another worker may have it.
    """
    postgres.rows(
        "UPDATE journal.jobs SET error = %s, leased_until = NULL, sent_at = '-infinity',"
        f" due_at = clock_timestamp() + {BACKOFF}"
        " WHERE id = %s AND attempts = coalesce(%s, attempts)",
        error,
        id,
        attempts,
    )


def ready(ids: Sequence[UUID]) -> set[UUID]:
    """Returns which of these jobs wait for a worker: not dead, and without a lease."""
    found = postgres.rows(
        "SELECT id FROM journal.jobs WHERE id = ANY(%s) AND num_nulls(dead_at) = 1"
        " AND (leased_until IS NULL OR leased_until <= clock_timestamp())",
        list(ids),
    )
    return {row["id"] for row in found}


def missing(ids: Sequence[UUID], dead_for: timedelta) -> set[UUID]:
    """Returns which of these jobs have to be enqueued again: not in the journal, or dead for this long."""
    known = postgres.rows(
        "SELECT id FROM journal.jobs WHERE id = ANY(%s)"
        " AND (dead_at IS NULL OR dead_at > clock_timestamp() - %s)",
        list(ids),
        dead_for,
    )
    return set(ids) - {row["id"] for row in known}


MAKE_DUE = """
    UPDATE journal.jobs SET due_at = clock_timestamp()
    WHERE id = (
        SELECT id FROM journal.jobs
        WHERE id = %s AND num_nulls(dead_at) = 1 AND error IS NOT NULL AND due_at > clock_timestamp()
        AND (leased_until IS NULL OR leased_until <= clock_timestamp())
        FOR UPDATE SKIP LOCKED)
"""


def make_due(id: UUID) -> None:
    """Makes a job that failed due at once, unless a worker has it."""
    postgres.rows(MAKE_DUE, id)


RETRY_DEAD = f"{_RETRY} WHERE dead_at IS NOT NULL AND id = ANY(%s)"


def retry_dead(ids: Collection[UUID]) -> None:
    """Gives those of these jobs that are dead new attempts, due at once."""
    postgres.rows(RETRY_DEAD, list(ids))
