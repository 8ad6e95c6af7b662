"""What the API does to cancel or fail a payment: check under the row lock, then enqueue the job."""

import threading
from uuid import UUID

from actors import audit, payment_endings, payment_jobs, payment_reviews, state_machine, transitions
from actors.jobs import enqueue, transaction
from actors.state_machine import Transition
from api.payments import prefer_wait
from db import payments, psp_attempts, reviews
from db.core import request_context
from db.core.ids import uuid7
from db.payments import Payment
from db.psp_attempts import PspResult
from db.reviews import ReviewCause
from db.states import TERMINAL, PaymentStatus

# How long a request waits for the result of an inquiry, in seconds. A PSP that takes longer is a 409, and the
# request can be repeated.
_INQUIRY_WAIT_S = 5.0
# Requests of one process that may wait for an inquiry at once. They have slots of their own: requests that
# wait for payments must not keep an administrator from settling one.
WAITING_INQUIRIES = 4
_inquiry_slots = threading.BoundedSemaphore(WAITING_INQUIRIES)


def cancel(payment_id: UUID, reason: str | None) -> Payment:
    """Enqueues the cancellation of a payment if its status allows that now.

    Returns the payment as it is. Raises TransitionRefused.
    """
    payment = transitions.locked(payment_id)
    state_machine.next_status(payment.type, payment.status, Transition.CANCEL)
    enqueue(payment_endings.cancel.job(payment.id, reason, request_context.current()))
    return payment


def fail(payment_id: UUID, reason: str | None, *, decided: bool) -> Payment:
    """Enqueues the failure of a payment, unless the PSP has `decided` how it ends.

    Returns the payment as it is. Raises TransitionRefused, OutcomeUnknown while an order may still reach the
    PSP, and OtherAmountDecided where the PSP has decided about another amount only.
    """
    payment = transitions.locked(payment_id)
    _require_no_review_of_amount(payment)
    if decided:
        # The inquiry may have brought a decision about another amount, whose review is opened afterwards.
        if payment_endings.is_with_psp(payment) and not _will_be_settled(payment):
            raise payment_endings.OtherAmountDecided(payment.type, payment.status)
        # The PSP's decision is on its way or applied: only the administrator's request is recorded.
        details = {"transition": Transition.FAIL, "reason": reason}
        audit.record(audit.AuditAction.PSP_DECIDED, resource=("payment", payment.id), details=details)
        return payment
    state_machine.next_status(payment.type, payment.status, Transition.FAIL)
    if payment_endings.is_undecided(payment):
        raise payment_endings.OutcomeUnknown(payment.type, payment.status)
    enqueue(payment_endings.fail.job(payment.id, reason, request_context.current()))
    return payment


def has_psp_decided(payment: Payment) -> bool:
    """Returns whether the PSP has decided how this payment ends. The psp worker inquires; the request waits.

    False when the PSP knows no such order, or the payment ended in another way meanwhile. Raises
    OutcomeUnknown when the PSP gives no answer, TooManyWaiting, and, without an inquiry, OtherAmountDecided
    when a review says so already.
    """
    _require_no_review_of_amount(payment)
    inquiry_id = uuid7()
    with transaction():
        enqueue(payment_jobs.inquire_job(payment.id, inquiry_id))

    def find() -> PspResult | PaymentStatus | None:
        if (result := psp_attempts.find_result(inquiry_id)) is not None:
            return result
        # A payment that has ended meanwhile needs no inquiry.
        now = payments.get(payment.id)
        return PaymentStatus(now.status) if now is not None and now.status in TERMINAL else None

    found = prefer_wait.poll(find, _INQUIRY_WAIT_S, slots=_inquiry_slots)
    if found in (*psp_attempts.DECISIONS, PaymentStatus.COMPLETED):
        return True
    if found in (None, PspResult.NO_ANSWER, PspResult.UNAVAILABLE):
        raise payment_endings.OutcomeUnknown(payment.type, payment.status)
    return False


def _require_no_review_of_amount(payment: Payment) -> None:
    """Raises OtherAmountDecided if an open review says so."""
    if payment_endings.is_with_psp(payment) and reviews.is_open(payment.id, [ReviewCause.AMOUNT_DIFFERS]):
        raise payment_endings.OtherAmountDecided(payment.type, payment.status)


def _will_be_settled(payment: Payment) -> bool:
    """Returns whether a decision about the locked payment is still to be settled and is about its amount."""
    return any(
        call.outcome in psp_attempts.DECISIONS
        and call.settled_at is None
        and not payment_reviews.names_another_amount(payment, call.amount, call.currency)
        for call in psp_attempts.for_payment(payment.id)
    )


def is_cancelled(payment: Payment) -> bool:
    """Returns whether a payment is cancelled. Raises TransitionRefused if the payment has ended otherwise."""
    if payment.status not in TERMINAL:
        return False
    if payment.status != PaymentStatus.CANCELLED:
        state_machine.next_status(payment.type, payment.status, Transition.CANCEL)
    return True
