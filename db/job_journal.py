"""Promised work: written in the transaction that makes it due, removed in the one that does it."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import peewee
from peewee import SQL
from playhouse.postgres_ext import DateTimeTZField
from psycopg2.extras import Json

from db import postgres

# The fast path has this long before the relay looks after a promise. In seconds.
DISPATCH_GRACE_S = 5
# How long a job that a worker has set aside is not sent again, after the last word of that worker. In
# seconds.
SET_ASIDE_S = 15.0
# How often a promise is sent again before it is given up: it takes about an hour.
MAX_ATTEMPTS = 20

# Half a second, doubling to five minutes, with jitter: what failed together must not come back together.
_BACKOFF = "least(300, 0.5 * 2 ^ attempts) * (0.5 + random() / 2) * interval '1 second'"


class JobRow(postgres.Model):
    """One promise in the journal."""

    id = peewee.UUIDField(primary_key=True)
    position = peewee.BigIntegerField(constraints=[SQL("GENERATED ALWAYS AS IDENTITY")])
    name = peewee.CharField(100)
    queue = peewee.CharField(50)
    args = peewee.JSONField()
    request_id = peewee.CharField(128, null=True)
    attempts = peewee.IntegerField(constraints=[SQL("DEFAULT 0")])
    sent_at = DateTimeTZField(constraints=postgres.CLOCK)
    due_at = DateTimeTZField()
    leased_until = DateTimeTZField(null=True)
    error = peewee.TextField(null=True)
    dead_at = DateTimeTZField(null=True)
    created_at = DateTimeTZField(constraints=postgres.CLOCK)

    class Meta:
        schema = "journal"
        table_name = "jobs"


# What was begun, or no message was sent for; and what was sent and not begun. `resend` says why they are two.
_BEGUN = "dead_at IS NULL AND (error IS NOT NULL OR leased_until IS NOT NULL OR sent_at = '-infinity')"
_SENT = (
    "dead_at IS NULL AND error IS NULL AND leased_until IS NULL"
    " AND sent_at > '-infinity' AND sent_at < 'infinity'"
)
JobRow.add_index(SQL(f"CREATE INDEX jobs_begun ON journal.jobs (queue, due_at) WHERE {_BEGUN}"))
JobRow.add_index(SQL(f"CREATE INDEX jobs_sent ON journal.jobs (queue, sent_at) WHERE {_SENT}"))
JobRow.add_index(SQL("CREATE INDEX jobs_dead ON journal.jobs (name, dead_at) WHERE dead_at IS NOT NULL"))
JobRow.add_index(
    SQL(
        "CREATE INDEX jobs_payment ON journal.jobs ((args ->> 'payment_id'))"
        " WHERE args ->> 'payment_id' IS NOT NULL"
    )
)
JobRow.add_index(SQL("CREATE INDEX jobs_name ON journal.jobs (name, position) WHERE dead_at IS NULL"))


@dataclass(frozen=True)
class Job:
    """A promise in hand: which name, with which arguments, for whose request, sent again how often."""

    id: UUID
    name: str
    queue: str
    args: dict[str, Any]
    request_id: str | None
    attempts: int = 0
    # Which promise under this id it is: there may be another one after it.
    position: int = 0
    # In how many seconds it is due; at once where it is 0.
    after: float = 0
    # One message does for all of this name: none is sent for this one alone.
    shared: bool = False
    # Until when it is in hand, where it is leased: it is also what tells this lease from a later one.
    leased_until: datetime | None = None

    def delayed(self, seconds: float) -> "Job":
        """The same, but not before so many seconds have passed: the relay sends it then."""
        return replace(self, after=seconds)

    def unique(self, key: str) -> "Job":
        """The same under an id made of its name and a key: promised twice, it is in the journal once."""
        return replace(self, id=id_for_key(self.name, key))


def id_for_key(name: str, key: str) -> UUID:
    """The id of a promise that there is once for a key."""
    return uuid5(NAMESPACE_OID, f"{name}:{key}")


def insert(tasks: Sequence[Job]) -> None:
    """Writes promises, in their order, in the transaction that is open.

    A known id is written once; where its promise is dead, it lives again: it was promised anew.
    What is due later was never sent, and what shares a message has none of its own: see `resend` and `wake`.
    """
    values = [
        (task.id, task.name, task.queue, Json(task.args), task.request_id)
        + (
            ("-infinity", task.after)
            if task.after
            else ("infinity" if task.shared else None, DISPATCH_GRACE_S)
        )
        for task in tasks
    ]
    place = (
        "(%s, %s, %s, %s, %s, coalesce(%s::timestamptz, clock_timestamp()),"
        " clock_timestamp() + %s * interval '1 second')"
    )
    places = ", ".join([place] * len(values))
    written = postgres.rows(
        f"INSERT INTO journal.jobs (id, name, queue, args, request_id, sent_at, due_at) VALUES {places}"
        # Not DO UPDATE: it locks the row, and whoever comes to do the work would leave.
        " ON CONFLICT (id) DO NOTHING RETURNING id",
        *(value for row in values for value in row),
    )
    if len(written) < len(tasks):
        retry_dead({task.id for task in tasks} - {row["id"] for row in written})


_TASK = "id, name, queue, args, request_id, attempts, position"


def claim(id: UUID) -> Job | None:
    """Removes a promise and hands it over; None when it is done, dead, or in another's hands.

    The removal is the claim: it holds when this transaction commits, and is undone with it.
    """
    return _one(
        "DELETE FROM journal.jobs WHERE id = (SELECT id FROM journal.jobs"
        " WHERE id = %s AND dead_at IS NULL FOR UPDATE SKIP LOCKED)"
        f" RETURNING {_TASK}",
        id,
    )


# The promises of one name, without those that failed before (they come back one by one, when they are due),
# but with the one that was asked for.
_WAITING = (
    "SELECT id FROM journal.jobs WHERE name = %s AND dead_at IS NULL AND (error IS NULL OR id = %s)"
    " ORDER BY position LIMIT %s"
)
# Ever fewer where the first of them were begun before and not done: one of them may kill its process, and the
# others must not die with it.
_EVER_FEWER = (
    "SELECT greatest(1, %s >> least(16, 2 * attempts)) AS many FROM journal.jobs"
    " WHERE name = %s AND dead_at IS NULL AND error IS NULL ORDER BY position LIMIT 1"
)


def claim_batch(name: str, limit: int, asked: UUID | None = None) -> list[Job]:
    """Removes the first promises of one name and hands them over, in order.

    It waits for a row that the relay holds for a moment: to skip it would be to change the order.
    """
    fewer = postgres.rows(_EVER_FEWER, limit, name)
    limit = fewer[0]["many"] if fewer else limit
    taken = postgres.rows(
        f"WITH taken AS (DELETE FROM journal.jobs WHERE id = ANY(ARRAY({_WAITING} FOR UPDATE))"
        f" RETURNING {_TASK}) SELECT {_TASK} FROM taken ORDER BY position",
        name,
        asked,
        limit,
    )
    return [Job(**row) for row in taken]


def waiting_ids(name: str, limit: int, asked: UUID | None = None) -> list[UUID]:
    """The ids that `take_many` would take."""
    return [row["id"] for row in postgres.rows(_WAITING, name, asked, limit)]


def make_due(id: UUID) -> None:
    """Makes a job that failed and waits for its next try due at once, unless it is in hand."""
    postgres.rows(
        "UPDATE journal.jobs SET due_at = clock_timestamp() WHERE id = (SELECT id FROM journal.jobs"
        " WHERE id = %s AND dead_at IS NULL AND error IS NOT NULL AND due_at > clock_timestamp()"
        " AND (leased_until IS NULL OR leased_until <= clock_timestamp()) FOR UPDATE SKIP LOCKED)",
        id,
    )


def lease(id: UUID, seconds: float) -> Job | None:
    """Takes a promise in hand for so long without removing it; None as with `take`.

    Nobody else gets it, and the relay does not send it, before the lease is over.
    """
    return _one(
        "UPDATE journal.jobs SET leased_until = clock_timestamp() + %s * interval '1 second',"
        " due_at = clock_timestamp() + %s * interval '1 second'"
        " WHERE id = (SELECT id FROM journal.jobs WHERE id = %s AND dead_at IS NULL"
        " AND (leased_until IS NULL OR leased_until <= clock_timestamp()) FOR UPDATE SKIP LOCKED)"
        f" RETURNING {_TASK}, leased_until",
        seconds,
        seconds,
        id,
    )


def renew(held: Sequence[tuple[UUID, datetime]], seconds: float) -> dict[tuple[UUID, datetime], datetime]:
    """Keeps jobs in hand for so long from now, each given by its id and the end of its lease; the new ends,
    of those that nobody else has taken since.

    A row that is locked is being taken or given up at this moment, and is left alone.
    """
    renewed = postgres.rows(
        "WITH held AS (SELECT t.id, h.until FROM journal.jobs t"
        " JOIN unnest(%s::uuid[], %s::timestamptz[]) AS h (id, until)"
        " ON t.id = h.id AND t.leased_until = h.until FOR UPDATE OF t SKIP LOCKED)"
        " UPDATE journal.jobs t SET leased_until = clock_timestamp() + %s * interval '1 second',"
        " due_at = clock_timestamp() + %s * interval '1 second'"
        " FROM held WHERE t.id = held.id RETURNING t.id, held.until, t.leased_until",
        [id for id, _until in held],
        [until for _id, until in held],
        seconds,
        seconds,
    )
    return {(row["id"], row["until"]): row["leased_until"] for row in renewed}


def set_aside(task: Job, seconds: float, *, count_back: bool = False) -> None:
    """Gives a leased job that was not begun out of hand, not to be sent again before so many seconds.

    Waiting for a turn is no attempt: where it will be sent again for that alone, this sending is counted
    back.
    """
    postgres.rows(
        "UPDATE journal.jobs SET leased_until = NULL, attempts = greatest(0, attempts - %s),"
        " due_at = clock_timestamp() + %s * interval '1 second' WHERE id = %s AND leased_until = %s",
        int(count_back),
        seconds,
        task.id,
        task.leased_until,
    )


def postpone(ids: Sequence[UUID], seconds: float) -> None:
    """Keeps jobs that are in nobody's hands from being sent again before so many seconds. One that was put
    off already, by half of them or more, stays as it is: no row is written anew at each call."""
    postgres.rows(
        "UPDATE journal.jobs SET due_at = clock_timestamp() + %s * interval '1 second'"
        " WHERE id = ANY(ARRAY(SELECT id FROM journal.jobs WHERE id = ANY(%s) AND dead_at IS NULL"
        " AND leased_until IS NULL AND due_at NOT BETWEEN clock_timestamp() + %s * interval '1 second'"
        " AND clock_timestamp() + %s * interval '1 second' FOR UPDATE SKIP LOCKED))",
        seconds,
        list(ids),
        seconds / 2,
        seconds,
    )


def remove(task: Job) -> bool:
    """Removes a leased job that was done; False when it is gone already.

    Also when its lease has run out and another has it in hand: what the outside has done is done, and a third
    must not do it again.
    """
    return bool(
        postgres.rows(
            "DELETE FROM journal.jobs WHERE id = %s AND position = %s RETURNING id", task.id, task.position
        )
    )


def record_failure(id: UUID, error: str, *, attempts: int | None = None) -> None:
    """Notes what went wrong and puts the promise off. The attempt itself is counted when it is sent again.

    With `attempts`, only if it was not sent again since: another may have it in hand.
    """
    postgres.rows(
        f"UPDATE journal.jobs SET error = %s, leased_until = NULL, due_at = clock_timestamp() + {_BACKOFF}"
        " WHERE id = %s AND attempts = coalesce(%s, attempts)",
        error.replace("\0", "")[:500],
        id,
        attempts,
    )


def ready(ids: Sequence[UUID]) -> set[UUID]:
    """Which of these promises wait for their turn: alive, and in nobody's hands."""
    found = postgres.rows(
        "SELECT id FROM journal.jobs WHERE id = ANY(%s) AND dead_at IS NULL"
        " AND (leased_until IS NULL OR leased_until <= clock_timestamp())",
        list(ids),
    )
    return {row["id"] for row in found}


