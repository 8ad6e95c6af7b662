"""Payments, payment requests, and the history of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID

import peewee
from peewee import SQL
from playhouse.postgres_ext import DateTimeTZField

from db import page as pages
from db import postgres
from db.states import Status


class Payment(postgres.Model):
    """A payment, or a request for one. Its status is changed by `change` alone."""

    id = peewee.UUIDField(primary_key=True, constraints=postgres.NEW_ID)
    user_id = peewee.UUIDField(constraints=[SQL("REFERENCES auth.users (id)")])
    type = peewee.CharField(50, constraints=[peewee.Check("type IN ('initiate', 'payment')")])
    status = peewee.CharField(
        50,
        constraints=[
            peewee.Check(
                "status IN ('pending', 'initiated', 'processing', 'completed', 'failed', 'cancelled')"
            )
        ],
    )
    amount = peewee.DecimalField(10, 2, constraints=[peewee.Check("amount > 0")])
    currency = peewee.CharField(
        3, constraints=[SQL("DEFAULT 'USD'"), peewee.Check("currency ~ '^[A-Z]{3}$'")]
    )
    description = peewee.TextField(null=True)
    metadata = peewee.JSONField(constraints=[SQL("DEFAULT '{}'::jsonb")])
    request_id = peewee.UUIDField(null=True, constraints=[SQL("REFERENCES payments.payments (id)")])
    payee_id = peewee.UUIDField(null=True, constraints=[SQL("REFERENCES auth.users (id)")])
    customer_email = peewee.CharField(255, null=True)
    failure_code = peewee.CharField(100, null=True)
    failure_message = peewee.TextField(null=True)
    version = peewee.IntegerField(constraints=[SQL("DEFAULT 1")])
    created_at = DateTimeTZField(constraints=postgres.CLOCK)
    updated_at = DateTimeTZField(constraints=postgres.CLOCK)

    class Meta:
        schema = "payments"
        table_name = "payments"
        constraints = [
            peewee.Check("type = 'initiate' OR status <> 'initiated'"),
            peewee.Check("type = 'payment' OR request_id IS NULL"),
            peewee.Check("type = 'initiate' OR customer_email IS NULL"),
            peewee.Check("status = 'failed' OR failure_code IS NULL"),
        ]


for _index in (
    "CREATE UNIQUE INDEX payments_one_live_per_request ON payments.payments (request_id)"
    " WHERE request_id IS NOT NULL AND status IN ('pending', 'processing', 'completed')",
    "CREATE INDEX payments_created_at ON payments.payments (created_at, id)",
    "CREATE INDEX payments_user_id ON payments.payments (user_id, created_at, id)",
    "CREATE INDEX payments_payee_id ON payments.payments (payee_id, created_at, id)"
    " WHERE payee_id IS NOT NULL",
    "CREATE INDEX payments_customer_email ON payments.payments (lower(customer_email), created_at, id)"
    " WHERE customer_email IS NOT NULL",
    "CREATE INDEX payments_request_id ON payments.payments (request_id) WHERE request_id IS NOT NULL",
    "CREATE INDEX payments_status ON payments.payments (status, created_at, id)",
):
    Payment.add_index(SQL(_index))


class PaymentTransaction(postgres.Model):
    """One change of a payment's status, its creation included."""

    id = peewee.UUIDField(primary_key=True, constraints=postgres.NEW_ID)
    payment_id = peewee.UUIDField(constraints=[SQL("REFERENCES payments.payments (id)")])
    transaction_type = peewee.CharField(50)
    amount = peewee.DecimalField(10, 2)
    currency = peewee.CharField(3)
    from_status = peewee.CharField(50, null=True)
    status = peewee.CharField(50)
    reason = peewee.TextField(null=True)
    actor_id = peewee.UUIDField(null=True, constraints=[SQL("REFERENCES auth.users (id)")])
    metadata = peewee.JSONField(constraints=[SQL("DEFAULT '{}'::jsonb")])
    created_at = DateTimeTZField(constraints=postgres.CLOCK)

    class Meta:
        schema = "payments"
        table_name = "payment_transactions"


for _columns in ("payment_id, created_at, id", "created_at, id"):
    PaymentTransaction.add_index(
        SQL(
            f"CREATE INDEX payment_transactions_{_columns.split(',')[0]}"
            f" ON payments.payment_transactions ({_columns})"
        )
    )


