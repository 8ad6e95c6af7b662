"""Calls to the PSP about payments, and notices from the PSP. A call's row is written before the call."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import pagination, postgres
from db.core import times
from db.core.ids import first_at
from db.prepared import Statement

# How many of the newest inquiries and notices of a payment are read: its outcome may stay unknown for weeks.
INQUIRIES_LIMIT = 20
NOTICES_LIMIT = 20


class PspOperation(StrEnum):
    """The operations: Paywright charges or finds a payment, the PSP sends a notice."""

    CHARGE = "charge"
    FIND = "find"
    NOTICE = "notice"


class PspResult(StrEnum):
    """The results of a call."""

    CHARGED = "charged"
    DECLINED = "declined"
    # The PSP knows no order under this reference.
    NOT_FOUND = "not_found"
    # The PSP could not handle the call, or was not reached. The call has no effect, now or later.
    UNAVAILABLE = "unavailable"
    # The outcome is unknown: the call may have had an effect, or may still have one.
    NO_ANSWER = "no_answer"


DECISIONS = (PspResult.CHARGED, PspResult.DECLINED)


class PspAttempt(postgres.Model, table="payments.psp_attempts"):
    """A call or a notice. A call without an outcome is under way, or its process died."""

    id = peewee.UUIDField(primary_key=True)
    payment_id = peewee.UUIDField()
    operation = peewee.CharField(50)
    # The idempotency key of the order: the payment's id.
    reference = peewee.CharField(255)
    outcome = peewee.CharField(50, null=True)
    code = peewee.CharField(100, null=True)
    # The amount that the PSP decided about, as the PSP sent it: it need not fit an amount of ours.
    amount = postgres.AnyDecimal(null=True)
    currency = peewee.TextField(null=True)
    # When the decision was applied to the payment, or led to a review; when a call ended without a decision.
    settled_at = DateTimeTZField(null=True)
    created_at = DateTimeTZField()
    ended_at = DateTimeTZField(null=True)


# A generated column: when the call or notice brought a decision, if that is not settled. It stays null if the
# decision is settled when it is recorded, so that the index on it gets no entry.
_unsettled_since = peewee.SQL("unsettled_since")

# A CTE that locks the payments of the calls, if they are `processing`, until the end of the transaction.
_LOCKED = """
    payment AS (
        SELECT id, amount, currency, coalesce(ordered_metadata, metadata) AS metadata
        FROM payments.payments WHERE id = ANY(%(payment_ids)s::uuid[]) AND status = 'processing'
        ORDER BY id FOR NO KEY UPDATE
    )
"""

# A charge call is the first call of its payment, or follows an inquiry that has found no order. All charge
# calls of a payment have the same idempotency key, so that the PSP charges once, whatever it has received.
# Without ON CONFLICT, because the ids are new, and a row then writes 48 bytes less of WAL.
# Not NOT EXISTS: a plan made for few rows would read all attempts into a hash table.
BEGIN_CHARGES = Statement(
    "begin_charges",
    f"""
    WITH {_LOCKED}, begun AS (
        INSERT INTO payments.psp_attempts (id, payment_id, operation, reference)
        SELECT call.id, payment.id, 'charge', payment.id::text
        FROM unnest(%(ids)s::uuid[], %(payment_ids)s) AS call (id, payment_id)
        JOIN payment ON payment.id = call.payment_id
        WHERE (SELECT true FROM payments.psp_attempts a WHERE a.payment_id = payment.id LIMIT 1) IS NULL
            OR (SELECT a.operation = 'find' AND a.outcome = 'not_found' FROM payments.psp_attempts a
                WHERE a.payment_id = payment.id AND a.operation <> 'notice'
                ORDER BY a.created_at DESC, a.id DESC LIMIT 1)
            AND (SELECT count(*) < %(max_charges)s::int FROM payments.psp_attempts a
                WHERE a.payment_id = payment.id AND a.operation = 'charge')
        RETURNING id, payment_id
    )
    SELECT begun.id, amount, currency, metadata FROM begun JOIN payment ON payment.id = payment_id
    """,
    by_index=True,
)

# A conflict means that an earlier process died during this inquiry, and its job runs again.
BEGIN_INQUIRIES = Statement(
    "begin_inquiries",
    f"""
    WITH {_LOCKED}, begun AS (
        INSERT INTO payments.psp_attempts (id, payment_id, operation, reference)
        SELECT call.id, payment.id, 'find', payment.id::text
        FROM unnest(%(ids)s::uuid[], %(payment_ids)s) AS call (id, payment_id)
        JOIN payment ON payment.id = call.payment_id
        ON CONFLICT (id) DO UPDATE SET operation = excluded.operation
        RETURNING id, payment_id
    )
    SELECT begun.id, amount, currency, metadata FROM begun JOIN payment ON payment.id = payment_id
    """,
    by_index=True,
)

# A decision is never overwritten by another result: another worker, which had taken over the job, may have
# got no answer. A result that is no decision needs no settlement.
# Without the condition on the array of ids, a plan made for few rows would read all attempts.
RECORD_RESULTS = Statement(
    "record_psp_results",
    """
    UPDATE payments.psp_attempts a
    SET outcome = r.outcome, code = r.code, amount = r.amount, currency = r.currency,
        ended_at = clock_timestamp(),
        settled_at = CASE WHEN %(settled)s::boolean OR r.outcome NOT IN ('charged', 'declined')
            THEN clock_timestamp() END
    FROM unnest(%(ids)s::uuid[], %(outcomes)s::text[], %(codes)s::text[],
        %(amounts)s::numeric[], %(currencies)s::text[]) AS r (id, outcome, code, amount, currency)
    WHERE a.id = r.id AND a.id = ANY(%(ids)s)
        AND (a.outcome IS NULL OR a.outcome NOT IN ('charged', 'declined')
            OR r.outcome IN ('charged', 'declined'))
    """,
    by_index=True,
)

RECORD_NOTICE = """
    INSERT INTO payments.psp_attempts
        (id, payment_id, operation, reference, outcome, code, amount, currency, ended_at)
    SELECT %(id)s, id, 'notice', id::text, %(outcome)s, %(code)s, %(amount)s, %(currency)s, clock_timestamp()
    FROM payments.payments WHERE id = %(payment_id)s
