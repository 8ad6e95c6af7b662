"""Reviews of payments: the cause, when the review was opened, and how it was resolved."""

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

import peewee
from peewee import SQL
from playhouse.postgres_ext import DateTimeTZField

from db import postgres
from db.prepared import Statement
from db.states import TERMINAL

# The number of reviews of one payment that are shown: the newest.
REVIEWS_LIMIT = 100


class ReviewCause(StrEnum):
    """The causes for which a person must review a payment."""

    # The PSP does not answer inquiries either. Its next response resolves the review.
    PSP_SILENT = "psp_silent"
    # The PSP charged a payment that had failed, was cancelled, or was never begun.
    CHARGED_AFTER_END = "charged_after_end"
    DECLINED_AFTER_COMPLETION = "declined_after_completion"
    # The PSP's decision names another amount or currency.
    AMOUNT_DIFFERS = "amount_differs"
    # The statement has a decision, and the payment has none. The review is resolved when the payment gets the
    # same decision.
    STATEMENT_CHARGED = "statement_charged"
    STATEMENT_DECLINED = "statement_declined"
    # The statement differs in another way, for example it has two charges.
    STATEMENT_DIFFERS = "statement_differs"
    # A request left `processing` before its payment ended.
    REQUEST_MOVED = "request_moved"
    # The review was opened before causes were recorded.
    OTHER = "other"


# The causes that explain a difference between the PSP's ledger and a payment, even when the review is
# resolved.
MONEY_CAUSES = frozenset(ReviewCause) - {ReviewCause.PSP_SILENT, ReviewCause.REQUEST_MOVED}
# The causes for which `fail` is not offered for a payment that is `processing`. Of a silent PSP the request
# inquires again, and fails the payment if the PSP answers that it has no order. Where the PSP has charged or
# declined another amount, the request is refused.
UNFAILABLE_CAUSES = frozenset({ReviewCause.PSP_SILENT, ReviewCause.AMOUNT_DIFFERS})


class PaymentReview(postgres.Model, table="payments.payment_reviews"):
    """A review, open until it has a resolution."""

    id = peewee.UUIDField(primary_key=True)
    payment_id = peewee.UUIDField()
    cause = peewee.CharField(50)
    reason = peewee.TextField()
    opened_at = DateTimeTZField()
    resolved_at = DateTimeTZField(null=True)
    # Null when no person resolved the review because its cause was disproved.
    resolved_by = peewee.UUIDField(null=True)
    resolution = peewee.TextField(null=True)


# The condition on cause and status is evaluated again under the lock: a payment that has got the same result
# as the statement in the meantime needs no review.
OPEN_REVIEWS = """
    INSERT INTO payments.payment_reviews (payment_id, cause, reason)
    SELECT p.id, n.cause, n.reason
    FROM unnest(%(payment_ids)s::uuid[], %(causes)s::text[], %(reasons)s::text[])
        AS n (payment_id, cause, reason)
    JOIN payments.payments p ON p.id = n.payment_id
    WHERE NOT EXISTS (
            SELECT FROM payments.payment_reviews r WHERE r.payment_id = p.id AND r.reason = n.reason
                AND (r.resolved_at IS NULL OR p.status = ANY(%(terminal)s)))
        AND (n.cause, p.status) NOT IN (('statement_charged', 'completed'), ('statement_declined', 'failed'))
    ORDER BY p.id, n.reason FOR SHARE OF p
    ON CONFLICT DO NOTHING RETURNING *
"""

RESOLVE_REVIEWS = """
    UPDATE payments.payment_reviews SET resolved_at = clock_timestamp(), resolved_by = %s, resolution = %s
    WHERE payment_id = %s AND resolved_at IS NULL AND (%s OR id = ANY(%s::uuid[]))
    RETURNING *
"""

# Prepared, because every settlement runs it. Mostly it finds nothing.
DISPROVE_REVIEWS = Statement(
    "disprove_reviews",
    """
    UPDATE payments.payment_reviews r SET resolved_at = clock_timestamp(), resolution = d.resolution
    FROM unnest(%(payment_ids)s::uuid[], %(causes)s::text[], %(resolutions)s::text[])
        AS d (payment_id, cause, resolution)
    WHERE r.payment_id = d.payment_id AND r.cause = d.cause AND r.resolved_at IS NULL
    RETURNING r.id, r.payment_id, r.cause, r.reason, r.opened_at, r.resolved_at, r.resolved_by, r.resolution
    """,
)

COUNT_PAYMENTS_IN_REVIEW = """
    SELECT count(DISTINCT payment_id) FROM payments.payment_reviews WHERE resolved_at IS NULL
"""


def open_reviews(found: Sequence[tuple[UUID, ReviewCause, str]]) -> list[PaymentReview]:
    """Opens reviews (payment id, cause, reason) and returns those that were not open yet.

    A review that was resolved opens again while the payment is not terminal. For a terminal payment, the same
    reason opens one review only: the fact does not change when it is reported again.
    """
    opened = postgres.rows(
        OPEN_REVIEWS,
        payment_ids=[payment_id for payment_id, _, _ in found],
        causes=[cause for _, cause, _ in found],
        reasons=[reason for _, _, reason in found],
        terminal=list(TERMINAL),
    )
    return [PaymentReview(**row) for row in opened]


def disprove(disproved: Sequence[tuple[UUID, ReviewCause, str]]) -> list[PaymentReview]:
    """Resolves open reviews (payment id, cause, resolution) without a person; returns them, oldest first.

    The caller has locked the payments.
    """
    resolved = postgres.rows(
        DISPROVE_REVIEWS,
        payment_ids=[payment_id for payment_id, _, _ in disproved],
        causes=[cause for _, cause, _ in disproved],
        resolutions=[resolution for _, _, resolution in disproved],
    )
    return _oldest_first(resolved)


def resolve(
    payment_id: UUID, resolution: str, *, by: UUID | None, only: Collection[UUID] | None = None
) -> list[PaymentReview]:
    """Resolves the payment's open reviews for a person, and returns them, oldest first.

    With `only`, other reviews than those with these ids stay open.
    """
    ids = list(only or ())
    return _oldest_first(postgres.rows(RESOLVE_REVIEWS, by, resolution, payment_id, only is None, ids))


def _oldest_first(rows: Sequence[dict[str, Any]]) -> list[PaymentReview]:
    return sorted((PaymentReview(**row) for row in rows), key=lambda review: (review.opened_at, review.id))


def is_open(payment_id: UUID, causes: Collection[ReviewCause]) -> bool:
    """Returns whether the payment has an open review with one of these causes."""
    row = PaymentReview
    query = row.select().where(
        row.payment_id == payment_id, row.resolved_at.is_null(), row.cause.in_(list(causes))
    )
    return bool(query.exists())


def for_payment(payment_id: UUID) -> Sequence[PaymentReview]:
    """Returns the newest REVIEWS_LIMIT reviews of one payment, oldest first."""
    row = PaymentReview
    newest = row.select().where(row.payment_id == payment_id).order_by(row.opened_at.desc(), row.id.desc())
    return list(newest.limit(REVIEWS_LIMIT))[::-1]


def has_open_review(payment_id: peewee.Node) -> Any:
    """Returns a condition: the payment with this id has an open review."""
    row = PaymentReview
    return peewee.fn.EXISTS(
        row.select(SQL("1")).where(row.payment_id == payment_id, row.resolved_at.is_null())
    )


def count_open() -> int:
    """Returns the number of payments with an open review."""
    return int(postgres.value(COUNT_PAYMENTS_IN_REVIEW))