def missing(ids: Sequence[UUID], dead_for: timedelta) -> set[UUID]:
    """Which of these jobs have to be enqueued again: they are gone, or have been dead for so long."""
    known = postgres.rows(
        "SELECT id FROM journal.jobs WHERE id = ANY(%s)"
        " AND (dead_at IS NULL OR dead_at > clock_timestamp() - %s)",
        list(ids),
        dead_for,
    )
    return set(ids) - {row["id"] for row in known}


# Overdue by their time, which counts from the statement on: a clock that runs on meanwhile is no bound that
# an index knows. Of those that share messages only what failed comes one by one.
_OVERDUE = (
    f"SELECT id FROM journal.jobs WHERE queue = {{queue}} AND {_BEGUN} AND due_at <= statement_timestamp()"
    " AND (error IS NOT NULL OR sent_at < 'infinity') ORDER BY due_at LIMIT {limit}"
)
# Sent, and neither begun nor waiting in the queue.
_LOST = (
    f"SELECT id FROM journal.jobs WHERE queue = {{queue}} AND {_SENT} AND due_at <= statement_timestamp()"
    " AND sent_at < {before} ORDER BY sent_at LIMIT {limit}"
)


def overdue(queues: Collection[str]) -> list[str]:
    """Which of these queues have jobs overdue, or in their turn."""
    parts = {"queue": "q.queue", "before": "'infinity'", "limit": "1"}
    found = postgres.rows(
        "SELECT DISTINCT q.queue FROM unnest(%s::text[]) AS q (queue),"
        f" LATERAL (({_OVERDUE.format(**parts)}) UNION ALL ({_LOST.format(**parts)})) AS t",
        list(queues),
    )
    return [row["queue"] for row in found]


