"""What operators ask of the whole: when each job ran, how much waits, whether what must hold does hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres, reviews


class JobRun(postgres.Model):
    """When a job of the scheduler was enqueued last, and when it last ran to its end."""

    name = peewee.CharField(100, primary_key=True)
    promised_at = DateTimeTZField(null=False)
    ended_at = DateTimeTZField(null=True)

    class Meta:
        schema = "admin"
        table_name = "job_runs"


class Invariant(postgres.Model):
    """How an invariant stood when it was looked at last; `count` is null when that could not be finished."""

    name = peewee.CharField(100, primary_key=True)
    count = peewee.IntegerField(null=True)
    offenders = peewee.JSONField()
    reason = peewee.TextField(null=True)
    checked_at = DateTimeTZField(null=False)

    class Meta:
        schema = "admin"
        table_name = "invariants"


@dataclass(frozen=True)
class Standing:
    """An invariant: how many break it (None: that is not known, for the `reason`), and some of their ids."""

    name: str
    count: int | None
    offenders: Sequence[str] = ()
    checked_at: datetime | None = None
    reason: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it is known to hold."""
        return self.count == 0


def ran(name: str, at: datetime) -> None:
    """Notes that a job was promised."""
    insert = JobRun.insert(name=name, promised_at=at)
    insert.on_conflict(conflict_target=[JobRun.name], preserve=[JobRun.promised_at]).execute()


def ended(name: str) -> None:
    """Notes that a scheduled job ran to its end."""
    update = JobRun.update(ended_at=peewee.fn.clock_timestamp())
    update.where(JobRun.name == name).execute()


def runs() -> dict[str, datetime]:
    """When each job was promised last."""
    return {row.name: row.promised_at for row in JobRun.select().order_by(JobRun.name)}


def backlog() -> dict[str, Any]:
    """What waits: promises by their `queues`, since when the `oldest` of those that are due is there (None
    when none is), how many are `dead`, and how many payments are `in_review`."""
    found = postgres.rows(
        "SELECT queue, count(*) FILTER (WHERE dead_at IS NULL) AS waiting,"
        " count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead, min(created_at) FILTER ("
        "WHERE dead_at IS NULL AND due_at <= clock_timestamp() + interval '5 seconds') AS oldest"
        " FROM journal.tasks GROUP BY queue ORDER BY queue"
    )
    return {
        "queues": {row["queue"]: row["waiting"] for row in found if row["waiting"]},
        "oldest": min((row["oldest"] for row in found if row["oldest"]), default=None),
        "dead": sum(row["dead"] for row in found),
        "in_review": reviews.count(),
    }


# The time that is given to what is under way.
_SETTLING = "interval '1 minute'"

# Each gives the ids of what breaks it, of the payments made from :since on.
INVARIANTS: dict[str, str] = {
    "charged_once": f"""
        -- A completed payment has exactly one charge in the PSP's ledger, over the same money; or a person
        -- looks at what differs, or has looked.
        SELECT p.id::text AS id FROM payments.payments p
        WHERE p.created_at >= :since AND p.type = 'payment' AND p.status = 'completed'
            AND (SELECT count(*) FROM psp.charges c WHERE c.payment_id = p.id
                AND c.outcome = 'charged' AND c.amount = p.amount AND c.currency = p.currency) <> 1
            AND NOT {reviews.explains("p.id")}
    """,
    "every_charge_has_its_payment": """
        SELECT c.idempotency_key AS id FROM psp.charges c
        WHERE c.created_at >= :since
            AND NOT EXISTS (SELECT FROM payments.payments p WHERE p.id = c.payment_id AND p.type = 'payment')
    """,
    "nothing_that_ended_badly_is_charged": f"""
        -- A late charge has its review, open or resolved: so it is known.
        SELECT p.id::text AS id FROM payments.payments p JOIN psp.charges c ON c.payment_id = p.id
        WHERE p.created_at >= :since AND p.status IN ('failed', 'cancelled') AND c.outcome = 'charged'
            AND NOT {reviews.explains("p.id")}
    """,
    "the_money_adds_up": f"""
        -- Per currency; what the PSP has charged and we do not know yet, or has a review, is left out.
        SELECT coalesce(ours.currency, theirs.currency) AS id FROM (
            SELECT p.currency, sum(p.amount) AS total FROM payments.payments p
            WHERE p.created_at >= :since AND p.type = 'payment' AND p.status = 'completed'
                AND NOT {reviews.explains("p.id")}
            GROUP BY p.currency) AS ours
        FULL JOIN (
            SELECT c.currency, sum(c.amount) AS total FROM psp.charges c JOIN payments.payments p
                ON p.id = c.payment_id AND p.status <> 'processing' AND NOT {reviews.explains("p.id")}
            WHERE p.created_at >= :since AND c.outcome = 'charged'
            GROUP BY c.currency) AS theirs USING (currency)
        WHERE ours.total IS DISTINCT FROM theirs.total
    """,
    "every_change_has_its_history": """
        SELECT p.id::text AS id FROM payments.payments p
        WHERE p.created_at >= :since
            AND p.status IS DISTINCT FROM (SELECT t.status FROM payments.payment_transactions t
                WHERE t.payment_id = p.id ORDER BY t.created_at DESC, t.id DESC LIMIT 1)
    """,
    "every_history_is_legal": """
        SELECT DISTINCT id FROM (
            SELECT t.payment_id::text AS id, t.from_status, t.status, p.type,
                lag(t.status) OVER (PARTITION BY t.payment_id ORDER BY t.created_at, t.id) AS before
            FROM payments.payment_transactions t JOIN payments.payments p ON p.id = t.payment_id
            WHERE p.created_at >= :since
        ) AS moved
        WHERE from_status IS DISTINCT FROM before OR NOT payments.is_lawful(type, from_status, status)
    """,
    "every_change_is_audited": f"""
        SELECT t.payment_id::text AS id FROM payments.payment_transactions t
        LEFT JOIN admin.audit_logs a ON a.resource_id = t.payment_id
            AND a.action = 'payments.payment.' || t.transaction_type
        WHERE t.created_at >= :since AND t.created_at < clock_timestamp() - {_SETTLING}
        GROUP BY t.payment_id, t.transaction_type HAVING count(DISTINCT t.id) <> count(DISTINCT a.id)
    """,
    "every_change_is_told": f"""
        SELECT p.id::text AS id FROM payments.payments p
        WHERE p.created_at >= :since AND p.updated_at < clock_timestamp() - {_SETTLING}
            AND (SELECT count(*) FROM admin.events e
            WHERE e.data ->> 'id' = p.id::text AND e.type IN ('payments:payment:created',
            'payments:payment:updated')) <> p.version
    """,
    "nothing_stays_unfinished": f"""
        -- Beyond its time without a live promise, and nobody is looking at it.
        SELECT p.id::text AS id FROM payments.payments p
        WHERE ((p.type = 'payment' AND p.status = 'processing' AND NOT EXISTS (
                SELECT FROM payments.payment_reviews r WHERE r.payment_id = p.id AND r.resolved_at IS NULL))
                OR p.status = 'pending')
            AND p.updated_at < clock_timestamp() - {_SETTLING}
            AND NOT EXISTS (SELECT FROM journal.tasks j WHERE j.dead_at IS NULL
                AND j.args ->> 'payment_id' = p.id::text)
    """,
    "no_promise_is_dead": """
        SELECT id::text AS id FROM journal.tasks WHERE dead_at IS NOT NULL
    """,
    "no_promise_is_forgotten": f"""
        SELECT id::text AS id FROM journal.tasks
        WHERE dead_at IS NULL AND due_at < clock_timestamp() - {_SETTLING}
    """,
    "everything_logged_is_published": f"""
        SELECT id::text AS id FROM admin.events
        WHERE published_at IS NULL AND occurred_at < clock_timestamp() - {_SETTLING}
    """,
    "the_log_of_events_has_no_gaps": """
        SELECT seq::text AS id FROM (
            SELECT seq, lag(seq, 1, start) OVER (ORDER BY seq) AS before FROM admin.events, (
                SELECT coalesce((SELECT seq FROM admin.events WHERE occurred_at < :since
                    ORDER BY occurred_at DESC LIMIT 1), 0) AS start) AS at
            WHERE seq > start) AS log
        WHERE seq <> before + 1
    """,
}


