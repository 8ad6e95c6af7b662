"""Jobs as operators list and repair them.

A page costs the same beside a million jobs: each state is read along an index, newest first. No index has the
lease or the payment of a job, so that running jobs, and those of a payment, are searched for among the first
jobs of each name. No repair waits for a job that a worker or another operator has locked: such a job is left
alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db import backlog, job_journal, packed_args, postgres, psp_attempts
from db.pagination import Cursor, Page

# A job's state for operators: waiting (due now or later), running (leased by a worker that calls the
# outside), failed (to be retried), dead. A job that a worker does in one transaction is `waiting` until the
# transaction ends.
JobState = Literal["waiting", "running", "failed", "dead"]

# Among how many first jobs of each name running jobs, and those of a payment, are searched for.
SEARCHED = 10_000


@dataclass(frozen=True)
class ListedJob:
    """A job in the journal, with its state."""

    id: UUID
    position: int
    name: str
    queue: str
    state: JobState
    args: dict[str, Any]
    attempts: int
    error: str | None
    request_id: str | None
    created_at: datetime
    due_at: datetime
    dead_at: datetime | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", packed_args.unpack(self.args))


@dataclass(frozen=True)
class Filter:
    """A filter of jobs: every field that is not None must match."""

    queue: str | None = None
    name: str | None = None
    state: JobState | None = None
    payment_id: UUID | None = None


STATE = """
    CASE WHEN dead_at IS NOT NULL THEN 'dead' WHEN leased_until > statement_timestamp() THEN 'running'
        WHEN error IS NOT NULL THEN 'failed' ELSE 'waiting' END
"""

_COLUMNS = f"""
    id, position, name, queue, args, attempts, error, request_id, created_at, due_at, dead_at,
    {STATE} AS state
"""

_NAMES = f"""
    WITH RECURSIVE {backlog.names_cte("alive", "dead_at IS NULL")},
    {backlog.names_cte("failed", "error IS NOT NULL AND dead_at IS NULL")},
    {backlog.names_cte("dead", "dead_at IS NOT NULL")}
"""

# Each branch is read only for its states: the planner sees the values of the parameters.
NEWEST = f"""
    {_NAMES}, found AS (
        SELECT j.* FROM alive, LATERAL (SELECT * FROM journal.jobs WHERE name = alive.name AND dead_at IS NULL
            AND position < %(before)s AND (%(state)s IS NULL
                OR error IS NULL AND (leased_until IS NULL OR leased_until <= statement_timestamp()))
            ORDER BY position DESC LIMIT %(count)s) AS j
        WHERE %(state)s IS NULL OR %(state)s = 'waiting'
        UNION ALL
        SELECT j.* FROM failed, LATERAL (SELECT * FROM journal.jobs WHERE name = failed.name
            AND error IS NOT NULL AND dead_at IS NULL AND position < %(before)s
            AND (leased_until IS NULL OR leased_until <= statement_timestamp())
            ORDER BY position DESC LIMIT %(count)s) AS j
        WHERE %(state)s = 'failed'
        UNION ALL
        SELECT j.* FROM dead, LATERAL (SELECT * FROM journal.jobs WHERE name = dead.name
            AND dead_at IS NOT NULL AND position < %(before)s ORDER BY position DESC LIMIT %(count)s) AS j
        WHERE %(state)s IS NULL OR %(state)s = 'dead'
    )
    SELECT {_COLUMNS} FROM found
    WHERE (%(name)s IS NULL OR name = %(name)s) AND (%(queue)s IS NULL OR queue = %(queue)s)
    ORDER BY position DESC LIMIT %(count)s
"""

# The jobs of a payment whose ids are derived from it are found wherever they are.
SEARCH = f"""
    {_NAMES}, found AS (
        SELECT j.* FROM alive, LATERAL (SELECT * FROM journal.jobs WHERE name = alive.name AND dead_at IS NULL
            ORDER BY position LIMIT {SEARCHED}) AS j
        UNION
        SELECT j.* FROM dead, LATERAL (SELECT * FROM journal.jobs WHERE name = dead.name
            AND dead_at IS NOT NULL ORDER BY position DESC LIMIT {SEARCHED}) AS j
        WHERE %(state)s IS DISTINCT FROM 'running'
        UNION
        SELECT * FROM journal.jobs WHERE id = ANY(%(ids)s::uuid[])
    ), listed AS (SELECT {_COLUMNS} FROM found)
    SELECT * FROM listed
    WHERE position < %(before)s AND (%(state)s IS NULL OR state = %(state)s)
        AND (%(name)s IS NULL OR name = %(name)s) AND (%(queue)s IS NULL OR queue = %(queue)s)
        AND (%(payment_id)s IS NULL OR args ->> 'payment_id' = %(payment_id)s::text)
    ORDER BY position DESC LIMIT %(count)s
"""

FIND = f"SELECT {_COLUMNS} FROM journal.jobs WHERE id = %s"


def page(which: Filter, *, limit: int, after: Cursor | None, job_names: Sequence[str]) -> Page[ListedJob]:
    """Returns a page of jobs, newest first. `job_names` are the names of all kinds of jobs.

    Jobs are sorted by position: the id of the cursor is the position of the page's last job.
    """
    wanted = {
        **vars(which),
        "count": limit + 1,
        "before": after.id.int if after else 2**63 - 1,
    }
    with postgres.database.atomic():
        backlog.prefer_indexes()
        if which.payment_id is None and which.state != "running":
            found = postgres.rows(NEWEST, **wanted)
        else:
            ids = _ids_of(which.payment_id, job_names) if which.payment_id else []
            found = postgres.rows(SEARCH, **wanted, ids=ids)
    items = [ListedJob(**row) for row in found[:limit]]
    if len(found) <= limit:
        return Page(items, limit, None)
    return Page(items, limit, Cursor(items[-1].created_at, UUID(int=items[-1].position)).encode())


def find(id: UUID) -> ListedJob | None:
    """Returns a job; None if it is done, or never existed."""
    return postgres.first(ListedJob, FIND, id)


def _ids_of(payment_id: UUID, job_names: Sequence[str]) -> list[UUID]:
    """Returns the ids that jobs about a payment may have: derived from it, or from one of its calls."""
    keys = [payment_id, *(call.id for call in psp_attempts.for_payment(payment_id))]
    return [job_journal.id_for_key(name, str(key)) for name in job_names for key in keys]


# A dead job begins to count its attempts anew. A job that waits for its next attempt keeps its number, which
# the relay increments when it sends the job.
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
    name: str | None = postgres.value(RETRY, id)
    return name


def now() -> datetime:
    """Returns the time by the database's clock, which tells when a job died."""
    moment: datetime = postgres.value("SELECT clock_timestamp()")
    return moment


LOCK_DEAD = """
    SELECT id FROM journal.jobs
    WHERE dead_at <= %(dead_until)s AND (%(name)s IS NULL OR name = %(name)s)
    ORDER BY name, position LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
"""


def retry_dead(name: str | None, *, dead_until: datetime, limit: int) -> int:
    """Gives dead jobs of a name, or of all names, new attempts; returns how many.

    Leaves out jobs that died after `dead_until`, so that repeated calls come to an end.
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
    name: str | None = postgres.value(DROP, id)
    return name
