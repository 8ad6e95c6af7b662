"""The life of a payment, in the order in which it is lived.

create    at the door       -> pending        promises begin
begin     payments worker   -> processing     promises charge (a request: -> initiated, and waits)
charge    psp worker        asks the PSP      promises settle, or doubt when it is not known what came of it
settle    payments worker   -> completed | failed

doubt     payments worker   asks again, gives up, or leaves it to the reconciler
reconcile payments worker   takes up what is stuck or lost, and lets the psp worker look
cancel, fail, expire        what people and time do to it
"""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import structlog

from actors import (
    audit,
    payable,
    payment_limits,
    payment_reviews,
    request_addressees,
    state_machine,
    transitions,
)
from actors.jobs import enqueue, external_job, transaction, transactional_job
from actors.psp import calls, provider, resolution
from actors.psp.provider import Outcome
from actors.state_machine import InvalidTransition, Transition
from db import config, job_journal, payments, postgres, psp_attempts, reviews, users
from db.core import money, request_context
from db.core.errors import DomainError, ErrorCode, NotFound
from db.core.request_context import RequestContext
from db.payments import Payment
from db.psp_attempts import PspResult
from db.reviews import ReviewCause
from db.states import PaymentStatus, PaymentType

log = structlog.get_logger(__name__)

# When the reconciler takes up a payment: after it has been processing for so long, and then every so often.
_STUCK, _AGAIN = timedelta(seconds=3), timedelta(seconds=30)
# When it takes up what was created and not begun; and how long a job is dead before it is enqueued again: an
# operator may look at it meanwhile.
_NOT_BEGUN, _DEAD = timedelta(minutes=1), timedelta(minutes=10)
# How many it takes up at once, and how many requests expire in one transaction.
_MANY, _SOME = 500, 100


class RequestNotPayable(DomainError):
    """The payment request cannot be paid: {reason}."""

    code = ErrorCode.REQUEST_NOT_PAYABLE


class NoVendor(DomainError):
    """Only a vendor whose account is open asks for money."""

    code = ErrorCode.FORBIDDEN


class RequestChanged(DomainError):
    """The payment request is for {amount} {currency} now: nothing was paid."""

    code = ErrorCode.REQUEST_CHANGED


# --- create ---------------------------------------------------------------------------------------------


# `columns` are those of the payment that its maker gives and nothing here reads.


def create_request(*, vendor_id: UUID, customer_email: str | None = None, **columns: Any) -> Payment:
    """Create a payment request of a vendor. Raises NoVendor."""
    # Of a request that is made just as the account is closed, the job that cancels them knows.
    if not users.lock_vendor(vendor_id):
        raise NoVendor
    return _create(
        PaymentType.INITIATE,
        vendor_id,
        **columns,
        customer_email=customer_email,
        addressee_id=request_addressees.of(customer_email),
        payee_id=vendor_id,
    )


def create_payment(*, customer_id: UUID, amount: Decimal, currency: str, **columns: Any) -> Payment:
    """Create a payment of a customer, against no request. Raises TooManyPayments, NotVerified."""
    payment_limits.check(payment_limits.hold(customer_id), amount, currency)
    return _create(PaymentType.PAYMENT, customer_id, amount=amount, currency=currency, **columns)


def payable_request(request_id: UUID, customer_id: UUID) -> Payment:
    """Locks a request that this customer may pay now. Raises NotFound, RequestNotPayable, TooManyPayments,
    NotVerified."""
    customer = payment_limits.hold(customer_id)
    request = payments.locked(request_id)
    if request is None or not meant_for(request, customer_id):
        raise NotFound(thing="payment request")
    if reason := payable.obstacles([request], customer_id).get(request.id):
        raise RequestNotPayable(reason=reason)
    payment_limits.check(customer, request.amount, request.currency)
    return request


def pay_request(
    request_id: UUID,
    *,
    customer_id: UUID,
    amount: Decimal | None = None,
    currency: str | None = None,
    **columns: Any,
) -> Payment:
    """Create a customer's payment of a request; amount and currency, if given, are those that they saw.

    Raises what `payable_request` does, and RequestChanged when the request has other terms by now. The
    request stays locked until the payment is stored: of two customers one is refused, and its terms do not
    change in between.
    """
    request = payable_request(request_id, customer_id)
    if (amount or request.amount, currency or request.currency) != (request.amount, request.currency):
        shown = money.text(request.amount, request.currency)
        raise RequestChanged(
            {"amount": shown, "currency": request.currency}, amount=shown, currency=request.currency
        )
    payment = _create(
        PaymentType.PAYMENT,
        customer_id,
        **columns,
        amount=request.amount,
        currency=request.currency,
        request_id=request.id,
        payee_id=request.user_id,
    )
    transitions.apply(request, Transition.ENGAGE, reason=f"payment {payment.id}")
    return payment


