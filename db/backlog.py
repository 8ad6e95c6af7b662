"""The backlog: waiting jobs, dead jobs, payments in review, events that a subscriber gave up."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from db import postgres, reviews

# Up to which number jobs and events are counted: a larger number would say nothing more, and take longer.
COUNT_LIMIT = 100_000
# Among how many first jobs of each name the oldest due job is searched for: few delayed jobs precede it.
OLDEST_JOBS_LIMIT = 1_000


def names_cte(cte: str, condition: str) -> str:
    """Returns the SQL of a CTE: the names of the jobs that match a condition, with their queues.

    It reads one entry of an index for each name, however many jobs there are.
    """
    return f"""
        {cte} AS (
            (SELECT name, queue FROM journal.jobs WHERE {condition} ORDER BY name LIMIT 1)
            UNION ALL
            SELECT next.name, next.queue FROM {cte}, LATERAL (SELECT name, queue FROM journal.jobs
                WHERE {condition} AND name > {cte}.name ORDER BY name LIMIT 1) AS next
        )
    """


JOB_NAMES_CTE = f"WITH RECURSIVE {names_cte('names', 'dead_at IS NULL')}"

# For each queue: its jobs, and when the oldest due job was created. All jobs of a name have the same queue.
WAITING_JOBS = f"""
    {JOB_NAMES_CTE}
    SELECT queue,
        sum((SELECT count(*) FROM (
            SELECT FROM journal.jobs j WHERE j.name = names.name AND j.dead_at IS NULL LIMIT %s
        ) AS part))::bigint AS count,
        min((SELECT created_at FROM (
            SELECT created_at, due_at, position FROM journal.jobs j
            WHERE j.name = names.name AND j.dead_at IS NULL ORDER BY position LIMIT {OLDEST_JOBS_LIMIT}
        ) AS part WHERE due_at <= statement_timestamp() + interval '5 s' ORDER BY position LIMIT 1)) AS oldest
    FROM names GROUP BY queue ORDER BY queue
"""

DEAD_JOBS = """
    SELECT name, queue, count(*) AS count
    FROM (SELECT name, queue FROM journal.jobs WHERE dead_at IS NOT NULL LIMIT %s) AS dead
    GROUP BY name, queue ORDER BY name
"""

MISSED_EVENTS = "SELECT count(*) AS count FROM (SELECT FROM admin.missed_events LIMIT %s) AS part"

# Without jit: where a statement has to read a small table as a whole, the planner now adds a cost of 1e10,
# for which jit would compile the statement.
PREFER_INDEXES = """
    SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
    SET LOCAL jit = off
"""


@dataclass(frozen=True)
class Backlog:
    """The work that waits.

    `waiting` counts live jobs by queue. `oldest` is when the oldest due job of each queue was created, None
    if none is due. `dead` counts dead jobs by name, `dead_in` by queue, `in_review` payments with an open
    review, `missed` events that a subscriber gave up.
    """

    waiting: dict[str, int]
    oldest: dict[str, datetime | None]
    dead: Counter[str]
    dead_in: Counter[str]
    in_review: int
    missed: int


def measure(queues: Collection[str]) -> Backlog:
    """Measures the backlog of these queues and of all that have jobs; a million jobs take no longer."""
    with postgres.database.atomic():
        prefer_indexes()
        jobs = postgres.rows(WAITING_JOBS, COUNT_LIMIT)
        dead = postgres.rows(DEAD_JOBS, COUNT_LIMIT)
    [missed] = postgres.rows(MISSED_EVENTS, COUNT_LIMIT)
    dead_by_name, dead_by_queue = Counter[str](), Counter[str]()
    for row in dead:
        dead_by_name[row["name"]] += row["count"]
        dead_by_queue[row["queue"]] += row["count"]
    return Backlog(
        waiting={**dict.fromkeys(queues, 0), **{row["queue"]: row["count"] for row in jobs}},
        oldest={**dict.fromkeys(queues), **{row["queue"]: row["oldest"] for row in jobs}},
        dead=dead_by_name,
        dead_in=dead_by_queue,
        in_review=reviews.count_open(),
        missed=missed["count"],
    )


def prefer_indexes() -> None:
    """Keeps the planner from sequential scans until the end of the transaction.

    The planner overestimates how many rows these queries need, and would read whole tables.
    """
    postgres.rows(PREFER_INDEXES)