# What is verified along the chain of the audit log: its newest rows each minute, and all of it.
NEWEST_AUDIT_ROWS, WHOLE_AUDIT_LOG = "the_audit_log_goes_on_unbroken", "the_audit_log_is_whole"

# A look that is older tells nothing of now: whoever should look is dead. A long audit log is verified daily.
LOOK_EXPIRES, WHOLE_LOOK_EXPIRES = timedelta(minutes=10), timedelta(hours=36)


def names() -> tuple[str, ...]:
    """All that must hold, in the order in which it is looked at."""
    return (NEWEST_AUDIT_ROWS, *INVARIANTS, WHOLE_AUDIT_LOG)


def check(name: str, at: datetime, *, seconds: float, since: datetime | None = None) -> Standing:
    """Looks whether an invariant holds: of all payments, or of those made or changed from `since` on. Raises
    what is `postgres.too_slow` when that takes longer than so many seconds."""
    moment = since.isoformat() if since else "-infinity"
    query = INVARIANTS[name].replace(":since", f"'{moment}'::timestamptz")
    # In a transaction of its own: one that was too slow spoils no other.
    with postgres.database.atomic():
        postgres.patient(seconds)
        [found] = postgres.rows(
            f"WITH broken AS ({query}) SELECT (SELECT count(*) FROM broken) AS count,"
            " ARRAY(SELECT id FROM broken LIMIT 20) AS offenders"
        )
    return Standing(name, found["count"], found["offenders"], at)


def keep(standing: Standing) -> None:
    """Writes down how an invariant stood."""
    insert = Invariant.insert(
        name=standing.name,
        count=standing.count,
        offenders=list(standing.offenders),
        reason=standing.reason,
        checked_at=standing.checked_at,
    )
    columns = [Invariant.count, Invariant.offenders, Invariant.reason, Invariant.checked_at]
    insert.on_conflict(conflict_target=[Invariant.name], preserve=columns).execute()


def looked_at(name: str) -> datetime | None:
    """When an invariant was looked at last."""
    row = Invariant.get_or_none(Invariant.name == name)
    return row.checked_at if row else None


def standings(now: datetime) -> list[Standing]:
    """How each invariant stood at its last look. One that was never looked at, or too long ago, is not known
    to hold: the last green says nothing about now."""
    rows = {row.name: row for row in Invariant.select()}
    return [_standing(name, rows.get(name), now) for name in names()]


def _standing(name: str, row: Invariant | None, now: datetime) -> Standing:
    if row is None:
        return Standing(name, None, reason="it was not looked at yet")
    expires = WHOLE_LOOK_EXPIRES if name == WHOLE_AUDIT_LOG else LOOK_EXPIRES
    # One that was broken is not taken for better because nobody looks.
    if row.count == 0 and now - row.checked_at > expires:
        return Standing(name, None, (), row.checked_at, f"it was not looked at for {expires}")
    return Standing(name, row.count, row.offenders, row.checked_at, row.reason)