def meant_for(request: Payment, customer_id: UUID) -> bool:
    """Whether this is a request that this customer may see and pay: addressed to them, or to nobody."""
    theirs = request.customer_email is None or request.addressee_id == customer_id
    return request.type == PaymentType.INITIATE and theirs


def _create(type: PaymentType, user_id: UUID, **columns: Any) -> Payment:
    payment = transitions.create(type, user_id, **columns)
    enqueue(_begin(payment.id))
    return payment


def _begin(payment_id: UUID) -> job_journal.Job:
    # Under an id of its own, by which the reconciler sees whether it waits for its turn or is lost.
    return begin.job(payment_id).unique(str(payment_id))


# --- begin, charge, settle ------------------------------------------------------------------------------


@transactional_job("payments.begin", queue="payments")
def begin(payment_id: UUID) -> None:
    """Takes up what was created: a payment goes to the PSP, a request is open from now on."""
    payment = transitions.apply(transitions.locked(payment_id), Transition.BEGIN)
    if payment.type == PaymentType.PAYMENT:
        enqueue(_charge(payment))


def _charge(payment: Payment) -> job_journal.Job:
    # Under an id of its own: one at a time asks for the money of one payment.
    return charge.job(payment.id, payment.user_id).unique(str(payment.id))


@external_job("payments.charge", queue="psp", share="customer_id")
def charge(
    payment_id: UUID,
    customer_id: UUID | None = None,  # noqa: ARG001 -- says whose share of the threads it takes
) -> job_journal.Job | None:
    """Asks the PSP for the money. The key is the payment's id: however often it is asked, it charges once.
    One customer's payments keep no other's waiting."""
    return _resolve(payment_id, calls.charge(payment_id, _settle))


def _settle(payment_id: UUID, answer: provider.Answer, attempt_id: UUID) -> job_journal.Job:
    # Once for what was said, not for the payment: of two things that were said, neither is dropped.
    over = (answer.amount, answer.currency)
    task = settle.job(payment_id, answer.outcome, answer.code, *over, attempt_id=attempt_id)
    return task.unique(str(attempt_id))


def _resolve(payment_id: UUID, result: PspResult | None) -> job_journal.Job | None:
    """What follows when the PSP has not decided; what it decides is settled from where it was heard."""
    return None if result in calls.DECIDED else resolve.job(payment_id).unique(str(payment_id))


def hear(payment_id: UUID, answer: provider.Answer) -> None:
    """Takes an answer that the PSP gives unasked, a second time or late."""
    id = uuid4()
    with postgres.connection(), transaction():
        psp_attempts.record_notice(
            id,
            payment_id,
            calls.reference(payment_id),
            PspResult(answer.outcome),
            code=answer.code,
            amount=answer.amount,
            currency=answer.currency,
        )
        enqueue(_settle(payment_id, answer, id))


@transactional_job("payments.settle", queue="payments")
def settle(
    payment_id: UUID,
    outcome: Outcome,
    code: str | None,
    amount: Decimal | None = None,
    currency: str | None = None,
    *,
    attempt_id: UUID | None = None,
) -> None:
    """Writes down what the PSP decided; a request that was paid is completed, else it is open again."""
    payment = transitions.locked(payment_id)
    if attempt_id:
        psp_attempts.mark_settled(attempt_id)
    disproved = [ReviewCause.PSP_SILENT]
    if amount is not None and (amount, currency) != (payment.amount, payment.currency):
        # It stays as it is: what was decided is not what was asked.
        payment_reviews.open_review(
            payment, ReviewCause.AMOUNT_DIFFERS, f"the PSP says: {outcome} {amount} {currency}"
        )
    elif outcome is Outcome.CHARGED and payment.status not in (
        PaymentStatus.PROCESSING,
        PaymentStatus.COMPLETED,
    ):
        # Never dropped, and never paid back by a guess: a person has to look at it.
        payment_reviews.open_review(
            payment, ReviewCause.CHARGED_AFTER_END, f"the PSP charged it, but it is {payment.status}"
        )
    elif outcome is Outcome.DECLINED and payment.status == PaymentStatus.COMPLETED:
        payment_reviews.open_review(
            payment, ReviewCause.DECLINED_AFTER_COMPLETION, "the PSP declined it, but it is completed"
        )
    elif payment.status != PaymentStatus.PROCESSING:
        # It was said before: both agree.
        log.info("settled already", payment=str(payment.id), status=payment.status)
    elif outcome is Outcome.CHARGED:
        transitions.apply(payment, Transition.COMPLETE)
        disproved.append(ReviewCause.STATEMENT_CHARGED)
    else:
        code = code or "declined"
        message = f"The payment was declined: {code.replace('_', ' ')}."
        transitions.apply(payment, Transition.FAIL, failure=(code, message))
        disproved.append(ReviewCause.STATEMENT_DECLINED)
    payment_reviews.disprove(payment, *disproved)


