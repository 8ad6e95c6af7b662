"""Lists of jobs for operators, newest first: by queue, name, state and payment.

A page costs the same beside a million jobs: each state is read along an index, newest first. No index knows
which jobs run or what they are about, so those are searched for among the first jobs of each name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db import backlog, postgres, psp_attempts
from db.job_journal import id_for_key
from db.pagination import Cursor, Page

# A job's state for operators: due now or later, leased by a worker that calls the outside, failed and to be
# retried, given up. A job that a worker does in one transaction is `waiting` until the transaction ends.
State = Literal["waiting", "running", "failed", "dead"]

# Jobs of each name among which running jobs, and those of a payment, are searched for.
SEARCHED = 10_000


@dataclass(frozen=True)
class ListedJob:
    """A job in the journal, with its state."""

    id: UUID
    position: int
    name: str
    queue: str
    state: State
    args: dict[str, Any]
    attempts: int
    error: str | None
    request_id: str | None
    created_at: datetime
    due_at: datetime
    dead_at: datetime | None


@dataclass(frozen=True)
class Filter:
    """Which jobs are listed; None means any."""

    queue: str | None = None
    name: str | None = None
    state: State | None = None
    payment_id: UUID | None = None


STATE = """
    CASE WHEN dead_at IS NOT NULL THEN 'dead' WHEN leased_until > statement_timestamp() THEN 'running'
        WHEN error IS NOT NULL THEN 'failed' ELSE 'waiting' END
"""

_COLUMNS = f"""
    id, position, name, queue, args, attempts, error, request_id, created_at, due_at, dead_at,
    {STATE} AS state
"""

# The names of jobs that are alive, have failed, or are dead, with their queues: one index step for each.
_NAMES = """
    WITH RECURSIVE alive AS (
        (SELECT name, queue FROM journal.jobs WHERE dead_at IS NULL ORDER BY name LIMIT 1)
        UNION ALL
        SELECT next.name, next.queue FROM alive, LATERAL (SELECT name, queue FROM journal.jobs j
            WHERE j.dead_at IS NULL AND j.name > alive.name ORDER BY j.name LIMIT 1) AS next
    ), failed AS (
        (SELECT name, queue FROM journal.jobs WHERE error IS NOT NULL AND dead_at IS NULL
            ORDER BY name LIMIT 1)
        UNION ALL
        SELECT next.name, next.queue FROM failed, LATERAL (SELECT name, queue FROM journal.jobs j
            WHERE j.error IS NOT NULL AND j.dead_at IS NULL AND j.name > failed.name
            ORDER BY j.name LIMIT 1) AS next
    ), dead AS (
        (SELECT name, queue FROM journal.jobs WHERE dead_at IS NOT NULL ORDER BY name LIMIT 1)
        UNION ALL
        SELECT next.name, next.queue FROM dead, LATERAL (SELECT name, queue FROM journal.jobs j
            WHERE j.dead_at IS NOT NULL AND j.name > dead.name ORDER BY j.name LIMIT 1) AS next
    )
"""

# Each branch is read only for its states: the planner sees the values of the parameters.
NEWEST = f"""
    {_NAMES}, found AS (
        SELECT j.* FROM alive, LATERAL (SELECT * FROM journal.jobs WHERE name = alive.name AND dead_at IS NULL
            AND position < %(before)s AND (%(state)s IS NULL
                OR error IS NULL AND (leased_until IS NULL OR leased_until <= statement_timestamp()))
            ORDER BY position DESC LIMIT %(count)s) AS j
        WHERE (%(state)s IS NULL OR %(state)s = 'waiting')
            AND (%(name)s IS NULL OR alive.name = %(name)s) AND (%(queue)s IS NULL OR alive.queue = %(queue)s)
        UNION ALL
        SELECT j.* FROM failed, LATERAL (SELECT * FROM journal.jobs WHERE name = failed.name
            AND error IS NOT NULL AND dead_at IS NULL AND position < %(before)s
            AND (leased_until IS NULL OR leased_until <= statement_timestamp())
            ORDER BY position DESC LIMIT %(count)s) AS j
        WHERE %(state)s = 'failed'
            AND (%(name)s IS NULL OR failed.name = %(name)s)
            AND (%(queue)s IS NULL OR failed.queue = %(queue)s)
        UNION ALL
        SELECT j.* FROM dead, LATERAL (SELECT * FROM journal.jobs WHERE name = dead.name
            AND dead_at IS NOT NULL AND position < %(before)s ORDER BY position DESC LIMIT %(count)s) AS j
        WHERE (%(state)s IS NULL OR %(state)s = 'dead')
            AND (%(name)s IS NULL OR dead.name = %(name)s) AND (%(queue)s IS NULL OR dead.queue = %(queue)s)
    )
    SELECT {_COLUMNS} FROM found ORDER BY position DESC LIMIT %(count)s
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
        AND (%(payment_id)s IS NULL OR args ->> 'payment_id' = %(payment_id)s)
    ORDER BY position DESC LIMIT %(count)s
"""

FIND = f"SELECT {_COLUMNS} FROM journal.jobs WHERE id = %s"


def page(which: Filter, *, limit: int, after: Cursor | None, job_names: Sequence[str]) -> Page[ListedJob]:
    """Returns a page of jobs, newest first. `job_names` are those of all kinds of jobs.

    A job's place in the list is its position, which a cursor has in place of the id.
    """
    wanted = {
        "queue": which.queue,
        "name": which.name,
        "state": which.state,
        "count": limit + 1,
        "before": after.id.int if after else 2**63 - 1,
    }
    with postgres.database.atomic():
        backlog.prefer_indexes()
        if which.payment_id is None and which.state != "running":
            found = postgres.rows(NEWEST, **wanted)
        else:
            ids = _ids_of(which.payment_id, job_names) if which.payment_id else []
            payment_id = None if which.payment_id is None else str(which.payment_id)
            found = postgres.rows(SEARCH, **wanted, ids=ids, payment_id=payment_id)
    items = [ListedJob(**row) for row in found[:limit]]
    if len(found) <= limit:
        return Page(items, limit, None)
    return Page(items, limit, Cursor(items[-1].created_at, UUID(int=items[-1].position)).encode())


def find(id: UUID) -> ListedJob | None:
    """Returns a job; None when it is done, or never was."""
    found = postgres.rows(FIND, id)
    return ListedJob(**found[0]) if found else None


def _ids_of(payment_id: UUID, job_names: Sequence[str]) -> list[UUID]:
    """Returns the ids that jobs about a payment may have: derived from it, or from one of its calls."""
    keys = [payment_id, *(call.id for call in psp_attempts.for_payment(payment_id))]
    return [id_for_key(name, str(key)) for name in job_names for key in keys]
