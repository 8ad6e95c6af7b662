"""The invariants of payments, jobs and events: SQL that returns the ids of the rows that violate them."""

from datetime import datetime, timedelta

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import backlog, config, postgres, reviews
from db.payments_in_progress import STUCK_AFTER


class Invariant(postgres.Model, table="admin.invariants"):
    """The result of an invariant's last check: the number of violations, and up to 20 ids of them.

    `count` is None when the number is not known; `reason` then says why.
    """

    name = peewee.CharField(100, primary_key=True)
    count = peewee.IntegerField(null=True)
    offenders = peewee.JSONField()
    reason = peewee.TextField(null=True)
    checked_at = DateTimeTZField(null=False)

    @property
    def ok(self) -> bool:
        """Returns whether the invariant is known to have no violation."""
        return self.count == 0


# How many changes of payments, jobs and events one check reads at most. A check runs each minute, so it must
# not take longer than a minute.
CHECK_ROWS_LIMIT = 100_000


# How long work in progress may take before it counts as a violation. The queries use statement_timestamp():
# no index supports a comparison with clock_timestamp(), which may change from row to row.
_GRACE_PERIOD = "interval '1 minute'"


# The ids of payments that were created, or changed their status, from :since on.
_RECENT_PAYMENTS = """
    SELECT id FROM payments.payments WHERE created_at >= :since
    UNION SELECT payment_id FROM payments.payment_transactions WHERE created_at >= :since
"""


# A review, open or resolved, explains a difference between the PSP's ledger and the payment `p`.
_EXPLAINED = f"""
    EXISTS (SELECT FROM payments.payment_reviews review WHERE review.payment_id = p.id
        AND review.cause IN ({", ".join(f"'{cause}'" for cause in sorted(reviews.MONEY_CAUSES))}))
"""

