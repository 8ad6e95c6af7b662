"""How a step is taken: status, history, audit row and events change together, or none of them does."""

from typing import Any
from uuid import UUID

from actors import audit, events, payment_reviews, snapshots, state_machine
from actors.state_machine import Transition
from db import payments, users
from db.core import request_context
from db.core.errors import NotFound
from db.payments import Payment
from db.reviews import ReviewCause
from db.states import PaymentStatus, PaymentType

Failure = tuple[str, str]

# Why a request is cancelled that nobody asked to cancel.
NO_VENDOR = "its vendor takes no payments any more"


def locked(id: UUID) -> Payment:
    """The payment, locked to the end of the transaction. Raises NotFound."""
    payment = payments.locked(id)
    if payment is None:
        raise NotFound(thing="payment")
    return payment


def create(type: PaymentType, user_id: UUID, **columns: Any) -> Payment:
    """The first step: out of nothing."""
    status = state_machine.next_status(type, None, Transition.CREATE)
    payment = payments.add(user_id=user_id, type=type, status=status, **columns)
    _write(payment, Transition.CREATE, None, reason=None)
    events.emit(events.EventType.PAYMENT_CREATED, snapshots.payment(payment))
    return payment


def apply(
    payment: Payment, step: Transition, *, reason: str | None = None, failure: Failure | None = None
) -> Payment:
    """Takes one step of the law with a locked payment; a failure is its code and message. Raises Refused."""
    before = PaymentStatus(payment.status)
    to = state_machine.next_status(PaymentType(payment.type), before, step)
    payment = payments.set_status(payment, to, failure=failure)
    _write(payment, step, before, reason=reason or (failure[0] if failure else None))
    snapshot = snapshots.payment(payment)
    events.emit(events.EventType.PAYMENT_UPDATED, snapshot)
    if to is PaymentStatus.COMPLETED:
        events.emit(events.EventType.PAYMENT_COMPLETED, snapshot)
    if to is PaymentStatus.FAILED:
        events.emit(events.EventType.PAYMENT_FAILED, snapshot)
    if payment.request_id and to in _TO_REQUEST:
        _follow(locked(payment.request_id), payment, _TO_REQUEST[to])
    return payment


# What becomes of a request when its payment ends.
_TO_REQUEST = {
    PaymentStatus.COMPLETED: Transition.COMPLETE,
    PaymentStatus.FAILED: Transition.REOPEN,
    PaymentStatus.CANCELLED: Transition.REOPEN,
}


def _follow(request: Payment, payment: Payment, step: Transition) -> None:
    if state_machine.is_allowed(PaymentType(request.type), PaymentStatus(request.status), step):
        request = apply(request, step, reason=f"payment {payment.id} {payment.status}")
        if step is Transition.REOPEN and not users.active_vendors([request.user_id]):
            # The job that cancels a vendor's open requests has passed it by: it was being paid.
            apply(request, Transition.CANCEL, reason=NO_VENDOR)
    else:
        # It moved behind our back. That must not undo what the PSP did with the payment.
        why = f"it is {request.status}, but its payment {payment.id} is {payment.status}"
        payment_reviews.open_review(request, ReviewCause.REQUEST_MOVED, why)


def _write(payment: Payment, step: Transition, before: PaymentStatus | None, *, reason: str | None) -> None:
    actor_id = request_context.current().user_id
    payments.add_transaction(payment, type=step, from_status=before, reason=reason, actor_id=actor_id)
    audit.record(
        audit.AuditAction(f"payments.payment.{step}"),
        resource=("payment", payment.id),
        details={"type": payment.type, "from": before, "to": payment.status, "reason": reason},
    )