# --- in doubt -------------------------------------------------------------------------------------------


@transactional_job("payments.resolve", queue="payments")
def resolve(payment_id: UUID) -> None:
    """Decides what to do about a payment that the PSP was asked about and has not decided."""
    payment = transitions.locked(payment_id)
    if payment.status != PaymentStatus.PROCESSING:
        return
    verdict = resolution.next_action(psp_attempts.for_payment(payment.id))
    log.info("in doubt", payment=str(payment.id), act=verdict.act, review=verdict.review)
    if verdict.review:
        payment_reviews.open_review(payment, ReviewCause.PSP_SILENT, "the PSP does not answer")
    else:
        # Silence alone ends in a review: the last time it was asked, it answered.
        payment_reviews.disprove(payment, ReviewCause.PSP_SILENT)
    if verdict.act is resolution.Act.GIVE_UP:
        failure = ("provider_unavailable", "The payment provider was not available.")
        transitions.apply(payment, Transition.FAIL, failure=failure)
        return
    if verdict.act is resolution.Act.LOOK:
        enqueue(_inquire(payment.id).delayed(verdict.after))
    if verdict.act is resolution.Act.ASK:
        enqueue(_charge(payment).delayed(verdict.after))


@transactional_job("payments.reconcile", queue="payments")
def reconcile() -> None:
    """Takes up what nobody is at: decisions that were not settled, payments that are stuck in `processing`,
    and what was created and never begun.

    What waits for its turn is left alone: a queue that is long gets no shorter by questions.
    """
    _enqueue_lost([_settle_again(it) for it in psp_attempts.unsettled(_STUCK, _MANY)])
    _enqueue_lost([_begin(id) for id in payments.pending_since(_NOT_BEGUN, _MANY)])
    stuck = set(payments.claim_stuck(_STUCK, _AGAIN, _MANY))
    stuck -= psp_attempts.payments_with_unsettled(stuck)
    waiting = {
        id: {job_journal.id_for_key(job.name, str(id)) for job in (charge, resolve, inquire)} for id in stuck
    }
    live = job_journal.ready([task for tasks in waiting.values() for task in tasks])
    for id in stuck:
        if live.isdisjoint(waiting[id]):
            enqueue(_inquire(id))


def _enqueue_lost(tasks: list[job_journal.Job]) -> None:
    lost = job_journal.missing([task.id for task in tasks], _DEAD)
    for task in tasks:
        if task.id in lost:
            enqueue(task)


def _settle_again(it: psp_attempts.PspAttempt) -> job_journal.Job:
    answer = provider.Answer(Outcome(str(it.outcome)), it.code, it.amount, it.currency)
    return _settle(it.payment_id, answer, it.id)


def _inquire(payment_id: UUID) -> job_journal.Job:
    return inquire.job(payment_id).unique(str(payment_id))


@external_job("payments.inquire", queue="psp-questions")
def inquire(payment_id: UUID, inquiry: UUID | None = None) -> job_journal.Job | None:
    """Asks the PSP what it knows; `inquiry` is the id under which somebody waits for the result."""
    result = calls.find(payment_id, inquiry or uuid4(), _settle)
    return None if result is None else _resolve(payment_id, result)


# --- cancel, fail, expire -------------------------------------------------------------------------------


class OutcomeUnknown(InvalidTransition):
    """The payment provider has not decided about this payment, or does not say: it cannot be failed now."""


class StatusNotSettable(InvalidTransition):
    """Nobody sets a {thing} to {target} by hand: that comes from its life alone."""


