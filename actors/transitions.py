"""How a transition is applied: status, history, audit entry and events change in one transaction."""

from typing import Any
from uuid import UUID

import structlog

from actors import audit, events, payment_reviews, snapshots, state_machine
from actors.state_machine import Transition
from db import payments, users
from db.core import request_context
from db.core.errors import NotFound
from db.payments import Payment
from db.reviews import ReviewCause
from db.states import PaymentStatus, PaymentType

log = structlog.get_logger(__name__)

# Code and message.
Failure = tuple[str, str]

# The reason of a request that is cancelled because its vendor's role or account ended.
NO_VENDOR = "its vendor takes no payments any more"

# The event of a status, beside `updated`.
_EVENTS = {
    PaymentStatus.COMPLETED: events.EventType.PAYMENT_COMPLETED,
    PaymentStatus.FAILED: events.EventType.PAYMENT_FAILED,
}
# What happens to a request when its payment comes to this status.
_REQUEST_TRANSITIONS = {
    PaymentStatus.COMPLETED: Transition.COMPLETE,
    PaymentStatus.FAILED: Transition.REOPEN,
    PaymentStatus.CANCELLED: Transition.REOPEN,
}


def locked(id: UUID) -> Payment:
    """Returns the payment, locked to the end of the transaction. Raises NotFound.

    The request that it pays is locked before it, in the same statement. All transactions lock in this order.
    """
    payment = payments.locked(id)
    if payment is None:
        raise NotFound(thing="payment")
    return payment


def create(payment_type: PaymentType, user_id: UUID, **columns: Any) -> Payment:
    """Stores a new payment or request: the first transition, from no status."""
    status = state_machine.next_status(payment_type, None, Transition.CREATE)
    payment = payments.add(user_id=user_id, type=payment_type, status=status, **columns)
    _record(payment, Transition.CREATE, None, reason=None)
    events.emit(events.EventType.PAYMENT_CREATED, snapshots.payment(payment))
    return payment


def apply(
    payment: Payment, transition: Transition, *, reason: str | None = None, failure: Failure | None = None
) -> Payment:
    """Applies a transition to a locked payment, and to the request that it pays. Raises TransitionRefused."""
    before = payment.status
    to = state_machine.next_status(payment.type, before, transition)
    payment = payments.set_status(payment, to, failure=failure)
    _record(payment, transition, before, reason=reason or (failure[0] if failure else None))
    snapshot = snapshots.payment(payment)
    events.emit(events.EventType.PAYMENT_UPDATED, snapshot)
    if to in _EVENTS:
        events.emit(_EVENTS[to], snapshot)
    if payment.request_id and to in _REQUEST_TRANSITIONS:
        # `locked` has locked the request with its payment, so this does not wait.
        _apply_to_request(locked(payment.request_id), payment, _REQUEST_TRANSITIONS[to])
    return payment


def _apply_to_request(request: Payment, payment: Payment, transition: Transition) -> None:
    if not state_machine.is_allowed(request.type, request.status, transition):
        # Not refused: that would undo what the PSP did with the payment.
        reason = f"it is {request.status}, but its payment {payment.id} is {payment.status}"
        payment_reviews.open_review(request, ReviewCause.REQUEST_MOVED, reason)
        return
    request = apply(request, transition, reason=f"payment {payment.id} {payment.status}")
    if transition is Transition.REOPEN and not users.active_vendors([request.user_id]):
        # The job that cancels a vendor's open requests passed over this one while it was engaged.
        apply(request, Transition.CANCEL, reason=NO_VENDOR)


def _record(payment: Payment, transition: Transition, before: str | None, *, reason: str | None) -> None:
    """Writes the history row, the audit entry and the log line of a transition."""
    actor_id = request_context.current().user_id
    payments.add_transaction(payment, type=transition, from_status=before, reason=reason, actor_id=actor_id)
    audit.record(
        audit.AuditAction(f"payments.payment.{transition}"),
        resource=("payment", payment.id),
        details={"type": payment.type, "from": before, "to": payment.status, "reason": reason},
    )
    # Logged before the commit: a transaction that rolls back and is tried again logs its transition twice.
    log.info(
        f"{state_machine.NAMES[payment.type]} {state_machine.PARTICIPLES[transition]}",
        **{"payment_id": str(payment.id), "transition": transition, "from": before, "to": payment.status},
    )