def resend(queue: str, oldest: datetime | None, limit: int) -> tuple[list[Job], list[Job]]:
    """Counts one more attempt for overdue jobs of a queue: those to be sent, and those given up.

    `oldest` is when the first of the messages that wait in the queue was sent, None when none waits. A
    job that was never begun, and was sent after that, still waits there: sending it again would help
    nobody, and would count against it. Five seconds are for clocks that disagree. So what only waits is not
    even looked at, however much it is.
    """
    parts = {
        "queue": "%s",
        "limit": "%s",
        "before": "coalesce(%s::timestamptz - interval '5 seconds', 'infinity')",
    }
    found = postgres.rows(
        "UPDATE journal.jobs SET attempts = attempts + 1, sent_at = clock_timestamp(),"
        " dead_at = CASE WHEN attempts >= %s THEN clock_timestamp() END,"
        f" due_at = clock_timestamp() + %s * interval '1 second' + {_BACKOFF}"
        f" WHERE id = ANY(ARRAY({_OVERDUE.format(**parts)} FOR UPDATE SKIP LOCKED)"
        f" || ARRAY({_LOST.format(**parts)} FOR UPDATE SKIP LOCKED))"
        f" RETURNING dead_at, {_TASK}",
        MAX_ATTEMPTS,
        DISPATCH_GRACE_S,
        queue,
        limit,
        queue,
        oldest,
        limit,
    )
    return _alive_and_dead(found)