"""

MARK_SETTLED = Statement(
    "mark_settled",
    """
    UPDATE payments.psp_attempts SET settled_at = clock_timestamp()
    WHERE id = ANY(%(ids)s::uuid[]) AND settled_at IS NULL
    """,
    by_index=True,
)

# All charge calls, and the newest inquiries and notices.
CALLS_OF_PAYMENTS = f"""
    SELECT calls.* FROM unnest(%s::uuid[]) AS p (id), LATERAL (
        (SELECT * FROM payments.psp_attempts WHERE payment_id = p.id AND operation = 'charge')
        UNION ALL
        (SELECT * FROM payments.psp_attempts WHERE payment_id = p.id AND operation = 'find'
         ORDER BY created_at DESC, id DESC LIMIT {INQUIRIES_LIMIT})
        UNION ALL
        (SELECT * FROM payments.psp_attempts WHERE payment_id = p.id AND operation = 'notice'
         ORDER BY created_at DESC, id DESC LIMIT {NOTICES_LIMIT})
    ) AS calls
    ORDER BY calls.created_at, calls.id
"""


@dataclass(frozen=True)
class CallResult:
    """The result of a call, or a notice; a decision may have a code, and an amount and currency."""

    id: UUID
    outcome: str
    code: str | None = None
    amount: Decimal | None = None
    currency: str | None = None


def begin(
    calls: Mapping[UUID, UUID], operation: PspOperation, *, max_charges: int
) -> dict[UUID, dict[str, Any]]:
    """Records calls that are about to be made; `calls` has the payment id of each call by the call's id.

    Returns the order's amount, currency and metadata by the call's id: the same for every call of a payment.
    Leaves out the calls of a payment that is no longer `processing`. Leaves out a charge call, other than the
    first, if the payment has had `max_charges`, or if its last call was not an inquiry that found no order.
    Locks the payments: either a person who fails a payment sees the call, or the call sees the failure.
    """
    ids = {"ids": list(calls), "payment_ids": list(calls.values())}
    if operation is PspOperation.CHARGE:
        begun = postgres.rows(BEGIN_CHARGES, **ids, max_charges=max_charges)
    else:
        begun = postgres.rows(BEGIN_INQUIRIES, **ids)
    return {row.pop("id"): row for row in begun}


def record_results(results: Sequence[CallResult], *, settled: bool = False) -> None:
    """Records the results of calls; `settled` says that this transaction settles the decisions among them."""
    postgres.rows(
        RECORD_RESULTS,
        ids=[result.id for result in results],
        outcomes=[result.outcome for result in results],
        codes=[result.code for result in results],
        amounts=[result.amount for result in results],
        currencies=[result.currency for result in results],
        settled=settled,
    )


def record_notice(payment_id: UUID, notice: CallResult) -> None:
    """Records a notice of the PSP about a payment. Does nothing if there is no such payment."""
    postgres.rows(RECORD_NOTICE, payment_id=payment_id, **vars(notice))


def mark_settled(ids: Sequence[UUID]) -> None:
    """Marks decisions as settled: each was applied to its payment, or led to a review.

    The caller has locked the payments, so no other transaction marks them.
    """
    postgres.rows(MARK_SETTLED, ids=list(ids))


def unsettled(ended_ago: timedelta, limit: int) -> Sequence[PspAttempt]:
    """Returns decisions that are not settled this long after their call ended, oldest first."""
    query = PspAttempt.select().where(_unsettled_since < peewee.fn.statement_timestamp() - ended_ago)
    return list(query.order_by(_unsettled_since).limit(limit))


def payments_with_unsettled(payment_ids: Collection[UUID]) -> set[UUID]:
    """Returns those of these payments that have a decision which is not settled."""
    row = PspAttempt
    query = row.select(row.payment_id).where(
        row.payment_id.in_(list(payment_ids)), row.outcome.in_(DECISIONS), row.settled_at.is_null()
    )
    return {found.payment_id for found in query.distinct()}


def find_result(id: UUID) -> PspResult | None:
    """Returns the result of a call; None while it is under way, or if it was never begun."""
    found = PspAttempt.get_or_none(PspAttempt.id == id)
    return PspResult(found.outcome) if found is not None and found.outcome else None


def for_payments(payment_ids: Collection[UUID]) -> dict[UUID, list[PspAttempt]]:
    """Returns all charge calls for each payment, and the newest inquiries and notices, oldest first."""
    calls: dict[UUID, list[PspAttempt]] = {id: [] for id in payment_ids}
    for row in postgres.rows(CALLS_OF_PAYMENTS, list(calls)):
        calls[row["payment_id"]].append(PspAttempt(**row))
    return calls


def for_payment(payment_id: UUID) -> Sequence[PspAttempt]:
    """Returns what `for_payments` returns for one payment."""
    return for_payments([payment_id])[payment_id]


def page(payment_id: UUID, *, limit: int, after: pagination.Cursor | None) -> pagination.Page[PspAttempt]:
    """Returns a page of the calls and notices about one payment, newest first."""
    query = PspAttempt.select().where(PspAttempt.payment_id == payment_id)
    return pagination.newest_page(PspAttempt, [query], limit=limit, after=after)


# The calls of the last hour are found by their ids, which begin with the time: an index on the time itself
# would be written with each call. The margin on both sides is for clocks that differ.
HOUR, MARGIN = timedelta(hours=1), timedelta(minutes=1)

# A call has a deadline of 12 s. One without an outcome after that was interrupted: its process died.
RECENT_CALLS = """
    SELECT coalesce(outcome, CASE WHEN created_at > statement_timestamp() - interval '15 s'
        THEN 'under_way' ELSE 'interrupted' END) AS outcome, count(*) AS calls
    FROM payments.psp_attempts
    WHERE id >= %(first)s AND id < %(end)s AND created_at > statement_timestamp() - interval '1 hour'
        AND operation <> 'notice'
    GROUP BY 1 ORDER BY 1
