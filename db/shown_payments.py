"""Payments as responses show them: one statement reads them, with whether a request's vendor can be paid."""

from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, cast
from uuid import UUID

from peewee import SQL, Select

from db import postgres
from db.pagination import Cursor
from db.prepared import Statement


class ShownPayment(NamedTuple):
    """The columns of a payment that a response needs, in the order of the statements."""

    id: UUID
    user_id: UUID
    type: str
    status: str
    amount: Decimal
    currency: str
    description: str | None
    metadata: dict[str, Any]
    request_id: UUID | None
    payee_id: UUID | None
    customer_email: str | None
    addressee_id: UUID | None
    failure_code: str | None
    failure_message: str | None
    version: int
    created_at: datetime
    updated_at: datetime
    # Whether the vendor of a request has an active account; None for a payment.
    vendor_is_active: bool | None


# A scalar subquery and not EXISTS, for which PostgreSQL may read all vendors first.
SHOWN = """p.id, p.user_id, p.type, p.status, p.amount, p.currency, p.description, p.metadata, p.request_id,
    p.payee_id, p.customer_email, p.addressee_id, p.failure_code, p.failure_message, p.version,
    p.created_at, p.updated_at, CASE WHEN p.type = 'initiate'
        THEN (SELECT u.active AND u.role = 'VENDOR' FROM auth.users u WHERE u.id = p.user_id) END"""

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

# After every row: the first page begins here.
_LAST_ID = UUID(int=2**128 - 1)


def find(id: UUID) -> ShownPayment | None:
    """Returns the payment or request with this id."""
    return next(iter(postgres.records(FIND_PAYMENT, ShownPayment, id=id)), None)


def of(query: Any) -> list[ShownPayment]:
    """Returns the payments that a query of their rows finds, newest first."""
    found = Select([query.alias("p")], [SQL(SHOWN)]).order_by(SQL("p.created_at DESC, p.id DESC"))
    return [ShownPayment(*row) for row in cast(Any, postgres.database).execute(found).fetchall()]


def newest(statement: Statement, *, count: int, after: Cursor | None, **parties: UUID) -> list[ShownPayment]:
    """Returns the newest payments that one of the statements finds after a cursor."""
    before, before_id = (after.created_at, after.id) if after else ("infinity", _LAST_ID)
    return postgres.records(
        statement, ShownPayment, before=before, before_id=before_id, count=count, **parties
    )
