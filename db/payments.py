"""Payments, payment requests and the history of their status changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres
from db.core import times
from db.core.ids import uuid7
from db.prepared import Statement
from db.states import PaymentStatus, PaymentType


class Payment(postgres.Model, table="payments.payments"):
    """A payment (type `payment`) or a payment request (type `initiate`).

    Only `apply_transitions` changes the status.
    """

    id = peewee.UUIDField(primary_key=True)
    user_id = peewee.UUIDField()
    type = peewee.CharField(50)
    status = peewee.CharField(50)
    amount = peewee.DecimalField(10, 2)
    currency = peewee.CharField(3)
    description = peewee.TextField(null=True)
    metadata = peewee.JSONField()
    request_id = peewee.UUIDField(null=True)
    payee_id = peewee.UUIDField(null=True)
    customer_email = peewee.CharField(255, null=True)
    # The user who has verified `customer_email`, also after that user's address changes; null until then.
    addressee_id = peewee.UUIDField(null=True)
    failure_code = peewee.CharField(100, null=True)
    failure_message = peewee.TextField(null=True)
    version = peewee.IntegerField()
    # The metadata that the PSP received, if `metadata` has changed since.
    ordered_metadata = peewee.JSONField(null=True)
    created_at = DateTimeTZField()
    updated_at = DateTimeTZField()


# The columns that this release knows. A later release may have added others.
COLUMNS = ", ".join(cast(Any, Payment)._meta.columns)

# The status of requests, and of payments that failed or were cancelled: a generated column, so that an index
# on it gets no entry when a payment begins or completes.
indexed_status = peewee.SQL("indexed_status")

_NEXT_VERSION: dict[str, Any] = {"version": Payment.version + 1, "updated_at": peewee.fn.clock_timestamp()}


class PaymentTransaction(postgres.Model, table="payments.payment_transactions"):
    """A change of a payment's status, its creation included."""

    id = peewee.UUIDField(primary_key=True)
    payment_id = peewee.UUIDField()
    transaction_type = peewee.CharField(50)
    amount = peewee.DecimalField(10, 2)
    currency = peewee.CharField(3)
    from_status = peewee.CharField(50, null=True)
    status = peewee.CharField(50)
    reason = peewee.TextField(null=True)
    # The ids of users have no foreign keys: an insert must not wait for the lock of a user's row.
    actor_id = peewee.UUIDField(null=True)
    # Copies of the payment's parties, so that an index serves the history of one user. The first two never
    # change; `_copy_addressee_to_history` changes the third one with the payment.
    user_id = peewee.UUIDField()
    payee_id = peewee.UUIDField(null=True)
    addressee_id = peewee.UUIDField(null=True)
    created_at = DateTimeTZField()


# num_nulls instead of IS NOT NULL: a plan made for few rows would read the whole partial index of requests.
# Requests before payments (`initiate` sorts before `payment`), each by id (decision 20). Neither type nor id
# ever changes, so a row that the statement had to wait for is still in its place.
LOCK_PAYMENTS = Statement(
    "lock_payments",
    f"""
    SELECT {COLUMNS} FROM payments.payments
    WHERE id = ANY(%(ids)s::uuid[] || ARRAY(
        SELECT request_id FROM payments.payments WHERE id = ANY(%(ids)s) AND num_nulls(request_id) = 0))
    ORDER BY type, id
    FOR NO KEY UPDATE
    """,
    by_index=True,
)

