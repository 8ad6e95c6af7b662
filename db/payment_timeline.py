"""Everything that the tables know about one payment, in one statement."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from db import listed_jobs, postgres

# Each kind is read along an index that begins with the payment; rows that only an administrator sees are not
# read for others. Not prepared: a plan that was made for an empty journal would read a full one from end to
# end. No index of the journal has the payment. Most jobs have an id that is derived from the payment's. The
# others (those that a person caused, those of a decision that is not settled, dead ones) are mostly few; they
# are searched for among the first jobs, because a paused queue may have a million. Events are ordered by
# their times: if it were by their numbers, PostgreSQL might read the whole log backwards.
FIND = f"""
    (SELECT 'transition' AS kind, created_at AS at, NULL::timestamptz AS until, jsonb_build_object(
        'transition', transaction_type, 'from', from_status, 'to', status, 'reason', reason) AS data
    FROM payments.payment_transactions WHERE payment_id = %(id)s
    ORDER BY created_at DESC, id DESC LIMIT %(count)s)
    UNION ALL
    (SELECT 'pspCall', created_at, ended_at, jsonb_build_object(
        'operation', operation, 'idempotencyKey', reference, 'outcome', outcome, 'code', code)
    FROM payments.psp_attempts WHERE payment_id = %(id)s AND %(all)s
    ORDER BY created_at DESC, id DESC LIMIT %(count)s)
    UNION ALL
    (SELECT 'event', occurred_at, NULL, jsonb_build_object('id', id, 'seq', seq, 'type', type,
        'version', data -> 'version', 'requestId', request_id,
        'published', seq <= (SELECT seq FROM admin.event_publication))
    FROM (SELECT * FROM admin.events WHERE seq IN (SELECT admin.events_about(%(id)s::text)) AND %(all)s
        ORDER BY occurred_at DESC, seq DESC LIMIT %(count)s) AS newest)
    UNION ALL
    (SELECT 'audit', created_at, NULL, jsonb_build_object('id', id, 'seq', seq, 'action', action,
        'userId', user_id, 'requestId', request_id, 'details', details)
    FROM admin.audit_logs WHERE resource_id = %(id)s AND %(all)s
    ORDER BY created_at DESC, id DESC LIMIT %(count)s)
    UNION ALL
    (SELECT 'mail', ended_at, NULL, jsonb_build_object(
        'to', CASE WHEN to_payee THEN 'payee' ELSE 'payer' END, 'rejected', rejected)
    FROM payments.payment_mails WHERE payment_id = %(id)s AND %(all)s
    ORDER BY ended_at DESC LIMIT %(count)s)
    UNION ALL
    (SELECT 'job',
        CASE
            WHEN dead_at IS NOT NULL THEN dead_at
            WHEN sent_at = '-infinity' AND leased_until IS NULL THEN due_at
            ELSE created_at
        END,
        NULL, jsonb_build_object('id', id, 'name', name, 'queue', queue,
            'state', {listed_jobs.STATE}, 'attempts', attempts, 'error', error, 'requestId', request_id)
    FROM journal.jobs WHERE id IN (
        SELECT unnest(%(job_ids)s::uuid[])
        UNION SELECT id FROM (
            (SELECT id, args FROM journal.jobs WHERE name = ANY(%(job_names)s) AND dead_at IS NULL
            LIMIT {listed_jobs.SEARCHED})
            UNION ALL
            (SELECT id, args FROM journal.jobs WHERE name = 'payments.settle' AND dead_at IS NULL AND EXISTS (
                SELECT FROM payments.psp_attempts WHERE payment_id = %(id)s AND settled_at IS NULL)
            ORDER BY position LIMIT {listed_jobs.SEARCHED})
            UNION ALL
            (SELECT id, args FROM journal.jobs WHERE dead_at IS NOT NULL AND %(all)s
            LIMIT {listed_jobs.SEARCHED})
        ) AS searched WHERE args ->> 'payment_id' = %(id)s::text
    ) AND (dead_at IS NULL OR %(all)s) ORDER BY position DESC LIMIT %(count)s)
    UNION ALL
    (SELECT 'reconcile', reconcile_at, NULL, '{{}}'
    FROM payments.payments_in_progress WHERE payment_id = %(id)s)
"""


# A kind of row that is no kind of the API: when the reconciler may check the payment next.
RECONCILE = "reconcile"


class TimelineRow(NamedTuple):
    """One item of a timeline: when it began or is due (`at`), when it ended (`until`), and its fields.

    `kind` is a kind of item of the API, or RECONCILE.
    """

    kind: str
    at: datetime
    until: datetime | None
    data: dict[str, Any]


def find(
    payment_id: UUID,
    *,
    everything: bool,
    count: int,
    job_ids: Sequence[UUID],
    job_names: Sequence[str],
) -> list[TimelineRow]:
    """Returns the newest `count` rows of each kind, newest first within a kind.

    `job_ids` are the ids that jobs about the payment may have; jobs with these names are found by their
    arguments. Without `everything`, only transitions and what is to come.
    """
    found = postgres.rows(
        FIND,
        id=payment_id,
        all=everything,
        count=count,
        job_ids=list(job_ids),
        job_names=list(job_names),
    )
    return [TimelineRow(**row) for row in found]
