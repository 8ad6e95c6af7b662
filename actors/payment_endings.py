"""How payments and requests end without a decision of the PSP: by hand, by time, with the vendor's role."""

from datetime import timedelta
from uuid import UUID

from actors import audit, payment_reviews, state_machine, transitions
from actors.jobs import IN_FLIGHT_S, enqueue, transactional_job
from actors.payment_reviews import Disproof
from actors.psp import resolution
from actors.state_machine import InvalidTransition, Transition
from actors.transitions import Change
from db import config, payments, psp_attempts, reviews, users
from db.core import request_context
from db.core.request_context import RequestContext
from db.payments import Payment
from db.reviews import ReviewCause
from db.states import PaymentStatus, PaymentType

# Requests that one transaction cancels or expires.
REQUEST_BATCH = 100


class OutcomeUnknown(InvalidTransition):
    """The payment provider has not decided or does not answer. The payment cannot be failed now."""


class OtherAmountDecided(InvalidTransition):
    """The payment provider has decided about another amount. End the payment with its review."""


class StatusNotSettable(InvalidTransition):
    """The status {target} cannot be set by hand. Set cancelled or failed."""


class NotReported(InvalidTransition):
    """The payment provider has reported nothing about this payment that a person has to settle."""


# --- by hand --------------------------------------------------------------------------------------------


@transactional_job("payments.cancel", queue="payments")
def cancel(payment_id: UUID, reason: str | None, by: RequestContext) -> None:
    """Cancels a payment or request that nobody is paying. A refusal is audited."""
    with request_context.acting_as(by):
        payment = transitions.locked(payment_id)
        if state_machine.is_allowed(payment.type, payment.status, Transition.CANCEL):
            transitions.apply(payment, Transition.CANCEL, reason=reason)
        else:
            _record_refusal(payment, Transition.CANCEL, reason)


@transactional_job("payments.fail", queue="payments")
def fail(payment_id: UUID, reason: str | None, by: RequestContext) -> None:
    """Fails a request, or a payment for which the PSP has no order and can get none. A refusal is audited."""
    with request_context.acting_as(by):
        payment = transitions.locked(payment_id)
        # Checked again under the lock: the PSP may have been called since the API checked.
        if not is_undecided(payment) and state_machine.is_allowed(
            payment.type, payment.status, Transition.FAIL
        ):
            failure = ("failed_by_admin", reason or "An administrator failed it.")
            transitions.apply(payment, Transition.FAIL, reason=reason, failure=failure)
            # The PSP has answered that it has no order. `resolve`, which disproves silence otherwise, ignores
            # a payment that has ended.
            payment_reviews.disprove([Disproof(payment.id, ReviewCause.PSP_SILENT)])
        else:
            _record_refusal(payment, Transition.FAIL, reason)


def end_by_hand(payment: Payment, outcome: PaymentStatus, reason: str) -> Payment:
    """Ends a locked payment about which the PSP has decided something else than was ordered; returns it.

    No job ends such a payment. Raises TransitionRefused, and NotReported if no open review reports such a
    decision.
    """
    if not reviews.is_open(payment.id, reviews.MONEY_CAUSES):
        raise NotReported(payment.type, payment.status)
    if outcome is PaymentStatus.COMPLETED:
        return transitions.apply(payment, Transition.COMPLETE, reason=reason)
    return transitions.apply(payment, Transition.FAIL, reason=reason, failure=("failed_by_admin", reason))


def is_with_psp(payment: Payment) -> bool:
    """Returns whether only the PSP knows how the payment ends."""
    return payment.type == PaymentType.PAYMENT and payment.status == PaymentStatus.PROCESSING


def is_undecided(payment: Payment) -> bool:
    """Returns whether the PSP may have, or still receive, an order for a payment that is `processing`."""
    return is_with_psp(payment) and not resolution.is_confirmed_absent(psp_attempts.for_payment(payment.id))


def _record_refusal(payment: Payment, transition: Transition, reason: str | None) -> None:
    """Audits a transition that was allowed when it was requested and is not allowed now."""
    details = {"transition": transition, "status": payment.status, "reason": reason}
    audit.record(audit.AuditAction.TRANSITION_REFUSED, resource=("payment", payment.id), details=details)


# --- by time, or with the vendor's account --------------------------------------------------------------


def enqueue_withdrawal(vendor_id: UUID) -> None:
    """Enqueues the cancellation of a vendor's open requests.

    For the transaction that closes or suspends the account, or changes its role.
    """
    by = request_context.current()
    enqueue(withdraw_requests.job(vendor_id, by))
    # A payment that fails in a concurrent transaction may still see a vendor, and reopen its request after
    # the first job has run.
    enqueue(withdraw_requests.job(vendor_id, by).delayed(IN_FLIGHT_S))


@transactional_job("payments.withdraw_requests", queue="payments")
def withdraw_requests(vendor_id: UUID, by: RequestContext) -> None:
    """Cancels the open requests of a user who is no longer a vendor, a batch in each transaction.

    A user who is a vendor again keeps every open request.
    """
    if users.active_vendors([vendor_id]):
        return
    with request_context.acting_as(by):
        batch = payments.lock_open_requests(vendor_id, REQUEST_BATCH)
        transitions.apply_all(
            [Change(request, Transition.CANCEL, transitions.NO_VENDOR) for request in batch]
        )
        if len(batch) == REQUEST_BATCH:
            enqueue(withdraw_requests.job(vendor_id, by))


@transactional_job("payments.expire_requests", queue="payments")
def expire_requests() -> None:
    """Fails requests that were not paid within `payments.requestTtlHours`, a batch in each transaction."""
    lifetime = timedelta(hours=float(config.number(config.ConfigKey.PAYMENTS_REQUEST_TTL_HOURS)))
    batch = payments.lock_expired_requests(lifetime, REQUEST_BATCH)
    failure = ("expired", "The request was not paid in time.")
    transitions.apply_all([Change(request, Transition.EXPIRE, failure=failure) for request in batch])
    if len(batch) == REQUEST_BATCH:
        enqueue(expire_requests.job())
