"""Payments, payment requests, and the history of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import peewee
from peewee import SQL
from playhouse.postgres_ext import DateTimeTZField

from db import pagination, postgres, reviews
from db.states import PaymentStatus, PaymentType


class Payment(postgres.Model):
    """A payment, or a request for one. Its status is changed by `change` alone."""

    id = peewee.UUIDField(primary_key=True)
    user_id = peewee.UUIDField()
    type = peewee.CharField(50)
    status = peewee.CharField(
        50,
    )
    amount = peewee.DecimalField(10, 2)
    currency = peewee.CharField(3)
    description = peewee.TextField(null=True)
    metadata = peewee.JSONField()
    request_id = peewee.UUIDField(null=True)
    payee_id = peewee.UUIDField(null=True)
    customer_email = peewee.CharField(255, null=True)
    # Who has proved that address, or had when it was theirs; null while nobody has.
    addressee_id = peewee.UUIDField(null=True)
    failure_code = peewee.CharField(100, null=True)
    failure_message = peewee.TextField(null=True)
    version = peewee.IntegerField()
    # What the PSP was given, where `metadata` was changed after that.
    ordered_metadata = peewee.JSONField(null=True)
    reconciled_at = DateTimeTZField(null=True)
    created_at = DateTimeTZField()
    updated_at = DateTimeTZField()

    class Meta:
        schema = "payments"
        table_name = "payments"


class PaymentTransaction(postgres.Model):
    """One change of a payment's status, its creation included."""

    id = peewee.UUIDField(primary_key=True)
    payment_id = peewee.UUIDField()
    transaction_type = peewee.CharField(50)
    amount = peewee.DecimalField(10, 2)
    currency = peewee.CharField(3)
    from_status = peewee.CharField(50, null=True)
    status = peewee.CharField(50)
    reason = peewee.TextField(null=True)
    # These refer to auth.users without foreign keys: a history row waits for no user's row.
    actor_id = peewee.UUIDField(null=True)
    # Whose it is, as the payment has it, where neither ever changes: so a person's history has an index.
    user_id = peewee.UUIDField()
    payee_id = peewee.UUIDField(null=True)
    # As the payment has it, and changed with it: `_readdress_history`.
    addressee_id = peewee.UUIDField(null=True)
    metadata = peewee.JSONField()
    created_at = DateTimeTZField()

    class Meta:
        schema = "payments"
        table_name = "payment_transactions"


@dataclass(frozen=True)
class Visibility:
    """Whose payments: any of these may match; none of them set means all payments there are."""

    user_id: UUID | None = None
    payee_id: UUID | None = None
    addressee_id: UUID | None = None

    def branches(self) -> list[peewee.Node]:
        """One condition each, each with an index in the order of the pages behind it."""
        found: list[peewee.Node] = []
        if self.user_id:
            found.append(Payment.user_id == self.user_id)
        if self.payee_id:
            found.append(Payment.payee_id == self.payee_id)
        if self.addressee_id:
            found.append(Payment.addressee_id == self.addressee_id)
        return found or [SQL("true")]

    def has(self, payment: Payment) -> bool:
        """Whether a payment is one of theirs."""
        pairs = (
            (self.user_id, payment.user_id),
            (self.payee_id, payment.payee_id),
            (self.addressee_id, payment.addressee_id),
        )
        return self == Visibility() or any(theirs and theirs == whose for theirs, whose in pairs)

    def moved(self) -> list[Any]:
        """One query for their history each, with an index in the order of the pages behind it."""
        rows = PaymentTransaction.select()
        found = []
        if self.user_id:
            found.append(rows.where(PaymentTransaction.user_id == self.user_id))
        if self.payee_id:
            found.append(rows.where(PaymentTransaction.payee_id == self.payee_id))
        if self.addressee_id:
            found.append(rows.where(PaymentTransaction.addressee_id == self.addressee_id))
        return found or [rows]