# Changes no payment whose version or status is not the one for which the transition was decided.
# Without the condition on the array of ids, a plan made for few rows would read all payments.
APPLY_TRANSITIONS = Statement(
    "apply_transitions",
    f"""
    WITH decided AS (
        SELECT * FROM unnest(%(payment_ids)s::uuid[], %(versions)s::int[], %(before)s::text[],
            %(after)s::text[], %(codes)s::text[], %(messages)s::text[], %(history_ids)s::uuid[],
            %(transitions)s::text[], %(reasons)s::text[], %(actor_ids)s::uuid[])
        AS d (payment_id, version, before, after, code, message, history_id, transition, reason, actor_id)
    ), changed AS (
        UPDATE payments.payments p
        SET status = d.after, failure_code = d.code, failure_message = d.message,
            version = p.version + 1, updated_at = clock_timestamp()
        FROM decided d WHERE p.id = d.payment_id AND (p.version, p.status) = (d.version, d.before)
            AND p.id = ANY(%(payment_ids)s)
        RETURNING p.*
    ), recorded AS (
        INSERT INTO payments.payment_transactions
            (id, payment_id, transaction_type, amount, currency, from_status, status, reason,
             actor_id, user_id, payee_id, addressee_id)
        SELECT d.history_id, p.id, d.transition, p.amount, p.currency, d.before, p.status, d.reason,
            d.actor_id, p.user_id, p.payee_id, p.addressee_id
        FROM decided d JOIN changed p ON p.id = d.payment_id
    )
    SELECT {COLUMNS} FROM changed
    """,
    by_index=True,
)

LOCK_UNADDRESSED = """
    SELECT id FROM payments.payments
    WHERE lower(customer_email) = lower(%s) AND addressee_id IS NULL AND customer_email IS NOT NULL
    ORDER BY id LIMIT %s
    FOR NO KEY UPDATE
"""


def new(**columns: Any) -> Payment:
    """Returns the row of a new payment or request, for `idempotency.accept`."""
    now = times.now()
    return Payment(**{"metadata": {}, **columns}, id=uuid7(), version=1, created_at=now, updated_at=now)


def get(id: UUID) -> Payment | None:
    """Returns the payment or request with this id."""
    return Payment.get_or_none(Payment.id == id)


def lock(ids: Sequence[UUID]) -> dict[UUID, Payment]:
    """Locks payments, and before them the requests that they pay, until the end of the transaction.

    Returns all of these by id.
    """
    return {row["id"]: Payment(**row) for row in postgres.rows(LOCK_PAYMENTS, ids=list(ids))}


@dataclass(frozen=True)
class NewStatus:
    """A new status of a locked payment, and the columns of its history row.

    `payment` still has the status before. `failure` is a code and a message.
    """

    payment: Payment
    status: PaymentStatus
    transition: str
    reason: str | None
    failure: tuple[str, str] | None
    actor_id: UUID | None


def apply_transitions(changes: Sequence[NewStatus]) -> list[Payment]:
    """Changes the statuses of locked payments, each in one row of the history; returns the new rows in order.

    Increments the version of each payment. The caller has checked the transitions against the transition
    table. No payment may appear twice. Raises RuntimeError if a payment is not as it was when it was locked.
    """
    failures = [change.failure or (None, None) for change in changes]
    rows = postgres.rows(
        APPLY_TRANSITIONS,
        payment_ids=[change.payment.id for change in changes],
        versions=[change.payment.version for change in changes],
        before=[change.payment.status for change in changes],
        after=[change.status for change in changes],
        codes=[code for code, _ in failures],
        messages=[message for _, message in failures],
        history_ids=[uuid7() for _ in changes],
        transitions=[change.transition for change in changes],
        reasons=[change.reason for change in changes],
        actor_ids=[change.actor_id for change in changes],
    )
    changed = {row["id"]: Payment(**row) for row in rows}
    for change in changes:
        if change.payment.id not in changed:
            raise _changed_meanwhile(change.payment)
    return [changed[change.payment.id] for change in changes]


def edit(payment: Payment, **columns: Any) -> Payment:
    """Changes columns of a locked payment, but not its status; returns the row with its next version."""
    is_ordered = payment.status == PaymentStatus.PROCESSING
    if "metadata" in columns and is_ordered and payment.ordered_metadata is None:
        # A PSP may refuse a repeated idempotency key whose order differs from the first one.
        columns["ordered_metadata"] = payment.metadata
    update = Payment.update(**columns, **_NEXT_VERSION).where(
        Payment.id == payment.id, Payment.version == payment.version
    )
    edited = next(iter(postgres.execute_returning(update, Payment)), None)
    if edited is None:
        raise _changed_meanwhile(payment)
    if edited.addressee_id != payment.addressee_id:
        _copy_addressee_to_history([edited.id], edited.addressee_id)
    return edited