# Each query returns the ids of violations among the payments that were created or changed from :since on. The
# queries run each minute: they use indexes, and read as many rows as are recent, however many there are in
# all.
INVARIANTS: dict[str, str] = {
    "charged_once": f"""
        -- A completed payment has exactly one charge in the PSP's ledger, with the same amount and currency.
        SELECT p.id::text AS id FROM ({_RECENT_PAYMENTS}) AS recent JOIN payments.payments p USING (id)
        WHERE p.type = 'payment' AND p.status = 'completed'
            AND (SELECT count(*) FROM psp.charges c WHERE c.payment_id = p.id
                AND c.outcome = 'charged' AND c.amount = p.amount AND c.currency = p.currency) <> 1
            AND NOT {_EXPLAINED}
    """,
    "every_charge_has_a_payment": """
        SELECT c.idempotency_key AS id FROM psp.charges c
        WHERE c.created_at >= :since
            AND NOT EXISTS (SELECT FROM payments.payments p WHERE p.id = c.payment_id AND p.type = 'payment')
    """,
    "no_failed_or_cancelled_payment_is_charged": f"""
        SELECT p.id::text AS id FROM ({_RECENT_PAYMENTS} UNION
            SELECT payment_id FROM psp.charges WHERE created_at >= :since) AS recent
        JOIN payments.payments p USING (id) JOIN psp.charges c ON c.payment_id = p.id
        WHERE p.status IN ('failed', 'cancelled') AND c.outcome = 'charged'
            AND NOT {_EXPLAINED}
    """,
    "charges_match_completed_amounts": f"""
        -- By currency. Payments that are still processing, or that a review explains, are left out.
        WITH ours AS MATERIALIZED (
            SELECT p.id, p.status, p.currency, p.amount FROM ({_RECENT_PAYMENTS}) AS recent
            JOIN payments.payments p USING (id)
            WHERE p.type = 'payment' AND p.status <> 'processing' AND NOT {_EXPLAINED}
        )
        SELECT currency AS id FROM (
            SELECT currency, amount FROM ours WHERE status = 'completed'
            UNION ALL
            SELECT c.currency, -c.amount FROM ours JOIN psp.charges c ON c.payment_id = ours.id
            WHERE c.outcome = 'charged'
        ) AS booked GROUP BY currency HAVING sum(amount) <> 0
    """,
    "every_change_has_a_transaction": f"""
        SELECT p.id::text AS id FROM ({_RECENT_PAYMENTS}) AS recent JOIN payments.payments p USING (id)
        WHERE p.status IS DISTINCT FROM (SELECT t.status FROM payments.payment_transactions t
            WHERE t.payment_id = p.id ORDER BY t.created_at DESC, t.id DESC LIMIT 1)
    """,
    "every_history_is_legal": f"""
        SELECT DISTINCT p.id::text AS id
        FROM ({_RECENT_PAYMENTS}) AS recent JOIN payments.payments p USING (id), LATERAL (
            SELECT t.from_status, t.status, lag(t.status) OVER (ORDER BY t.created_at, t.id) AS before
            FROM payments.payment_transactions t WHERE t.payment_id = p.id
        ) AS moved
        WHERE from_status IS DISTINCT FROM before
            OR NOT payments.is_legal_transition(type, from_status, moved.status)
    """,
    "every_change_is_audited": f"""
        -- Counts all changes of a payment and all its audit entries instead of those of a period: a change at
        -- the end of a period would have its entry outside.
        SELECT DISTINCT recent.id::text AS id FROM ({_RECENT_PAYMENTS}) AS recent, LATERAL (
            SELECT 'payments.payment.' || t.transaction_type AS action, count(*) AS changes,
                count(*) FILTER (WHERE t.created_at < statement_timestamp() - {_GRACE_PERIOD}) AS settled
            FROM payments.payment_transactions t WHERE t.payment_id = recent.id GROUP BY t.transaction_type
        ) AS moved
        WHERE (SELECT count(*) FROM admin.audit_logs a
            WHERE a.resource_id = recent.id AND a.action = moved.action) NOT BETWEEN settled AND changes
    """,
    "every_change_has_an_event": f"""
        SELECT p.id::text AS id FROM ({_RECENT_PAYMENTS}) AS recent JOIN payments.payments p USING (id)
        WHERE p.updated_at < statement_timestamp() - {_GRACE_PERIOD}
            AND (SELECT count(*) FROM admin.event_log e
            WHERE e.seq IN (SELECT admin.events_about(p.id::text)) AND e.type IN ('payments:payment:created',
            'payments:payment:updated')) <> p.version
    """,
    "no_payment_is_stuck": f"""
        -- The reconciler should have claimed the payment a minute ago (payments_in_progress.claim_stuck and
        -- claim_not_begun), no job of the payment is alive, and an open review does not explain it. The jobs
        -- are read once, and only if there is such a payment.
        WITH unattended AS MATERIALIZED (
            SELECT p.id::text AS id
            FROM payments.payments_in_progress i, LATERAL (
                SELECT * FROM payments.payments WHERE id = i.payment_id OFFSET 0) AS p
            WHERE CASE p.status
                    WHEN 'pending' THEN p.created_at < statement_timestamp() - 2 * {_GRACE_PERIOD}
                        AND p.updated_at < statement_timestamp() - 2 * {_GRACE_PERIOD}
                    ELSE i.reconcile_at < statement_timestamp() - {_GRACE_PERIOD}
                        AND p.updated_at < statement_timestamp() - {_GRACE_PERIOD} - interval '{STUCK_AFTER}'
                        AND NOT EXISTS (SELECT FROM payments.payment_reviews r
                            WHERE r.payment_id = p.id AND r.resolved_at IS NULL)
                END
        )
        SELECT id FROM unattended
        EXCEPT SELECT j.args ->> 'payment_id' FROM journal.jobs j
        WHERE j.dead_at IS NULL AND EXISTS (SELECT FROM unattended)
    """,
    "no_job_is_dead": f"""
        SELECT id::text AS id FROM journal.jobs WHERE dead_at IS NOT NULL LIMIT {CHECK_ROWS_LIMIT}
    """,
    "no_job_is_overdue": f"""
        {backlog.JOB_NAMES_CTE} SELECT id::text AS id FROM names, LATERAL (
            SELECT id, queue, due_at FROM journal.jobs t WHERE t.name = names.name AND t.dead_at IS NULL
            ORDER BY position LIMIT {backlog.OLDEST_JOBS_LIMIT}
        ) AS first
        WHERE due_at < statement_timestamp() - {_GRACE_PERIOD}
            -- What waits on a paused queue, or on one that was just resumed, is not overdue.
            AND NOT EXISTS (SELECT FROM admin.system_config c WHERE c.key = '{config.ConfigKey.QUEUES_PAUSED}'
                AND (c.value ? first.queue OR c.updated_at > statement_timestamp() - {_GRACE_PERIOD}))
    """,
    "every_event_is_published": f"""
        SELECT id::text AS id FROM admin.events
        WHERE seq > coalesce((SELECT seq FROM admin.event_publication), 0)
            AND occurred_at < statement_timestamp() - {_GRACE_PERIOD}
        LIMIT {CHECK_ROWS_LIMIT}
    """,
    "event_log_has_no_gaps": f"""
        -- Goes back by 1, 2, 4, ... events until one is older than :since.
        WITH newest AS (SELECT max(seq) AS seq FROM admin.events), at AS (
            SELECT greatest(coalesce(max(older.seq), 0),
                (SELECT seq - {CHECK_ROWS_LIMIT} FROM newest)) AS start
            FROM generate_series(0, 16) AS power, LATERAL (
                SELECT e.seq, e.occurred_at FROM admin.events e
                WHERE e.seq <= (SELECT seq FROM newest) - (1 << power) ORDER BY e.seq DESC LIMIT 1) AS older
            WHERE older.occurred_at < :since
        )
        SELECT seq::text AS id FROM (
            SELECT seq, lag(seq, 1, (SELECT start FROM at)) OVER (ORDER BY seq) AS before FROM admin.events
            WHERE seq > (SELECT start FROM at)) AS log
        WHERE seq <> before + 1
    """,
}


