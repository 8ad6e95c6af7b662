"""Payments as callers see them: which payments, with which columns, in pages, and when they change."""

from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from uuid import UUID

import peewee
from peewee import SQL

from db import pagination, postgres, reviews
from db.pagination import Cursor, Page
from db.payments import Payment, PaymentTransaction, indexed_status
from db.prepared import Statement
from db.states import PaymentStatus

# The columns of a payment that a response needs.
_COLUMNS = [name for name in cast(Any, Payment)._meta.columns if name != "ordered_metadata"]

_UNFAILABLE_CAUSES = ", ".join(f"'{cause}'" for cause in sorted(reviews.UNFAILABLE_CAUSES))
# What a response says beyond the columns. Scalar subqueries instead of EXISTS, for which PostgreSQL might
# read all vendors, or all reviews, first.
_MORE = {
    "vendor_is_active": """CASE WHEN p.type = 'initiate'
        THEN (SELECT u.active AND u.role = 'VENDOR' FROM auth.users u WHERE u.id = p.user_id) END""",
    "cannot_fail": f"""CASE WHEN p.type = 'payment' AND p.status = 'processing'
        THEN (SELECT true FROM payments.payment_reviews r
            WHERE r.payment_id = p.id AND r.cause IN ({_UNFAILABLE_CAUSES})
                AND r.resolved_at IS NULL LIMIT 1) END""",
}
SHOWN = ", ".join([*(f"p.{name}" for name in _COLUMNS), *(f"{sql} AS {name}" for name, sql in _MORE.items())])

if TYPE_CHECKING:

    class ShownPayment(Payment):
        """A payment as a response needs it."""

        # Whether the vendor of a request has an active account; None for a payment.
        vendor_is_active: bool | None
        # True if an open review has one of `reviews.UNFAILABLE_CAUSES`: `fail` is then not offered.
        cannot_fail: bool | None

else:
    # At run time a named tuple with the columns of the model: a model takes fifteen times as long to build.
    ShownPayment = namedtuple("ShownPayment", [*_COLUMNS, *_MORE])

FIND_PAYMENT = Statement("find_payment", f"SELECT {SHOWN} FROM payments.payments p WHERE p.id = %(id)s::uuid")

NEWEST_PAYMENTS = Statement(
    "newest_payments",
    f"""
    SELECT {SHOWN} FROM payments.payments p
    WHERE (p.created_at, p.id) < (%(before)s::timestamptz, %(before_id)s::uuid)
    ORDER BY p.created_at DESC, p.id DESC LIMIT %(count)s::bigint
    """,
)
NEWEST_PAYMENTS_OF_VENDOR = Statement(
    "newest_payments_of_vendor",
    f"""
    SELECT {SHOWN} FROM payments.payments p
    WHERE p.payee_id = %(user_id)s::uuid
        AND (p.created_at, p.id) < (%(before)s::timestamptz, %(before_id)s::uuid)
    ORDER BY p.created_at DESC, p.id DESC LIMIT %(count)s::bigint
    """,
)
# Each half reads along its own index, and no row is in both.
NEWEST_PAYMENTS_OF_CUSTOMER = Statement(
    "newest_payments_of_customer",
    f"""
    SELECT {SHOWN} FROM (
        (SELECT * FROM payments.payments
        WHERE user_id = %(user_id)s::uuid
            AND (created_at, id) < (%(before)s::timestamptz, %(before_id)s::uuid)
        ORDER BY created_at DESC, id DESC LIMIT %(count)s::bigint)
        UNION ALL
        (SELECT * FROM payments.payments
        WHERE addressee_id = %(user_id)s AND user_id <> %(user_id)s
            AND (created_at, id) < (%(before)s, %(before_id)s)
        ORDER BY created_at DESC, id DESC LIMIT %(count)s)
    ) p ORDER BY p.created_at DESC, p.id DESC LIMIT %(count)s
    """,
)

# A column of a payment that names a user, and the user's id.
Party = tuple[str, UUID]


@dataclass(frozen=True)
class Visibility:
    """The payments that a caller may see: those that match any field that is set, all when none is set."""

    user_id: UUID | None = None
    payee_id: UUID | None = None
    addressee_id: UUID | None = None

    def includes(self, payment: Payment | ShownPayment) -> bool:
        """Returns whether a payment is visible."""
        parties = self.parties
        return not parties or any(getattr(payment, column) == user_id for column, user_id in parties)

    def conditions(self, model: type[Payment] | type[PaymentTransaction]) -> list[peewee.Node]:
        """Returns one condition for each field that is set. An index in page order supports each of them."""
        return [getattr(model, column) == user_id for column, user_id in self.parties] or [SQL("true")]

    @property
    def parties(self) -> list[Party]:
        """Returns the fields that are set; each has the name of its column."""
        return [(column, user_id) for column, user_id in vars(self).items() if user_id]


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


