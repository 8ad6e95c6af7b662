"""Redelivery: finds the jobs whose message was not sent, was lost, or led to nothing, and counts attempts.

The column sent_at is the time of a job's last message: '-infinity' if no message was sent, because the job is
delayed or has failed, and 'infinity' if the job shares its messages with all jobs of its name.
"""

import time
from collections.abc import Collection, Sequence
from datetime import datetime

from db import job_floors, postgres
from db.job_journal import BACKOFF, DISPATCH_GRACE_S, MAX_ATTEMPTS, Attempted, Job, attempted
from db.prepared import Statement

# SQL: the job was delayed. No message was sent for it, because it was not due yet, and it has not failed.
_WAS_DELAYED = "(sent_at = '-infinity' AND error IS NULL)"

# The two branches of this statement, and of RESEND, each match the predicate of an index: jobs_due (no
# message was sent) and jobs_sent (a message of its own was sent).
# statement_timestamp() and not clock_timestamp(): only a value that does not change bounds an index scan.
OVERDUE_QUEUES = """
    SELECT DISTINCT q.queue FROM unnest(%(queues)s::text[]) AS q (queue), LATERAL (
        (SELECT id FROM journal.jobs
         WHERE queue = q.queue AND dead_at IS NULL AND sent_at = '-infinity'
         AND due_at <= statement_timestamp()
         AND due_at > statement_timestamp() - %(back_s)s::int * interval '1 second'
         ORDER BY due_at LIMIT 1)
        UNION ALL
        (SELECT id FROM journal.jobs
         WHERE queue = q.queue AND dead_at IS NULL AND sent_at > '-infinity' AND sent_at < 'infinity'
         AND due_at <= statement_timestamp()
         AND sent_at > statement_timestamp() - %(back_s)s * interval '1 second'
         ORDER BY sent_at LIMIT 1)) AS overdue
"""


# How many seconds back a search goes: ten years in a full search, which finds all jobs. After two slow ones
# most searches go back a minute, and a full one follows every ten seconds: a long transaction keeps the rows
# of jobs that were sent or leased before, and a search reads them (db/job_floors.py).
FULL_S, RECENT_S, FULL_SEARCH_EVERY_S = 10 * 365 * 86400, 60, 10.0
# How many full searches in a row were slow, and the monotonic time of the next one.
_full_search = {"slow": 0, "next_at": 0.0}


def overdue_queues(queues: Collection[str], back_s: int) -> list[str]:
    """Returns which of these queues have overdue jobs. `back_s` is the result of `overdue_within_s`."""
    return [row["queue"] for row in postgres.rows(OVERDUE_QUEUES, queues=list(queues), back_s=back_s)]


# The end of a delay is no attempt. A job that is to be leased (its share is not null) shares its messages
# from now on.
RESEND = f"""
    UPDATE journal.jobs
    SET attempts = attempts + CASE WHEN {_WAS_DELAYED} THEN 0 ELSE 1 END,
        dead_at = CASE WHEN attempts >= {MAX_ATTEMPTS} AND NOT {_WAS_DELAYED} THEN clock_timestamp() END,
        sent_at = CASE WHEN share IS NULL THEN clock_timestamp() ELSE 'infinity' END,
        leased_until = NULL,
        due_at = clock_timestamp() + interval '{DISPATCH_GRACE_S} s'
            + CASE WHEN share IS NULL THEN {BACKOFF} ELSE interval '0' END
    WHERE id = ANY(
        ARRAY(SELECT id FROM journal.jobs
              WHERE queue = %(queue)s AND dead_at IS NULL AND sent_at = '-infinity'
              AND due_at <= statement_timestamp()
              ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        || ARRAY(SELECT id FROM journal.jobs
              WHERE queue = %(queue)s AND dead_at IS NULL AND sent_at > '-infinity' AND sent_at < 'infinity'
              AND due_at <= statement_timestamp()
              AND sent_at < coalesce(%(oldest)s::timestamptz - interval '5 seconds', 'infinity')
              ORDER BY sent_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING dead_at, id, name, queue, args, request_id, attempts, position, share
"""


def resend(queue: str, oldest: datetime | None, limit: int) -> Attempted:
    """Counts one more attempt for the overdue jobs of a queue; returns those to send, and those now dead.

    `oldest` is when the first message that waits in the queue was sent; None when none waits. The messages of
    jobs that were sent after it still wait in Redis, too: these jobs are not read, however many they are.
    Five seconds allow for clocks that differ.
    """
    return attempted(postgres.rows(RESEND, queue=queue, oldest=oldest, limit=limit))


FIRST_OF_BATCHES = """
    SELECT first.id, first.name, first.queue, first.args, first.request_id, first.attempts, first.position
    FROM unnest(%(batches)s::text[], %(batch_floors)s::bigint[]) AS batch (name, floor), LATERAL (
        SELECT * FROM journal.jobs
        WHERE name = batch.name AND position >= batch.floor AND dead_at IS NULL AND error IS NULL
        ORDER BY position LIMIT 1) AS first
    WHERE first.due_at <= statement_timestamp()
"""


def overdue_batches(names: Collection[str]) -> list[Job]:
    """Returns the first job of each of these batch jobs whose message is overdue."""
    floors = job_floors.positions(names)
    found = postgres.rows(FIRST_OF_BATCHES, batches=list(names), batch_floors=floors)
    return [Job(**row, shared=True) for row in found]


