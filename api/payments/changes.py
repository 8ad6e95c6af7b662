"""What the door does about cancelling and failing: it checks, and hands on to the actors."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from actors import audit, payment_jobs, state_machine, transitions
from actors.jobs import enqueue
from actors.state_machine import Transition
from api.payments import schemas
from api.security.permissions import Caller
from db import payments
from db.core import request_context
from db.payments import Payment
from db.states import TERMINAL, PaymentStatus, PaymentType


def cancel(payment_id: UUID, reason: str | None) -> Payment:
    """Promises that it is cancelled, if the law allows that now; the payment as it is. Raises Refused."""
    payment = transitions.locked(payment_id)
    state_machine.next_status(PaymentType(payment.type), PaymentStatus(payment.status), Transition.CANCEL)
    enqueue(payment_jobs.cancel.job(payment.id, reason, request_context.current()))
    return payment


def fail(payment_id: UUID, reason: str | None, *, decided: bool) -> Payment:
    """Promises that it fails, unless the PSP has `decided` how it ends; the payment as it is. Raises Refused,
    and Undecided while a call may still reach the PSP."""
    payment = transitions.locked(payment_id)
    if decided:
        # The PSP knows how it ends, and that is on its way, or has come: what was asked for is written down.
        details = {"step": Transition.FAIL, "reason": reason}
        audit.record(audit.AuditAction.PSP_DECIDED, resource=("payment", payment.id), details=details)
        return payment
    state_machine.next_status(PaymentType(payment.type), PaymentStatus(payment.status), Transition.FAIL)
    if payment_jobs.is_with_psp(payment) and not payment_jobs.is_confirmed_absent(payment):
        raise payment_jobs.OutcomeUnknown(PaymentType(payment.type), payment.status)
    enqueue(payment_jobs.fail.job(payment.id, reason, request_context.current()))
    return payment


def when_cancelled(who: Caller) -> Callable[[UUID], dict[str, Any] | None]:
    """What the payment is, once it is cancelled. Raises Refused when it has come to another end before."""

    def ask(payment_id: UUID) -> dict[str, Any] | None:
        payment = payments.get(payment_id)
        if payment is None or payment.status not in TERMINAL:
            return None
        if payment.status != PaymentStatus.CANCELLED:
            state_machine.next_status(
                PaymentType(payment.type), PaymentStatus(payment.status), Transition.CANCEL
            )
        return schemas.payment(payment, who)

    return ask


def when_in(ends: frozenset[PaymentStatus], who: Caller) -> Callable[[UUID], dict[str, Any] | None]:
    """What the payment is, once it stands in one of these."""

    def ask(payment_id: UUID) -> dict[str, Any] | None:
        payment = payments.get(payment_id)
        return schemas.payment(payment, who) if payment and payment.status in ends else None

    return ask