def in_turn(names: Collection[str]) -> list[Job]:
    """Of these, which share their messages, the first job of each that has waited for longer than its message
    should take."""
    found = postgres.rows(
        f"SELECT {_TASK} FROM unnest(%s::text[]) AS v (wanted), LATERAL (SELECT * FROM journal.jobs"
        " WHERE name = v.wanted AND dead_at IS NULL AND error IS NULL ORDER BY position LIMIT 1) AS first"
        " WHERE due_at <= statement_timestamp()",
        list(names),
    )
    return [Job(**row, shared=True) for row in found]


def wake(name: str, oldest: datetime | None, limit: int) -> tuple[list[Job], list[Job]]:
    """Notes that a message is sent for the first jobs of a name that share it: those that it is for, and
    those given up.

    What only waits for its turn is not counted: an attempt is counted for those that a message was sent for
    as the first ones already, and that are the first ones still. `oldest` is as with `resend`: a message
    that waits there may be theirs.
    """
    found = postgres.rows(
        "UPDATE journal.jobs SET attempts = attempts + CASE WHEN leased_until IS NULL THEN 0 ELSE 1 END,"
        " dead_at = CASE WHEN leased_until IS NOT NULL AND attempts >= %s THEN clock_timestamp() END,"
        " leased_until = clock_timestamp(),"
        f" due_at = clock_timestamp() + %s * interval '1 second' + {_BACKOFF}"
        " WHERE id = ANY(ARRAY(SELECT id FROM journal.jobs WHERE id IN (SELECT id FROM journal.jobs"
        " WHERE name = %s AND dead_at IS NULL AND error IS NULL ORDER BY position LIMIT %s)"
        " AND due_at <= statement_timestamp() AND coalesce(leased_until, created_at)"
        " < coalesce(%s::timestamptz - interval '5 seconds', 'infinity') FOR UPDATE SKIP LOCKED))"
        f" RETURNING dead_at, {_TASK}",
        MAX_ATTEMPTS,
        DISPATCH_GRACE_S,
        name,
        limit,
        oldest,
    )
    return _alive_and_dead(found)