# The audit log's chain is verified along its entries: the newest each minute, and all of them in steps.
NEWEST_AUDIT_ROWS, WHOLE_AUDIT_LOG = "newest_audit_log_entries_are_intact", "audit_log_is_intact"


# The queues whose jobs check the invariants.
_CHECKING_QUEUES = {"housekeeping"}
# The queues whose jobs make an invariant true again after a change.
_QUEUES = {
    "every_change_is_audited": {"events"},
    "every_change_has_an_event": {"events"},
    "every_event_is_published": {"events"},
    "no_payment_is_stuck": {"payments", "psp", "psp-inquiries"},
}


# When the result of a check expires: then the scheduler or its jobs are not running. A long audit log is
# verified once a day.
CHECK_EXPIRES_AFTER, WHOLE_CHECK_EXPIRES_AFTER = timedelta(minutes=10), timedelta(hours=36)


def names() -> tuple[str, ...]:
    """Returns the names of all invariants, in the order of their checks."""
    return (NEWEST_AUDIT_ROWS, *INVARIANTS, WHOLE_AUDIT_LOG)


# The time of the first change, counted from the newest, that is beyond the limit. A check begins there.
_OLDEST_CHANGE_TO_CHECK = """
    SELECT max(created_at) AS at FROM (
        SELECT created_at FROM payments.payment_transactions
        WHERE created_at >= %s ORDER BY created_at DESC OFFSET %s LIMIT 1
    ) AS beyond
"""


def check(name: str, at: datetime, *, seconds: float, since: datetime | None = None) -> Invariant:
    """Checks an invariant for all payments, or for those created or changed from `since` on.

    With `since`, the check covers the newest CHECK_ROWS_LIMIT changes at most. It raises an error for which
    `postgres.is_timeout` is true when it takes longer than `seconds`.
    """
    # A transaction of its own: a timeout aborts no other check.
    with postgres.database.atomic():
        postgres.set_statement_timeout(seconds)
        backlog.prefer_indexes()
        start = "-infinity"
        if since:
            [oldest] = postgres.rows(_OLDEST_CHANGE_TO_CHECK, since, CHECK_ROWS_LIMIT)
            start = (oldest["at"] or since).isoformat()
        query = INVARIANTS[name].replace(":since", f"'{start}'::timestamptz")
        [found] = postgres.rows(
            f"WITH violations AS ({query}) SELECT (SELECT count(*) FROM violations) AS count,"
            " ARRAY(SELECT id FROM violations LIMIT 20) AS offenders"
        )
    return Invariant(name=name, checked_at=at, **found)


def save(*results: Invariant) -> None:
    """Saves the results of checks."""
    if not results:
        return
    insert = Invariant.insert_many(
        [result.__data__ for result in results], fields=list(Invariant._meta.sorted_fields)
    )
    columns = [Invariant.count, Invariant.offenders, Invariant.reason, Invariant.checked_at]
    insert.on_conflict(conflict_target=[Invariant.name], preserve=columns).execute()


def last_checked_at(name: str) -> datetime | None:
    """Returns when an invariant was last checked."""
    row = Invariant.get_or_none(Invariant.name == name)
    return row.checked_at if row else None


def statuses(now: datetime) -> list[Invariant]:
    """Returns the result of each invariant's last check.

    The number of violations of an invariant that was never checked, or not recently, is not known: an old
    success says nothing about now. An old violation remains one.
    """
    rows = {row.name: row for row in Invariant.select()}
    paused = config.paused_queues()
    return [_with_pauses(_status(name, rows.get(name), now), paused) for name in names()]


def _with_pauses(status: Invariant, paused: frozenset[str]) -> Invariant:
    """Names paused queues in the reason of an invariant that is not known to hold, if they may be why."""
    queues = sorted(paused & (_CHECKING_QUEUES if status.count is None else _QUEUES.get(status.name, set())))
    if queues and not status.ok:
        pause = f"paused: {', '.join(queues)}"
        status.reason = f"{status.reason}; {pause}" if status.reason else pause
    return status


def _status(name: str, row: Invariant | None, now: datetime) -> Invariant:
    """Returns the last result of an invariant; a result without a count if it is missing or has expired."""
    if row is None:
        return Invariant(name=name, offenders=[], reason="it has not been checked yet")
    expires_after = WHOLE_CHECK_EXPIRES_AFTER if name == WHOLE_AUDIT_LOG else CHECK_EXPIRES_AFTER
    if row.count == 0 and now - row.checked_at > expires_after:
        row.count, row.reason = None, f"it was last checked more than {expires_after} ago"
    return row
