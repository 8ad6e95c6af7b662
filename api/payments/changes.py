"""What the door does about cancelling and failing: it checks, and hands on to the actors."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from actors import audit, lifecycle, origin, steps
from actors import payments as life
from actors.lifecycle import Step
from actors.verbs import promise
from api.payments import shapes
from api.policies import Caller
from db import payments
from db.payments import Payment
from db.states import FINAL, Status, Type


def cancel(payment_id: UUID, reason: str | None) -> Payment:
    """Promises that it is cancelled, if the law allows that now; the payment as it is. Raises Refused."""
    payment = steps.locked(payment_id)
    lifecycle.after(Type(payment.type), Status(payment.status), Step.CANCEL)
    promise(life.cancel.message(payment.id, reason, origin.current()))
    return payment


def fail(payment_id: UUID, reason: str | None, *, decided: bool) -> Payment:
    """Promises that it fails, unless the PSP has `decided` how it ends; the payment as it is. Raises Refused,
    and Undecided while a call may still reach the PSP."""
    payment = steps.locked(payment_id)
    if decided:
        # The PSP knows how it ends, and that is on its way, or has come: what was asked for is written down.
        details = {"step": Step.FAIL, "reason": reason}
        audit.note(audit.Action.PSP_DECIDED, resource=("payment", payment.id), details=details)
        return payment
    lifecycle.after(Type(payment.type), Status(payment.status), Step.FAIL)
    if life.with_the_psp(payment) and not life.lost(payment):
        raise life.Undecided(Type(payment.type), payment.status)
    promise(life.fail.message(payment.id, reason, origin.current()))
    return payment


def when_cancelled(who: Caller) -> Callable[[UUID], dict[str, Any] | None]:
    """What the payment is, once it is cancelled. Raises Refused when it has come to another end before."""

    def ask(payment_id: UUID) -> dict[str, Any] | None:
        payment = payments.get(payment_id)
        if payment is None or payment.status not in FINAL:
            return None
        if payment.status != Status.CANCELLED:
            lifecycle.after(Type(payment.type), Status(payment.status), Step.CANCEL)
        return shapes.payment(payment, who)

    return ask


def when_in(ends: frozenset[Status], who: Caller) -> Callable[[UUID], dict[str, Any] | None]:
    """What the payment is, once it stands in one of these."""

    def ask(payment_id: UUID) -> dict[str, Any] | None:
        payment = payments.get(payment_id)
        return shapes.payment(payment, who) if payment and payment.status in ends else None

    return ask