@dataclass(frozen=True)
class PaymentFilter:
    """Which of the seen payments: every one that is set must match. `from_` is included, `to` is not."""

    status: str | None = None
    type: str | None = None
    currency: str | None = None
    from_: datetime | None = None
    to: datetime | None = None
    request_id: UUID | None = None
    needs_review: bool | None = None

    def conditions(self) -> list[peewee.Node]:
        """As the WHERE clause has them."""
        return pagination.conditions(
            (self.status, Payment.status == self.status),
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


def add(**columns: Any) -> Payment:
    """A new row of `payments`."""
    return postgres.execute_returning(Payment.insert(**columns), Payment)[0]


def get(id: UUID) -> Payment | None:
    """The payment or request with this id."""
    return Payment.get_or_none(Payment.id == id)


def locked(id: UUID) -> Payment | None:
    """The same, its row locked to the end of the transaction: nobody else moves it meanwhile.

    The request that it pays is locked before it, in the same statement (decision 20).
    """
    ids = SQL(
        "ANY(ARRAY[%s::uuid, (SELECT request_id FROM payments.payments WHERE id = %s::uuid)])", (id, id)
    )
    query = Payment.select().where(Payment.id == ids).order_by(Payment.id == id)
    return next((it for it in query.for_update(postgres.NO_KEY_UPDATE) if it.id == id), None)


def set_status(payment: Payment, to: PaymentStatus, *, failure: tuple[str, str] | None = None) -> Payment:
    """Moves a locked payment to another status, one version on. The law is the caller's to ask."""
    code, message = failure or (None, None)
    update = Payment.update(
        status=to,
        failure_code=code,
        failure_message=message,
        reconciled_at=None,
        version=Payment.version + 1,
        updated_at=peewee.fn.clock_timestamp(),
    ).where(Payment.id == payment.id, Payment.status == payment.status, Payment.version == payment.version)
    return _only(update, payment)


def edit(payment: Payment, **columns: Any) -> Payment:
    """Writes what may be changed of a locked payment besides its status, one version on."""
    if (
        "metadata" in columns
        and payment.status == PaymentStatus.PROCESSING
        and payment.ordered_metadata is None
    ):
        # A PSP may refuse another order under the same key.
        columns["ordered_metadata"] = payment.metadata
    update = Payment.update(
        **columns, version=Payment.version + 1, updated_at=peewee.fn.clock_timestamp()
    ).where(Payment.id == payment.id, Payment.version == payment.version)
    edited = _only(update, payment)
    if edited.addressee_id != payment.addressee_id:
        _readdress_history([edited.id], edited.addressee_id)
    return edited


def bind_addressee(email: str, addressee_id: UUID, *, limit: int, wait: bool = True) -> int:
    """Gives so many requests to a user who has proved the address that they name, and that nobody had proved;
    how many. Unless they `wait`, those that somebody is changing just now are left out.

    Nothing of a request changes that others see, so its version stays.
    """
    found = postgres.rows(
        "SELECT id FROM payments.payments WHERE lower(customer_email) = lower(%s) AND addressee_id IS NULL"
        " AND customer_email IS NOT NULL ORDER BY id LIMIT %s"
        f" FOR NO KEY UPDATE{'' if wait else ' SKIP LOCKED'}",
        email,
        limit,
    )
    ids = [row["id"] for row in found]
    if ids:
        Payment.update(addressee_id=addressee_id).where(Payment.id.in_(ids)).execute()
        _readdress_history(ids, addressee_id)
    return len(ids)


def _readdress_history(payment_ids: Sequence[UUID], addressee_id: UUID | None) -> None:
    # A statement of its own, once the payments are locked: it sees what was written while it waited for them.
    row = PaymentTransaction
    row.update(addressee_id=addressee_id).where(row.payment_id.in_(payment_ids)).execute()


def _only(update: Any, payment: Payment) -> Payment:
    changed = postgres.execute_returning(update, Payment)
    if not changed:
        raise RuntimeError(f"payment {payment.id} moved under its lock")
    return changed[0]


def replace_address(ids: Sequence[UUID], email: str) -> list[Payment]:
    """Gives these requests another address, one version on; as they are now."""
    locked = Payment.select(Payment.id).where(Payment.id.in_(ids)).order_by(Payment.id)
    locked_ids = [it.id for it in locked.for_update(postgres.NO_KEY_UPDATE)]
    update = Payment.update(
        customer_email=email, version=Payment.version + 1, updated_at=peewee.fn.clock_timestamp()
    )
    return postgres.execute_returning(update.where(Payment.id.in_(locked_ids)), Payment)


def pending_since(created_ago: timedelta, limit: int) -> list[UUID]:
    """Payments and requests that are still `pending` after this time, the oldest first."""
    query = Payment.select(Payment.id).where(
        Payment.status == PaymentStatus.PENDING,
        Payment.created_at < peewee.fn.statement_timestamp() - created_ago,
    )
    return [row.id for row in query.order_by(Payment.created_at).limit(limit)]


def claim_stuck(begun_ago: timedelta, reconciled_ago: timedelta, limit: int) -> list[UUID]:
    """Takes up payments that are still `processing` so long after they began, and after they were last taken
    up, the longest first. By the database's clock: a process with another time would take up all or none."""
    found = postgres.rows(
        "UPDATE payments.payments SET reconciled_at = clock_timestamp() WHERE id = ANY(ARRAY("
        "SELECT id FROM payments.payments WHERE type = 'payment' AND status = 'processing'"
        " AND coalesce(reconciled_at, updated_at) < statement_timestamp() - %s"
        # The longer it has been so, the longer the pauses: a tenth of its age.
        " AND (reconciled_at IS NULL OR (reconciled_at < statement_timestamp() - %s"
        " AND reconciled_at < statement_timestamp() - (statement_timestamp() - updated_at) / 10))"
        " ORDER BY coalesce(reconciled_at, updated_at) LIMIT %s FOR NO KEY UPDATE SKIP LOCKED)) RETURNING id",
        begun_ago,
        reconciled_ago,
        limit,
    )
    return [row["id"] for row in found]


def lock_expired_requests(made_ago: timedelta, limit: int) -> Sequence[Payment]:
    """Locks requests that are open still after this time, as far as nobody is paying them just now."""
    query = Payment.select().where(
        Payment.type == PaymentType.INITIATE,
        Payment.status == PaymentStatus.INITIATED,
        Payment.created_at < peewee.fn.statement_timestamp() - made_ago,
    )
    oldest = query.order_by(Payment.created_at).limit(limit)
    return list(oldest.for_update("FOR NO KEY UPDATE SKIP LOCKED"))  # type: ignore[arg-type]


def lock_open_requests(vendor_id: UUID, limit: int) -> Sequence[Payment]:
    """Locks so many requests of a vendor that nobody is paying, in the order of their ids."""
    query = Payment.select().where(
        Payment.user_id == vendor_id,
        Payment.type == PaymentType.INITIATE,
        Payment.status.in_([PaymentStatus.PENDING, PaymentStatus.INITIATED]),
    )
    some = query.order_by(Payment.id).limit(limit)
    return list(some.for_update("FOR NO KEY UPDATE"))  # type: ignore[arg-type]


def nth_newest_payment_at(user_id: UUID, nth: int, since: datetime) -> datetime | None:
    """When a customer made the nth newest of their payments since then; None when there are fewer."""
    mine = Payment.select(Payment.created_at).where(
        Payment.user_id == user_id, Payment.type == PaymentType.PAYMENT, Payment.created_at > since
    )
    found = mine.order_by(Payment.created_at.desc(), Payment.id.desc()).offset(nth - 1).limit(1).first()
    return found.created_at if found else None


def recent_amount(user_id: UUID, currency: str, since: datetime) -> Decimal:
    """The sum of a customer's payments in this currency that are under way, or were made since then and did
    not fail."""
    under_way = Payment.status.in_([PaymentStatus.PENDING, PaymentStatus.PROCESSING])
    recent = (Payment.status == PaymentStatus.COMPLETED) & (Payment.created_at > since)
    total = Payment.select(peewee.fn.SUM(Payment.amount)).where(
        Payment.user_id == user_id,
        Payment.type == PaymentType.PAYMENT,
        Payment.currency == currency,
        under_way | recent,
    )
    return Decimal(total.scalar() or 0)


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
        user_id=payment.user_id,
        payee_id=payment.payee_id,
        addressee_id=payment.addressee_id,
    ).execute()