def _alive_and_dead(found: list[dict[str, Any]]) -> tuple[list[Job], list[Job]]:
    found.sort(key=lambda row: row["position"])
    alive: list[Job] = []
    dead: list[Job] = []
    for row in found:
        (alive if row.pop("dead_at") is None else dead).append(Job(**row))
    return alive, dead


def undo_send(tasks: Sequence[Job]) -> None:
    """Takes back what `resend` or `wake` counted for jobs of which no message could be sent after all; they
    are due at once."""
    postgres.rows(
        "UPDATE journal.jobs SET attempts = greatest(0, attempts - 1), due_at = clock_timestamp(),"
        " sent_at = CASE WHEN sent_at = 'infinity' THEN sent_at ELSE '-infinity' END,"
        # No attempt was counted: no message had been sent for it before either.
        " leased_until = CASE WHEN attempts > 0 THEN leased_until END"
        # What is taken just now needs no other attempt.
        " WHERE id = ANY(ARRAY(SELECT id FROM journal.jobs WHERE id = ANY(%s) FOR UPDATE SKIP LOCKED))",
        [task.id for task in tasks],
    )


def retry_dead(ids: Iterable[UUID] | None = None) -> int:
    """Gives dead promises (all, or these) a new set of attempts, from now; how many."""
    only = "" if ids is None else " AND id = ANY(%s)"
    params = [] if ids is None else [list(ids)]
    return len(
        postgres.rows(
            "UPDATE journal.jobs SET dead_at = NULL, attempts = 0, error = NULL, leased_until = NULL,"
            # No message of it waits any more.
            " sent_at = CASE WHEN sent_at = 'infinity' THEN sent_at ELSE '-infinity' END,"
            f" due_at = clock_timestamp() WHERE dead_at IS NOT NULL{only} RETURNING id",
            *params,
        )
    )


def _one(sql: str, *params: Any) -> Job | None:
    found = postgres.rows(sql, *params)
    return Job(**found[0]) if found else None