def find(id: UUID) -> ShownPayment | None:
    """Returns the payment or request with this id."""
    return next(iter(_read(FIND_PAYMENT, id=id)), None)


def page(
    visibility: Visibility, filters: PaymentFilter, *, limit: int, after: Cursor | None
) -> Page[ShownPayment]:
    """Returns a page of the visible payments that match the filter, newest first."""
    if filters == PaymentFilter():
        return pagination.page(_newest(visibility, count=limit + 1, after=after), limit)
    queries: list[Any] = [
        Payment.select().where(visible, *filters.conditions()) for visible in visibility.conditions(Payment)
    ]
    newest = pagination.newest(Payment, queries, count=limit + 1, after=after)
    query = peewee.Select([newest.alias("p")], [SQL(SHOWN)]).order_by(SQL("p.created_at DESC, p.id DESC"))
    rows = cast(Any, postgres.database).execute(query).fetchall()
    found = {row.id: row for row in (ShownPayment(*row) for row in rows)}
    return pagination.page(list(found.values()), limit)


# Greater than every id: the first page begins here.
_LAST_ID = UUID(int=2**128 - 1)


def _newest(visibility: Visibility, *, count: int, after: Cursor | None) -> list[ShownPayment]:
    """Returns the newest visible payments by a prepared statement, without a filter."""
    before, before_id = (after.created_at, after.id) if after else ("infinity", _LAST_ID)
    place: dict[str, Any] = {"before": before, "before_id": before_id, "count": count}
    if user_id := visibility.user_id:
        return _read(NEWEST_PAYMENTS_OF_CUSTOMER, user_id=user_id, **place)
    if payee_id := visibility.payee_id:
        return _read(NEWEST_PAYMENTS_OF_VENDOR, user_id=payee_id, **place)
    return _read(NEWEST_PAYMENTS, **place)


def _read(statement: Statement, **named: Any) -> list[ShownPayment]:
    # By the order of the columns, which takes half the time of reading them by name.
    return [ShownPayment(*row) for row in postgres.database.execute_prepared(statement, named).fetchall()]


# The payments that are `pending` or `processing`, and the requests with this status. No index has the status
# of every payment, so that a transition of a payment writes to no index.
IN_PROGRESS = """
    (SELECT payment_id FROM payments.payments_in_progress
    UNION ALL SELECT id FROM payments.payments WHERE indexed_status = %s)
"""


def _has_status(status: str | None) -> peewee.Node:
    """Returns a condition on the status which an index supports, unless most payments have the status."""
    if status == PaymentStatus.COMPLETED:
        return Payment.status == status
    if status in (PaymentStatus.PENDING, PaymentStatus.PROCESSING):
        return (Payment.status == status) & Payment.id.in_(SQL(IN_PROGRESS, [status]))
    return indexed_status == status


def transactions(
    visibility: Visibility,
    *,
    payment_id: UUID | None,
    from_: datetime | None,
    to: datetime | None,
    limit: int,
    after: Cursor | None,
) -> Page[PaymentTransaction]:
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


class Watched(NamedTuple):
    """A payment that a request waits for, and the session of the caller."""

    payment_id: UUID
    session_id: UUID


class Watch(NamedTuple):
    """The version of a payment, and the role of the caller; None if the session or the account has ended."""

    version: int
    role: str | None


# Not prepared: a plan that was made for few payments would read whole tables for many.
FIND_WATCHED = """
    SELECT p.id, watched.session_id, p.version, u.role
    FROM unnest(%s::uuid[], %s::uuid[]) AS watched (payment_id, session_id)
    JOIN payments.payments p ON p.id = watched.payment_id
    LEFT JOIN auth.sessions s ON s.id = watched.session_id AND s.ended_at IS NULL
    LEFT JOIN auth.users u ON u.id = s.user_id AND u.active
"""


def find_watched(watched: Sequence[Watched]) -> dict[Watched, Watch]:
    """Returns the present state of each watched payment, in one statement."""
    found = postgres.rows(
        FIND_WATCHED, [one.payment_id for one in watched], [one.session_id for one in watched]
    )
    return {Watched(row["id"], row["session_id"]): Watch(row["version"], row["role"]) for row in found}