def history(payment_id: UUID) -> Sequence[PaymentTransaction]:
    """Every change of one payment, oldest first."""
    moved = PaymentTransaction.select().where(PaymentTransaction.payment_id == payment_id)
    return list(moved.order_by(PaymentTransaction.created_at, PaymentTransaction.id))


def page(
    seen: Visibility, which: PaymentFilter, *, limit: int, after: pagination.Cursor | None
) -> pagination.Page[Payment]:
    """The newest payments that are seen and match, from `after` on."""
    queries = [Payment.select().where(branch, *which.conditions()) for branch in seen.branches()]
    return pagination.newest_page(Payment, queries, limit=limit, after=after)


def transactions(
    seen: Visibility,
    *,
    payment_id: UUID | None,
    from_: datetime | None,
    to: datetime | None,
    limit: int,
    after: pagination.Cursor | None,
) -> pagination.Page[PaymentTransaction]:
    """The newest changes of the payments that are seen, from `after` on."""
    row = PaymentTransaction
    conditions = pagination.conditions(
        (payment_id, row.payment_id == payment_id),
        (from_, row.created_at >= from_),
        (to, row.created_at < to),
    )
    queries = [query.where(*conditions) for query in seen.moved()]
    return pagination.newest_page(row, queries, limit=limit, after=after)