def bind_addressee(email: str, addressee_id: UUID, *, limit: int, wait: bool = True) -> int:
    """Binds requests to the user who has verified the address that they name. Returns the number of requests.

    Only requests without an addressee change, at most `limit`. With `wait=False`, requests that another
    transaction has locked are skipped. The version stays: nothing changes that others can see.
    """
    lock = LOCK_UNADDRESSED if wait else f"{LOCK_UNADDRESSED} SKIP LOCKED"
    ids = [row["id"] for row in postgres.rows(lock, email, limit)]
    if ids:
        Payment.update(addressee_id=addressee_id).where(Payment.id.in_(ids)).execute()
        _copy_addressee_to_history(ids, addressee_id)
    return len(ids)


def _copy_addressee_to_history(payment_ids: Sequence[UUID], addressee_id: UUID | None) -> None:
    # A separate statement after the lock of the payments: its snapshot includes the history rows that were
    # committed while the lock was waited for.
    row = PaymentTransaction
    row.update(addressee_id=addressee_id).where(row.payment_id.in_(payment_ids)).execute()


def _changed_meanwhile(payment: Payment) -> RuntimeError:
    return RuntimeError(f"payment {payment.id} was changed by another transaction although it was locked")


def replace_address(ids: Sequence[UUID], email: str) -> list[Payment]:
    """Sets the customer's address of locked requests, increments their versions, and returns the new rows."""
    update = Payment.update(customer_email=email, **_NEXT_VERSION)
    return postgres.execute_returning(update.where(Payment.id.in_(ids)), Payment)


def lock_expired_requests(created_ago: timedelta, limit: int) -> Sequence[Payment]:
    """Locks and returns requests that are still open this long after creation, oldest first.

    Requests that are being paid are locked by that transaction and skipped.
    """
    query = Payment.select().where(
        indexed_status == PaymentStatus.INITIATED,
        Payment.created_at < peewee.fn.statement_timestamp() - created_ago,
    )
    oldest = query.order_by(Payment.created_at).limit(limit)
    return list(oldest.for_update("FOR NO KEY UPDATE SKIP LOCKED"))  # type: ignore[arg-type]


def lock_open_requests(vendor_id: UUID, limit: int) -> Sequence[Payment]:
    """Locks and returns requests of a vendor that are not being paid, in the order of their ids."""
    query = Payment.select().where(
        Payment.user_id == vendor_id, indexed_status.in_([PaymentStatus.PENDING, PaymentStatus.INITIATED])
    )
    return list(query.order_by(Payment.id).limit(limit).for_update(postgres.NO_KEY_UPDATE))


def nth_newest_payment_at(user_id: UUID, nth: int, since: datetime) -> datetime | None:
    """Returns when the customer made their nth newest payment after `since`; None when there are fewer."""
    query = Payment.select(Payment.created_at).where(
        Payment.user_id == user_id, Payment.type == PaymentType.PAYMENT, Payment.created_at > since
    )
    found = query.order_by(Payment.created_at.desc(), Payment.id.desc()).offset(nth - 1).limit(1).first()
    return found.created_at if found else None


def recent_amount(user_id: UUID, currency: str, since: datetime) -> Decimal:
    """Returns the sum of a customer's payments in one currency that are open or recently completed.

    Recent are those made after `since`.
    """
    is_open = Payment.status.in_([PaymentStatus.PENDING, PaymentStatus.PROCESSING])
    is_recent = (Payment.status == PaymentStatus.COMPLETED) & (Payment.created_at > since)
    total = Payment.select(peewee.fn.SUM(Payment.amount)).where(
        Payment.user_id == user_id,
        Payment.type == PaymentType.PAYMENT,
        Payment.currency == currency,
        is_open | is_recent,
    )
    return Decimal(total.scalar() or 0)


def history(payment_id: UUID) -> Sequence[PaymentTransaction]:
    """Returns the status changes of one payment, oldest first."""
    query = PaymentTransaction.select().where(PaymentTransaction.payment_id == payment_id)
    return list(query.order_by(PaymentTransaction.created_at, PaymentTransaction.id))
