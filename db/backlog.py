"""How much work waits: jobs by queue, dead jobs by name, open reviews, missed events."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from db import postgres, reviews

# The names of live jobs: one step along an index each, however many jobs there are.
JOB_NAMES_CTE = """
    WITH RECURSIVE names AS (
        (SELECT name FROM journal.jobs WHERE dead_at IS NULL ORDER BY name LIMIT 1)
        UNION ALL
        SELECT (SELECT t.name FROM journal.jobs t WHERE t.dead_at IS NULL AND t.name > names.name
            ORDER BY t.name LIMIT 1)
        FROM names WHERE names.name IS NOT NULL
    )
"""


# Jobs and events that are counted, at most: a million of them are no other news than so many.
COUNT_LIMIT = 100_000


# Jobs of one name among which those are looked for that are due: before them stand only a few that wait.
OLDEST_JOBS_LIMIT = 1_000


@dataclass(frozen=True)
class Backlog:
    """What waits: jobs by queue, since when the oldest that is due is there (None: none is), dead jobs by
    name, payments with an open review, events that a subscriber gave up."""

    waiting: dict[str, int]
    oldest: dict[str, datetime | None]
    dead: dict[str, int]
    in_review: int
    missed: int


def measure(queues: Iterable[str]) -> Backlog:
    """What waits in these queues, and in any other that has jobs. Costs the same beside a million jobs."""
    with postgres.database.atomic():
        prefer_indexes()
        found = postgres.rows(
            # All jobs of a name are in one queue.
            f"{JOB_NAMES_CTE} SELECT first.queue, (SELECT count(*) FROM (SELECT FROM journal.jobs t"
            " WHERE t.name = names.name AND t.dead_at IS NULL LIMIT %s) AS part) AS many, ("
            "SELECT created_at FROM (SELECT created_at, due_at, position FROM journal.jobs t"
            " WHERE t.name = names.name AND t.dead_at IS NULL ORDER BY position LIMIT %s) AS part"
            " WHERE due_at <= statement_timestamp() + interval '5 s' ORDER BY position LIMIT 1) AS since"
            " FROM names, LATERAL (SELECT queue FROM journal.jobs t WHERE t.name = names.name"
            " AND t.dead_at IS NULL ORDER BY position LIMIT 1) AS first",
            COUNT_LIMIT,
            OLDEST_JOBS_LIMIT,
        )
        dead = postgres.rows(
            "SELECT name, count(*) AS many FROM (SELECT name FROM journal.jobs WHERE dead_at IS NOT NULL"
            " LIMIT %s) AS dead GROUP BY name ORDER BY name",
            COUNT_LIMIT,
        )
    [missed] = postgres.rows(
        "SELECT count(*) AS many FROM (SELECT FROM admin.missed_events LIMIT %s) AS part", COUNT_LIMIT
    )
    names = sorted({*queues, *(row["queue"] for row in found)})
    of = {name: [row for row in found if row["queue"] == name] for name in names}
    return Backlog(
        waiting={name: sum(row["many"] for row in rows) for name, rows in of.items()},
        oldest={
            name: min((row["since"] for row in rows if row["since"]), default=None)
            for name, rows in of.items()
        },
        dead={row["name"]: row["many"] for row in dead},
        in_review=reviews.count_open(),
        missed=missed["many"],
    )


def prefer_indexes() -> None:
    """Keeps the planner from reading a table whole, to the end of the transaction: it would, where it takes
    what is asked for for a large part of it."""
    postgres.rows(
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
    )
