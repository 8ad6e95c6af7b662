"""Calls to the PSP about a payment, and notices from the PSP. Each call's row is written before the call."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import pagination, postgres
from db.prepared import Statement
from db.states import PaymentStatus

# Of a payment whose outcome stays unknown for weeks, the newest inquiries and notices suffice.
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
    # When the decision was applied to the payment, or led to a review.
    settled_at = DateTimeTZField(null=True)
    created_at = DateTimeTZField()
    ended_at = DateTimeTZField(null=True)


# The conflict: an earlier process died during this call, and the job runs again.
BEGIN_ATTEMPT = """
    WITH payment AS (
        SELECT id, amount, currency, coalesce(ordered_metadata, metadata) AS metadata
        FROM payments.payments WHERE id = %(payment_id)s AND status = %(status)s FOR NO KEY UPDATE
    ), begun AS (
        INSERT INTO payments.psp_attempts (id, payment_id, operation, reference)
        SELECT %(id)s, id, %(operation)s, id::text FROM payment
        WHERE NOT %(first)s
            OR NOT EXISTS (SELECT FROM payments.psp_attempts a WHERE a.payment_id = payment.id)
        ON CONFLICT (id) DO UPDATE SET operation = excluded.operation RETURNING id
    )
    SELECT amount, currency, metadata FROM payment WHERE EXISTS (SELECT FROM begun)
"""

RECORD_RESULT = """
    UPDATE payments.psp_attempts
    SET outcome = %s, code = %s, amount = %s, currency = %s, ended_at = clock_timestamp()
    WHERE id = %s
"""

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
    WHERE id = ANY(%(ids)s) AND settled_at IS NULL
    """,
    ids="uuid[]",
)

# All charge calls, and the newest inquiries and notices.
CALLS_OF_PAYMENTS = """
    SELECT calls.* FROM unnest(%(payment_ids)s::uuid[]) AS p (id), LATERAL (
        (SELECT * FROM payments.psp_attempts WHERE payment_id = p.id AND operation = 'charge')
        UNION ALL
        (SELECT * FROM payments.psp_attempts WHERE payment_id = p.id AND operation = 'find'
         ORDER BY created_at DESC, id DESC LIMIT %(inquiries)s)
        UNION ALL
        (SELECT * FROM payments.psp_attempts WHERE payment_id = p.id AND operation = 'notice'
         ORDER BY created_at DESC, id DESC LIMIT %(notices)s)
    ) AS calls
    ORDER BY calls.created_at, calls.id
"""


def begin(
    id: UUID, payment_id: UUID, operation: PspOperation, *, first: bool = False
) -> dict[str, Any] | None:
    """Records a call that is about to be made, and returns the order's amount, currency and metadata.

    These are the same in every call for a payment. Returns None when the payment is no longer `processing`,
    or with `first` when there was a call already. The payment's row is locked: a person who fails the payment
    sees this call, or this call sees the failure.
    """
    begun = postgres.rows(
        BEGIN_ATTEMPT,
        id=id,
        payment_id=payment_id,
        status=PaymentStatus.PROCESSING,
        operation=operation,
        first=first,
    )
    return begun[0] if begun else None


def record_result(
    id: UUID,
    outcome: str,
    code: str | None = None,
    amount: Decimal | None = None,
    currency: str | None = None,
) -> None:
    """Records the result of a call; of a decision, also the amount and currency that it names."""
    postgres.rows(RECORD_RESULT, outcome, code, amount, currency, id)


def record_notice(
    id: UUID,
    payment_id: UUID,
    *,
    outcome: str,
    code: str | None,
    amount: Decimal | None,
    currency: str | None,
) -> None:
    """Records a notice of the PSP about a payment. Does nothing if there is no such payment."""
    decision = {"outcome": outcome, "code": code, "amount": amount, "currency": currency}
    postgres.rows(RECORD_NOTICE, id=id, payment_id=payment_id, **decision)


def mark_settled(ids: Sequence[UUID]) -> None:
    """Marks decisions as settled: each was applied to its payment, or led to a review.

    The caller has locked the payments, so no other transaction marks them.
    """
    postgres.rows(MARK_SETTLED, ids=list(ids))


def unsettled(ended_ago: timedelta, limit: int) -> Sequence[PspAttempt]:
    """Returns decisions that are not settled this long after their call ended, oldest first."""
    row = PspAttempt
    query = row.select().where(
        row.outcome.in_(DECISIONS),
        row.settled_at.is_null(),
        row.ended_at < peewee.fn.statement_timestamp() - ended_ago,
    )
    return list(query.order_by(row.ended_at).limit(limit))


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


def count_charges(payment_id: UUID) -> int:
    """Returns the number of charge calls for a payment."""
    query = PspAttempt.select().where(
        PspAttempt.payment_id == payment_id, PspAttempt.operation == PspOperation.CHARGE
    )
    return int(query.count())


def for_payments(payment_ids: Collection[UUID]) -> dict[UUID, list[PspAttempt]]:
    """Returns all charge calls for each payment, and the newest inquiries and notices, oldest first."""
    calls: dict[UUID, list[PspAttempt]] = {id: [] for id in payment_ids}
    for row in postgres.rows(
        CALLS_OF_PAYMENTS,
        payment_ids=list(calls),
        inquiries=INQUIRIES_LIMIT,
        notices=NOTICES_LIMIT,
    ):
        calls[row["payment_id"]].append(PspAttempt(**row))
    return calls


def for_payment(payment_id: UUID) -> Sequence[PspAttempt]:
    """Returns the same calls for one payment."""
    return for_payments([payment_id])[payment_id]


def page(payment_id: UUID, *, limit: int, after: pagination.Cursor | None) -> pagination.Page[PspAttempt]:
    """Returns a page of the calls and notices about one payment, newest first."""
    query = PspAttempt.select().where(PspAttempt.payment_id == payment_id)
    return pagination.newest_page(PspAttempt, [query], limit=limit, after=after)