"""

RECENT_DURATIONS = """
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY took_ms) AS p50,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY took_ms) AS p95
    FROM (
        SELECT 1000 * extract(epoch FROM ended_at - created_at) AS took_ms FROM payments.psp_attempts
        WHERE id >= %(first)s AND id < %(end)s AND created_at > statement_timestamp() - interval '1 hour'
            AND operation <> 'notice' AND ended_at IS NOT NULL
    ) AS ended
"""

# Payments in progress whose last call had no answer.
UNKNOWN = """
    SELECT count(*) AS payments FROM (
        SELECT FROM payments.payments_in_progress i, LATERAL (
            SELECT outcome FROM payments.psp_attempts a
            WHERE a.payment_id = i.payment_id AND a.operation <> 'notice' AND a.outcome IS NOT NULL
            ORDER BY a.created_at DESC, a.id DESC LIMIT 1) AS last
        WHERE last.outcome = 'no_answer' LIMIT %s
    ) AS part
"""
UNKNOWN_LIMIT = 10_000


@dataclass(frozen=True)
class PspActivity:
    """Calls by outcome and their durations in the last hour, and payments whose last call had no answer."""

    outcomes: dict[str, int]
    p50_ms: float | None
    p95_ms: float | None
    unknown: int


def recent_activity() -> PspActivity:
    """Measures the activity of the last hour."""
    now = times.now()
    ids = {"first": first_at(now - HOUR - MARGIN), "end": first_at(now + MARGIN)}
    outcomes = {row["outcome"]: row["calls"] for row in postgres.rows(RECENT_CALLS, **ids)}
    [durations] = postgres.rows(RECENT_DURATIONS, **ids)
    unknown = postgres.value(UNKNOWN, UNKNOWN_LIMIT)
    return PspActivity(outcomes, durations["p50"], durations["p95"], unknown)
