"""How transitions are applied: status, history, audit entry and events change in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog

from actors import audit, events, payment_reviews, snapshots, state_machine
from actors.payment_reviews import NewReview
from actors.state_machine import Transition
from db import payments, users
from db.core import request_context
from db.core.errors import NotFound
from db.core.request_context import RequestContext
from db.payments import NewStatus, Payment
from db.reviews import ReviewCause
from db.states import PaymentStatus, PaymentType

log = structlog.get_logger(__name__)

# Why a payment failed: a code and a message.
Failure = tuple[str, str]

# Why a request is cancelled when the role or the account of its vendor has ended.
NO_VENDOR = "its vendor takes no payments any more"

# The events of some statuses, in addition to PAYMENT_UPDATED.
_EVENTS = {
    PaymentStatus.COMPLETED: events.EventType.PAYMENT_COMPLETED,
    PaymentStatus.FAILED: events.EventType.PAYMENT_FAILED,
}
# The transition of a request when its payment has come to one of these statuses.
_REQUEST_TRANSITIONS: dict[str, Transition] = {
    PaymentStatus.COMPLETED: Transition.COMPLETE,
    PaymentStatus.FAILED: Transition.REOPEN,
    PaymentStatus.CANCELLED: Transition.REOPEN,
}


def locked(id: UUID) -> Payment:
    """Returns the payment, locked to the end of the transaction. Raises NotFound.

    The same statement locks the request that the payment pays, before the payment (decision 20).
    """
    payment = payments.lock([id]).get(id)
    if payment is None:
        raise NotFound(thing="payment")
    return payment


def create(payment_type: PaymentType, user_id: UUID, **columns: Any) -> Payment:
    """Returns a new payment or request, which the caller stores, and records its audit entry and event.

    The statement that stores it also writes its first history row (`idempotency.accept`).
    """
    status = state_machine.next_status(payment_type, None, Transition.CREATE)
    payment = payments.new(user_id=user_id, type=payment_type, status=status, **columns)
    _record(payment, Transition.CREATE, None, reason=None)
    events.emit(events.EventType.PAYMENT_CREATED, snapshots.payment(payment))
    return payment


@dataclass(frozen=True)
class Change:
    """A transition to apply to a locked payment, and what caused it."""

    payment: Payment
    transition: Transition
    reason: str | None = None
    failure: Failure | None = None
    # The HTTP request that caused the change: in a batch, each change has its own.
    context: RequestContext = field(default_factory=request_context.current)

    def result(self) -> NewStatus:
        """Returns the status that the transition leads to, with its history. Raises TransitionRefused."""
        to = state_machine.next_status(self.payment.type, self.payment.status, self.transition)
        reason = self.reason or (self.failure[0] if self.failure else None)
        return NewStatus(self.payment, to, self.transition, reason, self.failure, self.context.user_id)


def apply(
    payment: Payment, transition: Transition, *, reason: str | None = None, failure: Failure | None = None
) -> Payment:
    """Applies a transition to one locked payment, as `apply_all` does; returns the changed payment."""
    return apply_all([Change(payment, transition, reason, failure)])[0]


def apply_all(changes: Sequence[Change]) -> list[Payment]:
    """Applies a transition to each of these locked payments, and to the requests that they pay.

    Returns the changed payments, in the order of `changes`. Runs a fixed number of statements, however many
    payments there are. Raises TransitionRefused, and changes nothing, if one transition is not allowed.
    """
    if not changes:
        return []
    results = [change.result() for change in changes]
    changed = payments.apply_transitions(results)
    for payment, change, result in zip(changed, changes, results, strict=True):
        with request_context.acting_as(change.context):
            _record(payment, change.transition, change.payment.status, reason=result.reason)
            snapshot = snapshots.payment(payment)
            events.emit(events.EventType.PAYMENT_UPDATED, snapshot)
            if result.status in _EVENTS:
                events.emit(_EVENTS[result.status], snapshot)
    _apply_to_requests(
        [
            (payment.request_id, payment, change.context)
            for payment, change in zip(changed, changes, strict=True)
            if payment.request_id and payment.status in _REQUEST_TRANSITIONS
        ]
    )
    return changed


def _apply_to_requests(ended: Sequence[tuple[UUID, Payment, RequestContext]]) -> None:
    """Completes or reopens the requests of payments that have ended: (request id, payment, context) each."""
    if not ended:
        return
    # This does not wait: the statement that locked a payment has locked its request, too.
    requests = payments.lock([id for id, _, _ in ended])
    following: list[Change] = []
    for id, payment, context in ended:
        request, transition = requests[id], _REQUEST_TRANSITIONS[payment.status]
        if state_machine.is_allowed(request.type, request.status, transition):
            reason = f"payment {payment.id} {payment.status}"
            following.append(Change(request, transition, reason, context=context))
        else:
            # No TransitionRefused is raised: it would roll back the end of the payment, which the PSP
            # decided.
            reason = f"it is {request.status}, but its payment {payment.id} is {payment.status}"
            with request_context.acting_as(context):
                payment_reviews.open_reviews([NewReview(request.id, ReviewCause.REQUEST_MOVED, reason)])
    open_again = [
        (request, change.context)
        for request, change in zip(apply_all(following), following, strict=True)
        if change.transition is Transition.REOPEN
    ]
    # `withdraw_requests`, which cancels a vendor's open requests, left these out while they were engaged.
    vendors = users.active_vendors({request.user_id for request, _ in open_again})
    apply_all(
        [
            Change(request, Transition.CANCEL, NO_VENDOR, context=context)
            for request, context in open_again
            if request.user_id not in vendors
        ]
    )


def _record(payment: Payment, transition: Transition, before: str | None, *, reason: str | None) -> None:
    """Writes the audit entry and the log line of a transition."""
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
