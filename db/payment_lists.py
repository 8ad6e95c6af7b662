"""Pages of payments and of their history: what a caller may see, which filters apply, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import peewee
from peewee import SQL

from db import pagination, reviews, shown_payments
from db.payments import Payment, PaymentTransaction, indexed_status
from db.shown_payments import (
    NEWEST_PAYMENTS,
    NEWEST_PAYMENTS_OF_CUSTOMER,
    NEWEST_PAYMENTS_OF_VENDOR,
    ShownPayment,
)
from db.states import PaymentStatus

# A column of a payment that names a user, and the user's id.
Party = tuple[str, UUID]


@dataclass(frozen=True)
class Visibility:
    """The payments that a caller may see: those that match any field that is set, all when none is set."""

    user_id: UUID | None = None
    payee_id: UUID | None = None
    addressee_id: UUID | None = None

    def includes(self, payment: Payment | ShownPayment) -> bool:
        """Tells whether a payment is visible."""
        parties = self.parties
        return not parties or any(getattr(payment, column) == user_id for column, user_id in parties)

    def conditions(self, model: type[Payment] | type[PaymentTransaction]) -> list[peewee.Node]:
        """Returns one condition for each field that is set. An index in page order supports each of them."""
        return [getattr(model, column) == user_id for column, user_id in self.parties] or [SQL("true")]

    @property
    def parties(self) -> list[Party]:
        """The fields that are set; each has the name of its column."""
        parties = (
            ("user_id", self.user_id),
            ("payee_id", self.payee_id),
            ("addressee_id", self.addressee_id),
        )
        return [(column, user_id) for column, user_id in parties if user_id]


@dataclass(frozen=True)
class PaymentFilter:
    """A filter: every field that is set must match. `from_` is inclusive, `to` exclusive."""

    status: str | None = None
    type: str | None = None
    currency: str | None = None
    from_: datetime | None = None
    to: datetime | None = None
    request_id: UUID | None = None
    needs_review: bool | None = None

    def conditions(self) -> list[peewee.Node]:
        """Returns the filter as conditions of a WHERE clause."""
        return pagination.conditions(
            (self.status, _has_status(self.status)),
            (self.type, Payment.type == self.type),
            (self.currency, Payment.currency == self.currency),
            (self.from_, Payment.created_at >= self.from_),
            (self.to, Payment.created_at < self.to),
            (self.request_id, Payment.request_id == self.request_id),
            (
                self.needs_review,
                reviews.has_open_review(Payment.id)
                if self.needs_review
                else ~reviews.has_open_review(Payment.id),
            ),
        )


# The payments that are `pending` or `processing`, and the requests with this status: no index mentions the
# status of every payment, so that an update of a payment need not write to one.
IN_PROGRESS = """
    (SELECT payment_id FROM payments.payments_in_progress
    UNION ALL SELECT id FROM payments.payments WHERE indexed_status = %s)
"""


def _has_status(status: str | None) -> peewee.Node:
    """Returns a condition that an index supports, unless most payments have the status."""
    if status == PaymentStatus.COMPLETED:
        return Payment.status == status
    if status in (PaymentStatus.PENDING, PaymentStatus.PROCESSING):
        return (Payment.status == status) & Payment.id.in_(SQL(IN_PROGRESS, [status]))
    return indexed_status == status


def payments(
    visibility: Visibility, filters: PaymentFilter, *, limit: int, after: pagination.Cursor | None
) -> pagination.Page[ShownPayment]:
    """Returns a page of the visible payments that match the filter, newest first."""
    if filters == PaymentFilter():
        return pagination.page(_newest(visibility, count=limit + 1, after=after), limit)
    queries: list[Any] = [
        Payment.select().where(visible, *filters.conditions()) for visible in visibility.conditions(Payment)
    ]
    newest = pagination.newest(Payment, queries, count=limit + 1, after=after)
    found = {row.id: row for row in shown_payments.of(newest)}
    return pagination.page(list(found.values()), limit)


def _newest(visibility: Visibility, *, count: int, after: pagination.Cursor | None) -> Sequence[ShownPayment]:
    if visibility.user_id:
        return shown_payments.newest(
            NEWEST_PAYMENTS_OF_CUSTOMER, count=count, after=after, user_id=visibility.user_id
        )
    if visibility.payee_id:
        return shown_payments.newest(
            NEWEST_PAYMENTS_OF_VENDOR, count=count, after=after, user_id=visibility.payee_id
        )
    return shown_payments.newest(NEWEST_PAYMENTS, count=count, after=after)


def transactions(
    visibility: Visibility,
    *,
    payment_id: UUID | None,
    from_: datetime | None,
    to: datetime | None,
    limit: int,
    after: pagination.Cursor | None,
) -> pagination.Page[PaymentTransaction]:
    """Returns a page of the status changes of visible payments, newest first.

    `from_` is inclusive, `to` exclusive.
    """
    row = PaymentTransaction
    conditions = pagination.conditions(
        (payment_id, row.payment_id == payment_id),
        (from_, row.created_at >= from_),
        (to, row.created_at < to),
    )
    queries: list[Any] = [row.select().where(visible, *conditions) for visible in visibility.conditions(row)]
    return pagination.newest_page(row, queries, limit=limit, after=after)
