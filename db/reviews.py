"""Reviews: why a person has to look at a payment, since when, and how it was resolved."""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

import peewee
from peewee import SQL
from playhouse.postgres_ext import DateTimeTZField
from psycopg2.extras import Json

from db import postgres
from db.states import TERMINAL

# How many reviews of one payment are shown.
REVIEWS_LIMIT = 100


class ReviewCause(StrEnum):
    """What a person has to look at."""

    # It does not even say whether it knows the order. Disproved by its next answer.
    PSP_SILENT = "psp_silent"
    # The PSP charged what had failed, was cancelled, or was never begun.
    CHARGED_AFTER_END = "charged_after_end"
    DECLINED_AFTER_COMPLETION = "declined_after_completion"
    # The PSP decided about another amount or currency.
    AMOUNT_DIFFERS = "amount_differs"
    # The statement had a decision while the payment had none. Disproved when the payment comes to the same.
    STATEMENT_CHARGED = "statement_charged"
    STATEMENT_DECLINED = "statement_declined"
    # Whatever else the statement has otherwise, charged twice included.
    STATEMENT_DIFFERS = "statement_differs"
    # A request left `processing` before its payment ended.
    REQUEST_MOVED = "request_moved"
    # Written before causes had names.
    OTHER = "other"


# What explains for ever that the PSP's ledger and a payment differ, also after it was resolved.
MONEY_CAUSES = frozenset(ReviewCause) - {ReviewCause.PSP_SILENT, ReviewCause.REQUEST_MOVED}


class PaymentReview(postgres.Model):
    """One review: open until it has a resolution."""

    id = peewee.UUIDField(primary_key=True)
    payment_id = peewee.UUIDField()
    cause = peewee.CharField(
        50,
    )
    reason = peewee.TextField()
    opened_at = DateTimeTZField()
    resolved_at = DateTimeTZField(null=True)
    # Nobody, where the cause was disproved.
    resolved_by = peewee.UUIDField(null=True)
    resolution = peewee.TextField(null=True)

    class Meta:
        schema = "payments"
        table_name = "payment_reviews"


def open_reviews(found: Sequence[tuple[UUID, ReviewCause, str]]) -> list[PaymentReview]:
    """Opens reviews (payment, cause, reason); those that were not open yet.

    What was resolved comes back while the payment has not ended. Of one that has ended, the same reason is
    asked once: the fact does not change by being heard again.
    """
    opened = postgres.rows(
        "INSERT INTO payments.payment_reviews (payment_id, cause, reason)"
        " SELECT p.id, n.cause, n.reason"
        " FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS n (payment_id, cause, reason)"
        " JOIN payments.payments p ON p.id = n.payment_id"
        " WHERE NOT EXISTS (SELECT FROM payments.payment_reviews r WHERE r.payment_id = p.id"
        " AND r.reason = n.reason AND (r.resolved_at IS NULL OR p.status = ANY(%s)))"
        # Locked and looked at again: what the payment has come to meanwhile needs nobody.
        " AND (n.cause, p.status) NOT IN (('statement_charged', 'completed'),"
        " ('statement_declined', 'failed'))"
        " ORDER BY p.id, n.reason FOR SHARE OF p ON CONFLICT DO NOTHING RETURNING *",
        [payment_id for payment_id, _, _ in found],
        [cause for _, cause, _ in found],
        [reason for _, _, reason in found],
        list(TERMINAL),
    )
    return [PaymentReview(**row) for row in opened]


def resolve(
    payment_id: UUID,
    resolutions: Mapping[ReviewCause, str],
    *,
    by: UUID | None,
    only: Collection[UUID] | None = None,
) -> list[PaymentReview]:
    """Resolves the payment's open reviews with one of these causes, each with the cause's resolution, or
    `only` those of them with these ids; which they were."""
    resolved = postgres.rows(
        "UPDATE payments.payment_reviews SET resolved_at = clock_timestamp(), resolved_by = %s,"
        " resolution = %s::jsonb ->> cause WHERE payment_id = %s AND resolved_at IS NULL AND cause = ANY(%s)"
        " AND (%s OR id = ANY(%s::uuid[])) RETURNING *",
        by,
        Json(dict(resolutions)),
        payment_id,
        list(resolutions),
        only is None,
        list(only or ()),
    )
    return sorted((PaymentReview(**row) for row in resolved), key=lambda it: (it.opened_at, it.id))


def is_open(payment_id: UUID, causes: Collection[ReviewCause]) -> bool:
    """Whether the payment has an open review with one of these causes."""
    row = PaymentReview
    query = row.select().where(
        row.payment_id == payment_id, row.resolved_at.is_null(), row.cause.in_(list(causes))
    )
    return bool(query.exists())


def for_payment(payment_id: UUID) -> Sequence[PaymentReview]:
    """The reviews of one payment, the oldest first; of very many, the newest."""
    row = PaymentReview
    newest = row.select().where(row.payment_id == payment_id).order_by(row.opened_at.desc(), row.id.desc())
    return list(newest.limit(REVIEWS_LIMIT))[::-1]


def has_open_review(payment_id: peewee.Node) -> Any:
    """Whether the payment with this id has an open review, as a condition."""
    row = PaymentReview
    return peewee.fn.EXISTS(
        row.select(SQL("1")).where(row.payment_id == payment_id, row.resolved_at.is_null())
    )


def explained_sql(payment_id: str, causes: frozenset[ReviewCause] = MONEY_CAUSES) -> str:
    """An SQL condition: a review with one of these causes, open or resolved, explains why the payment with
    this id (an expression, such as `p.id`) is not as it should be."""
    listed = ", ".join(f"'{cause}'" for cause in sorted(causes))
    return (
        "EXISTS (SELECT FROM payments.payment_reviews review"
        f" WHERE review.payment_id = {payment_id} AND review.cause IN ({listed}))"
    )


def count_open() -> int:
    """How many payments have an open review."""
    [found] = postgres.rows(
        "SELECT count(DISTINCT payment_id) AS many FROM payments.payment_reviews WHERE resolved_at IS NULL"
    )
    return int(found["many"])
