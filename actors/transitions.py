"""How a step is taken: status, history, audit row and events change together, or none of them does."""

from typing import Any
from uuid import UUID

from actors import audit, events, payment_reviews, snapshots, state_machine
from actors.state_machine import Step
from db import payments, users
from db.core import request_context
from db.core.errors import NotFound
from db.payments import Payment
from db.reviews import Cause
from db.states import Status, Type

Failure = tuple[str, str]

# Why a request is cancelled that nobody asked to cancel.
NO_VENDOR = "its vendor takes no payments any more"


def locked(id: UUID) -> Payment:
    """The payment, locked to the end of the transaction. Raises NotFound."""
    payment = payments.locked(id)
    if payment is None:
        raise NotFound(thing="payment")
    return payment


def create(type: Type, user_id: UUID, **columns: Any) -> Payment:
    """The first step: out of nothing."""
    status = state_machine.after(type, None, Step.CREATE)
    payment = payments.add(user_id=user_id, type=type, status=status, **columns)
    _write(payment, Step.CREATE, None, reason=None)
    events.announce(events.Type.PAYMENT_CREATED, snapshots.payment(payment))
    return payment


def take(
    payment: Payment, step: Step, *, reason: str | None = None, failure: Failure | None = None
) -> Payment:
    """Takes one step of the law with a locked payment; a failure is its code and message. Raises Refused."""
    before = Status(payment.status)
    to = state_machine.after(Type(payment.type), before, step)
    payment = payments.change(payment, to, failure=failure)
    _write(payment, step, before, reason=reason or (failure[0] if failure else None))
    snapshot = snapshots.payment(payment)
    events.announce(events.Type.PAYMENT_UPDATED, snapshot)
    if to is Status.COMPLETED:
        events.announce(events.Type.PAYMENT_COMPLETED, snapshot)
    if to is Status.FAILED:
        events.announce(events.Type.PAYMENT_FAILED, snapshot)
    if payment.request_id and to in _TO_REQUEST:
        _follow(locked(payment.request_id), payment, _TO_REQUEST[to])
    return payment


# What becomes of a request when its payment ends.
_TO_REQUEST = {
    Status.COMPLETED: Step.COMPLETE,
    Status.FAILED: Step.REOPEN,
    Status.CANCELLED: Step.REOPEN,
}


def _follow(request: Payment, payment: Payment, step: Step) -> None:
    if state_machine.allows(Type(request.type), Status(request.status), step):
        request = take(request, step, reason=f"payment {payment.id} {payment.status}")
        if step is Step.REOPEN and not users.vendors([request.user_id]):
            # The job that cancels a vendor's open requests has passed it by: it was being paid.
            take(request, Step.CANCEL, reason=NO_VENDOR)
    else:
        # It moved behind our back. That must not undo what the PSP did with the payment.
        why = f"it is {request.status}, but its payment {payment.id} is {payment.status}"
        payment_reviews.open(request, Cause.REQUEST_MOVED, why)


def _write(payment: Payment, step: Step, before: Status | None, *, reason: str | None) -> None:
    actor_id = request_context.current().user_id
    payments.add_transaction(payment, type=step, from_status=before, reason=reason, actor_id=actor_id)
    audit.note(
        audit.Action(f"payments.payment.{step}"),
        resource=("payment", payment.id),
        details={"type": payment.type, "from": before, "to": payment.status, "reason": reason},
    )