# For a job of a batch, leased_until is when a message was sent for it as one of the first.
RESEND_BATCH = f"""
    UPDATE journal.jobs
    SET attempts = attempts + CASE WHEN leased_until IS NULL THEN 0 ELSE 1 END,
        dead_at = CASE WHEN leased_until IS NOT NULL AND attempts >= {MAX_ATTEMPTS}
            THEN clock_timestamp() END,
        leased_until = clock_timestamp(),
        due_at = clock_timestamp() + interval '{DISPATCH_GRACE_S} s' + {BACKOFF}
    WHERE id = ANY(ARRAY(
        SELECT id FROM journal.jobs
        WHERE id IN (SELECT id FROM journal.jobs WHERE name = %(name)s AND dead_at IS NULL AND error IS NULL
                     ORDER BY position LIMIT %(limit)s)
        AND due_at <= statement_timestamp()
        AND coalesce(leased_until, created_at)
            < coalesce(%(oldest)s::timestamptz - interval '5 seconds', 'infinity')
        FOR UPDATE SKIP LOCKED))
    RETURNING dead_at, id, name, queue, args, request_id, attempts, position, share
"""


def resend_batch(name: str, oldest: datetime | None, limit: int) -> Attempted:
    """Records that one message is sent for the first jobs of a batch job; returns these, and those now dead.

    Counts an attempt only for a job that was among the first at an earlier message too: the others only
    waited for their turn. `oldest` is the same as in `resend`.
    """
    return attempted(postgres.rows(RESEND_BATCH, name=name, oldest=oldest, limit=limit), shared=True)


RECORD_SENT = """
    UPDATE journal.jobs SET sent_at = clock_timestamp() WHERE id = ANY(ARRAY(
        SELECT id FROM journal.jobs
        WHERE id = ANY(%s) AND dead_at IS NULL AND sent_at > '-infinity' AND sent_at < 'infinity'
        ORDER BY position FOR NO KEY UPDATE SKIP LOCKED))
"""


def record_sent(jobs: Sequence[Job]) -> None:
    """Records that messages of jobs are sent again because a paused queue was resumed: that is no attempt."""
    postgres.rows(RECORD_SENT, [job.id for job in jobs])


# `num_nulls(share) = 0` instead of `share IS NOT NULL`: in a journal full of batch jobs, which have no share,
# the planner would expect no job with a share, and read the whole journal for each name.
UNLEASED_NAMES = """
    SELECT n.name, first.id, first.queue
    FROM unnest(%(leased)s::text[], %(lease_floors)s::bigint[]) AS n (name, floor), LATERAL (
        SELECT id, queue, due_at FROM journal.jobs
        WHERE name = n.name AND position >= n.floor AND num_nulls(share) = 0
        AND sent_at = 'infinity' AND dead_at IS NULL
        AND (leased_until IS NULL OR leased_until <= statement_timestamp())
        ORDER BY position LIMIT 1) AS first
    WHERE first.due_at <= statement_timestamp()
"""


def overdue_leases(names: Collection[str]) -> list[Job]:
    """Returns one job of each of these names whose first job should have been leased by now.

    Counts no attempt: `leased_jobs` does if the lease of the job has expired.
    """
    found = postgres.rows(UNLEASED_NAMES, leased=list(names), lease_floors=job_floors.positions(names))
    return [Job(row["id"], row["name"], row["queue"], {}, None, shared=True) for row in found]


# Prepared, because planning takes longer than execution.
IS_ANY_OVERDUE = Statement(
    "is_any_job_overdue",
    f"SELECT EXISTS ({OVERDUE_QUEUES}) OR EXISTS ({FIRST_OF_BATCHES}) OR EXISTS ({UNLEASED_NAMES})",
    by_index=True,
)


def overdue_within_s(
    queues: Collection[str], batches: Collection[str], leased: Collection[str]
) -> int | None:
    """Returns how many seconds back a search finds an overdue job; None where there is none.

    One statement makes all the searches above, so that an idle relay sends one a second instead of several.
    How far back the searches of a pass go is decided here: if each one decided, the next could miss what this
    one has found.
    """
    batch_floors, lease_floors = job_floors.positions(batches), job_floors.positions(leased)
    start = time.monotonic()
    is_full = start >= _full_search["next_at"]
    back_s = FULL_S if is_full else RECENT_S
    found = postgres.value(
        IS_ANY_OVERDUE,
        queues=list(queues),
        back_s=back_s,
        batches=list(batches),
        batch_floors=batch_floors,
        leased=list(leased),
        lease_floors=lease_floors,
    )
    if is_full:
        is_slow = time.monotonic() - start > job_floors.SLOW_S
        _full_search["slow"] = _full_search["slow"] + 1 if is_slow else 0
        if _full_search["slow"] > 1:
            _full_search["next_at"] = start + FULL_SEARCH_EVERY_S
    return back_s if found else None


def search_fully_next() -> None:
    """Makes the next search go back ten years: the pass has left out jobs that are overdue for minutes."""
    _full_search["next_at"] = 0.0


def forget() -> None:
    """Forgets that searches were slow: the next ones go back ten years."""
    _full_search.update(slow=0, next_at=0.0)


# A job of a batch that has no attempt was among the first for the first time: its leased_until is reset too.
# A locked row is skipped: a worker is claiming the job.
UNDO_RESEND = """
    UPDATE journal.jobs
    SET attempts = greatest(0, attempts - 1), due_at = clock_timestamp(),
        sent_at = CASE WHEN sent_at = 'infinity' THEN sent_at ELSE '-infinity' END,
        leased_until = CASE WHEN attempts > 0 THEN leased_until END
    WHERE id = ANY(ARRAY(SELECT id FROM journal.jobs WHERE id = ANY(%s) FOR UPDATE SKIP LOCKED))
"""


def undo_resend(jobs: Sequence[Job]) -> None:
    """Takes back the attempts of jobs whose message could not be sent, and makes the jobs due at once.

    Leaves out jobs that are leased (their share is not null): they have failed, which was an attempt.
    """
    postgres.rows(UNDO_RESEND, [job.id for job in jobs if job.share is None])