@dataclass(frozen=True)
class Seen:
    """Whose payments: any of these may match; none of them set means all payments there are."""

    user_id: UUID | None = None
    payee_id: UUID | None = None
    customer_email: str | None = None

    def branches(self) -> list[peewee.Node]:
        """One condition each, each with an index in the order of the pages behind it."""
        found: list[peewee.Node] = []
        if self.user_id:
            found.append(Payment.user_id == self.user_id)
        if self.payee_id:
            found.append(Payment.payee_id == self.payee_id)
        if self.customer_email:
            found.append(peewee.fn.lower(Payment.customer_email) == peewee.fn.lower(self.customer_email))
        return found or [SQL("true")]


@dataclass(frozen=True)
class Filter:
    """Which of the seen payments: every one that is set must match. `from_` is included, `to` is not."""

    status: str | None = None
    type: str | None = None
    currency: str | None = None
    from_: datetime | None = None
    to: datetime | None = None
    request_id: UUID | None = None

    def conditions(self) -> list[peewee.Node]:
        """As the WHERE clause has them."""
        pairs = (
            (self.status, Payment.status == self.status),
            (self.type, Payment.type == self.type),
            (self.currency, Payment.currency == self.currency),
            (self.from_, Payment.created_at >= self.from_),
            (self.to, Payment.created_at < self.to),
            (self.request_id, Payment.request_id == self.request_id),
        )
        return [condition for value, condition in pairs if value is not None]


def add(**columns: Any) -> Payment:
    """A new row of `payments`."""
    return postgres.returned(Payment.insert(**columns), Payment)[0]


def seen(id: UUID, by: Seen) -> Payment | None:
    """The payment or request with this id, if it is one of theirs."""
    theirs = reduce(or_, by.branches())
    return Payment.get_or_none(Payment.id == id, theirs)


def get(id: UUID) -> Payment | None:
    """The payment or request with this id."""
    return Payment.get_or_none(Payment.id == id)


def locked(id: UUID) -> Payment | None:
    """The same, its row locked to the end of the transaction: nobody else moves it meanwhile.

    NO KEY: a payment that refers to the request may still be inserted by others without waiting for us.
    """
    query = Payment.select().where(Payment.id == id)
    found: Payment | None = query.for_update("FOR NO KEY UPDATE").first()  # type: ignore[arg-type]
    return found


def change(payment: Payment, to: Status, *, failure: tuple[str, str] | None = None) -> Payment:
    """Moves a locked payment to another status, one version on. The law is the caller's to ask."""
    code, message = failure or (None, None)
    update = Payment.update(
        status=to,
        failure_code=code,
        failure_message=message,
        version=Payment.version + 1,
        updated_at=peewee.fn.clock_timestamp(),
    ).where(Payment.id == payment.id, Payment.status == payment.status, Payment.version == payment.version)
    changed = postgres.returned(update, Payment)
    if not changed:
        raise RuntimeError(f"payment {payment.id} moved under its lock")
    return changed[0]


def add_transaction(
    payment: Payment, *, type: str, from_status: str | None, reason: str | None, actor_id: UUID | None
) -> None:
    """Writes the history: how the payment came to the status that it now has."""
    PaymentTransaction.insert(
        payment_id=payment.id,
        transaction_type=type,
        amount=payment.amount,
        currency=payment.currency,
        from_status=from_status,
        status=payment.status,
        reason=reason,
        actor_id=actor_id,
    ).execute()


def history(payment_id: UUID) -> Sequence[PaymentTransaction]:
    """Every change of one payment, oldest first."""
    moved = PaymentTransaction.select().where(PaymentTransaction.payment_id == payment_id)
    return list(moved.order_by(PaymentTransaction.created_at, PaymentTransaction.id))


def page(seen: Seen, which: Filter, *, limit: int, after: pages.Place | None) -> pages.Page[Payment]:
    """The newest payments that are seen and match, from `after` on.

    One query a branch, each a walk along its own index: an OR between them would read and sort everything.
    """
    found: dict[UUID, Payment] = {}
    for branch in seen.branches():
        query = Payment.select().where(branch, *which.conditions())
        if after:
            place = peewee.Tuple(after.created_at, after.id)
            query = query.where(peewee.Tuple(Payment.created_at, Payment.id) < place)
        query = query.order_by(Payment.created_at.desc(), Payment.id.desc()).limit(limit + 1)
        found |= {payment.id: payment for payment in query}
    newest = sorted(found.values(), key=lambda payment: (payment.created_at, payment.id), reverse=True)
    return pages.cut(newest[: limit + 1], limit)