@transactional_job("payments.cancel", queue="payments")
def cancel(payment_id: UUID, reason: str | None, by: RequestContext) -> None:
    """Cancels what nobody has begun to pay."""
    with request_context.acting_as(by):
        _apply_or_refuse(Transition.CANCEL, transitions.locked(payment_id), reason)


@transactional_job("payments.fail", queue="payments")
def fail(payment_id: UUID, reason: str | None, by: RequestContext) -> None:
    """Fails by hand what the PSP knows nothing of, and never will."""
    with request_context.acting_as(by):
        payment = transitions.locked(payment_id)
        # Asked again under the lock: since then somebody may have called the PSP.
        if is_with_psp(payment) and not is_confirmed_absent(payment):
            _refused(Transition.FAIL, payment, reason)
        else:
            _apply_or_refuse(Transition.FAIL, payment, reason)


class NotReported(InvalidTransition):
    """The payment provider reports nothing about this payment that a person has to settle."""


def end(payment: Payment, outcome: PaymentStatus, reason: str) -> Payment:
    """Ends a locked payment by hand: the PSP decided about it, but not about what it was asked for, and so it
    would never end by itself. Raises NotReported, where no open review says so, and Refused."""
    if not reviews.is_open(payment.id, reviews.MONEY_CAUSES):
        raise NotReported(PaymentType(payment.type), payment.status)
    if outcome is PaymentStatus.COMPLETED:
        return transitions.apply(payment, Transition.COMPLETE, reason=reason)
    return transitions.apply(payment, Transition.FAIL, reason=reason, failure=("failed_by_admin", reason))


def is_with_psp(payment: Payment) -> bool:
    """Whether it is in the hands of the PSP, so that nobody but the PSP knows how it ends."""
    return payment.type == PaymentType.PAYMENT and payment.status == PaymentStatus.PROCESSING


def is_confirmed_absent(payment: Payment) -> bool:
    """Whether the PSP has no order for a payment in its hands, and none can arrive any more."""
    return resolution.is_confirmed_absent(psp_attempts.for_payment(payment.id))


def _apply_or_refuse(step: Transition, payment: Payment, reason: str | None) -> None:
    if state_machine.is_allowed(PaymentType(payment.type), PaymentStatus(payment.status), step):
        failure = (
            ("failed_by_admin", reason or "An administrator failed it.") if step is Transition.FAIL else None
        )
        transitions.apply(payment, step, reason=reason, failure=failure)
    else:
        _refused(step, payment, reason)


def _refused(step: Transition, payment: Payment, reason: str | None) -> None:
    """What was allowed when it was asked for, and is not any more, is written down for whoever asked."""
    details = {"step": step, "status": payment.status, "reason": reason}
    audit.record(audit.AuditAction.TRANSITION_REFUSED, resource=("payment", payment.id), details=details)


def withdraw(vendor_id: UUID) -> None:
    """Lets the open requests of a vendor be cancelled, in the transaction that closes or suspends the account
    or takes the role."""
    enqueue(withdraw_requests.job(vendor_id, request_context.current()))
    # A payment that fails just now may still have seen a vendor, and open its request again after that job.
    enqueue(
        withdraw_requests.job(vendor_id, request_context.current()).delayed(request_addressees.IN_FLIGHT_S)
    )


@transactional_job("payments.withdraw_requests", queue="payments")
def withdraw_requests(vendor_id: UUID, by: RequestContext) -> None:
    """Cancels open requests of somebody who is no vendor any more, so many at a time.

    Nothing when they are one again: what they asked for since then is open.
    """
    if users.active_vendors([vendor_id]):
        return
    with request_context.acting_as(by):
        some = payments.lock_open_requests(vendor_id, _SOME)
        for request in some:
            transitions.apply(request, Transition.CANCEL, reason=transitions.NO_VENDOR)
        if len(some) == _SOME:
            enqueue(withdraw_requests.job(vendor_id, by))


@transactional_job("payments.expire_requests", queue="payments")
def expire_requests() -> None:
    """Fails requests that nobody has paid in time."""
    hours = float(config.number(config.ConfigKey.PAYMENTS_REQUEST_TTL_HOURS))
    stale = payments.lock_expired_requests(timedelta(hours=hours), _SOME)
    for request in stale:
        transitions.apply(
            request, Transition.EXPIRE, failure=("expired", "The request was not paid in time.")
        )
    if len(stale) == _SOME:
        enqueue(expire_requests.job())
