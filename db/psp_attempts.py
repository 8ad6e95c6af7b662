"""What the PSP was asked about a payment, when, and what came of it: one row a call, written before it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import pagination, postgres
from db.states import PaymentStatus


class PspOperation(StrEnum):
    """What it can be asked: for the money, or what it knows; or it says something unasked."""

    CHARGE = "charge"
    FIND = "find"
    NOTICE = "notice"


class PspResult(StrEnum):
    """What can come of a call."""

    CHARGED = "charged"
    DECLINED = "declined"
    # It knows no order under this reference.
    NOT_FOUND = "not_found"
    # It said that it could not do it, or was never reached: nothing of this call is still under way.
    UNAVAILABLE = "unavailable"
    # What became of the call is not known, and may still become something.
    NO_ANSWER = "no_answer"


class PspAttempt(postgres.Model):
    """One call. Without a result it is under way, or its process died over it."""

    id = peewee.UUIDField(primary_key=True)
    payment_id = peewee.UUIDField()
    operation = peewee.CharField(50)
    reference = peewee.CharField(255)
    outcome = peewee.CharField(
        50,
        null=True,
    )
    code = peewee.CharField(100, null=True)
    # What it decided over, where it says so, whether or not that fits our own money.
    amount = postgres.AnyDecimal(null=True)
    currency = peewee.TextField(null=True)
    # When a decision was held against the payment: settled, or given a review.
    settled_at = DateTimeTZField(null=True)
    created_at = DateTimeTZField()
    ended_at = DateTimeTZField(null=True)

    class Meta:
        schema = "payments"
        table_name = "psp_attempts"


@dataclass(frozen=True)
class OrderTerms:
    """A call that was written down, and the order that it is about: the same at every call for a payment."""

    amount: Decimal
    currency: str
    metadata: dict[str, Any]


def begin(
    id: UUID, payment_id: UUID, operation: PspOperation, reference: str, *, first: bool = False
) -> OrderTerms | None:
    """Writes down that the PSP is about to be asked; None when the payment is not `processing` any more, or
    this would not be the `first` call.

    Under the payment's lock: whoever fails a payment by hand sees this call, or this call sees that.
    """
    only = " WHERE NOT EXISTS (SELECT FROM payments.psp_attempts a WHERE a.payment_id = payment.id)"
    begun = postgres.rows(
        "WITH payment AS (SELECT id, amount, currency, coalesce(ordered_metadata, metadata) AS metadata"
        " FROM payments.payments WHERE id = %s AND status = %s FOR NO KEY UPDATE),"
        " begun AS (INSERT INTO payments.psp_attempts (id, payment_id, operation, reference)"
        f" SELECT %s, id, %s, %s FROM payment{only if first else ''}"
        # A process died over it, and this is the next one.
        " ON CONFLICT (id) DO UPDATE SET operation = excluded.operation RETURNING id)"
        " SELECT amount, currency, metadata FROM payment WHERE EXISTS (SELECT FROM begun)",
        payment_id,
        PaymentStatus.PROCESSING,
        id,
        operation,
        reference,
    )
    return OrderTerms(**begun[0]) if begun else None


def record_result(
    id: UUID,
    result: PspResult,
    code: str | None = None,
    amount: Decimal | None = None,
    currency: str | None = None,
) -> None:
    """Writes down what came of it; of a decision, also what it was over."""
    postgres.rows(
        "UPDATE payments.psp_attempts SET outcome = %s, code = %s, amount = %s, currency = %s,"
        " ended_at = clock_timestamp() WHERE id = %s",
        result,
        code,
        amount,
        currency,
        id,
    )


def record_notice(
    id: UUID,
    payment_id: UUID,
    reference: str,
    result: PspResult,
    *,
    code: str | None,
    amount: Decimal | None,
    currency: str | None,
) -> None:
    """Writes down what the PSP said unasked about a payment; nothing, where there is no such payment."""
    postgres.rows(
        "INSERT INTO payments.psp_attempts"
        " (id, payment_id, operation, reference, outcome, code, amount, currency, ended_at)"
        " SELECT %s, p.id, %s, %s, %s, %s, %s, %s, clock_timestamp() FROM payments.payments p"
        " WHERE p.id = %s",
        *(id, PspOperation.NOTICE, reference, result, code, amount, currency, payment_id),
    )


def mark_settled(id: UUID) -> None:
    """Notes that this decision was held against the payment: nobody needs to remember it any more."""
    postgres.rows(
        "UPDATE payments.psp_attempts SET settled_at = clock_timestamp()"
        " WHERE id = %s AND settled_at IS NULL",
        id,
    )


def unsettled(ended_ago: timedelta, limit: int) -> Sequence[PspAttempt]:
    """Decisions that were not held against their payment within this time, the oldest first."""
    row = PspAttempt
    query = row.select().where(
        row.outcome.in_([PspResult.CHARGED, PspResult.DECLINED]),
        row.settled_at.is_null(),
        row.ended_at < peewee.fn.statement_timestamp() - ended_ago,
    )
    return list(query.order_by(row.ended_at).limit(limit))


def payments_with_unsettled(payment_ids: Collection[UUID]) -> set[UUID]:
    """Which of these payments have a decision that was not held against them yet."""
    row = PspAttempt
    query = row.select(row.payment_id).where(
        row.payment_id.in_(list(payment_ids)),
        row.outcome.in_([PspResult.CHARGED, PspResult.DECLINED]),
        row.settled_at.is_null(),
    )
    return {found.payment_id for found in query.distinct()}


def find_result(id: UUID) -> PspResult | None:
    """What came of a call; None as long as it is under way, or not begun."""
    found = PspAttempt.get_or_none(PspAttempt.id == id)
    return PspResult(found.outcome) if found is not None and found.outcome else None


def count_charges(payment_id: UUID) -> int:
    """How often the PSP was asked for this money."""
    query = PspAttempt.select().where(
        PspAttempt.payment_id == payment_id, PspAttempt.operation == PspOperation.CHARGE
    )
    return int(query.count())


# What is known of a payment that has been in doubt for weeks fits on a page: the last questions are enough.
INQUIRIES_LIMIT = 20
# And the last notices, if a provider repeats them.
NOTICES_LIMIT = 20


def for_payment(payment_id: UUID) -> Sequence[PspAttempt]:
    """The calls for one payment, oldest first: all for the money, the last questions and notices."""
    query = PspAttempt.select().where(PspAttempt.payment_id == payment_id)
    newest = query.order_by(PspAttempt.created_at.desc(), PspAttempt.id.desc())
    known = [
        *query.where(PspAttempt.operation == PspOperation.CHARGE),
        *newest.where(PspAttempt.operation == PspOperation.FIND).limit(INQUIRIES_LIMIT),
        *newest.where(PspAttempt.operation == PspOperation.NOTICE).limit(NOTICES_LIMIT),
    ]
    return sorted(known, key=lambda attempt: (attempt.created_at, attempt.id))


def page(payment_id: UUID, *, limit: int, after: pagination.Cursor | None) -> pagination.Page[PspAttempt]:
    """The newest calls for one payment, from `after` on."""
    query = PspAttempt.select().where(PspAttempt.payment_id == payment_id)
    return pagination.newest_page(PspAttempt, [query], limit=limit, after=after)
